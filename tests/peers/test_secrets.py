"""Where tokens and cookies are sent, and that no message shows them."""

from __future__ import annotations

import asyncio
import base64
import logging
import subprocess
import sys
import traceback
from typing import Any

import httpx
import pytest

from hfstream import AuthenticationError, InferenceError
from hfstream.testing import Fault, Response, ScriptedServer
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import AGAIN, SOON, WORDS, Task, until

TOKEN = row(
    "Streams",
    "a Hugging Face token in the environment and another `base_url`; two clients and the cookies of a "
    "server; a redirect to another host",
    "the token is sent to the host of the URL, whatever it is; cookies are shared",
    "the token is sent only to huggingface.co; each client has its own cookies; neither is sent to "
    "another host after a redirect",
)
SECRET = "hf_do_not_tell"


@TOKEN
async def test_the_environments_token_is_sent_to_huggingface_only(
    variant: Variant, clients: Clients, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        for client in (clients(server.url), clients(None, base_url=server.url)):
            await variant.rest(await task.open(variant, client))
            await variant.rest(await task.open(variant, client, model=server.url))
        assert len(server.requests) == 4
        assert not any(SECRET in str(request) for request in server.requests)

    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=b"".join(task.whole("Hi")))

    transport = httpx.MockTransport(answer)
    own: Any = (httpx.Client if variant.name == "sync" else httpx.AsyncClient)(transport=transport)
    client = clients("org/name", http_client=own)
    await variant.rest(await task.open(variant, client))
    await variant.rest(await task.open(variant, client, model="https://huggingface.co.example.org"))
    assert [request.url.host for request in sent] == ["router.huggingface.co", "huggingface.co.example.org"]
    assert [request.headers.get("authorization") for request in sent] == [f"Bearer {SECRET}", None]


@TOKEN
async def test_cookies_stay_with_their_client(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS), headers={"Set-Cookie": "session=theirs; Path=/"})) as server:
        for cookies in ({"mine": "1"}, None, {"mine": "2"}):
            await variant.rest(await task.open(variant, clients(server.url, cookies=cookies)))
        assert [request.headers.get("cookie") for request in server.requests] == ["mine=1", None, "mine=2"]


@TOKEN
@pytest.mark.parametrize("status", [307, 308])
async def test_no_secret_follows_a_redirect_to_another_host(
    variant: Variant, clients: Clients, task: Task, status: int
) -> None:
    with ScriptedServer(Response(task.whole(*WORDS))) as elsewhere:
        moved = Response(status=status, headers={"Location": elsewhere.url + "/generate_stream"})  # another port
        with ScriptedServer(moved) as server:
            client = clients(server.url, token=SECRET, cookies={"session": SECRET})
            assert task.texts(await variant.rest(await task.open(variant, client))) == WORDS
            assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"
            assert server.requests[0].headers["cookie"] == f"session={SECRET}"
        assert len(elsewhere.requests) == 1
        assert SECRET not in str(elsewhere.requests[0])


TALE = row(
    "Streams",
    "secrets in logs, reprs, error messages and tracebacks, with the logging of the whole process at DEBUG",
    "headers and URLs are shown with the secrets in them; httpx logs each URL with its password and query at INFO, "
    "httpcore logs cookies at DEBUG",
    "never shown: tokens, cookies, headers, passwords in URLs and query strings; httpx's and httpcore's records of "
    "other requests stay as they are",
)
PASSWORD = base64.b64encode(f"user:{SECRET}".encode()).decode()


def route(task: Task) -> str:
    return ("/generate_stream" if task.text else "/v1/chat/completions") + f"?key={SECRET}"


def shows(text: str) -> bool:
    """Whether `text` has the secret, as it is or in a header for a password."""
    return SECRET in text or PASSWORD in text


@TALE
@pytest.mark.parametrize("own", [True, False], ids=["our transport", "http_client"])
async def test_secrets_are_not_shown(
    variant: Variant, clients: Clients, task: Task, caplog: pytest.LogCaptureFixture, own: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    cookie = {"Set-Cookie": f"session={SECRET}"}
    busy = Response.error(503, "busy", Set_Cookie=f"session={SECRET}")
    with ScriptedServer(
        busy,
        Response(status=307, headers={"Location": route(task), **cookie}),
        Response(task.whole(*WORDS), headers=cookie),
        Response.error(422, "Input validation error"),
        Response([task.event("Hello"), Fault.DROP]),
        Response([b"<html>"], content_type="text/html"),
    ) as server:
        here = server.url
        url = here + route(task)
        secrets: dict[str, Any] = {"headers": {"X-Api-Key": SECRET}, "cookies": {"session": SECRET}}
        theirs: Any = (httpx.Client if variant.name == "sync" else httpx.AsyncClient)(follow_redirects=True)
        secrets["http_client"] = None if own else theirs
        client = clients(url, retry=AGAIN, token=SECRET, **secrets)
        stream = await task.open(variant, client)
        await variant.rest(stream)
        shown = [client, stream, stream._exchange, stream._exchange.spec, client._config, client._requests]
        shown += stream.attempts
        other = clients(url.replace("://", f"://user:{SECRET}@"), retry=AGAIN, **secrets)
        shown += [other, other._config]
        unreachable = clients(f"http://user:{SECRET}@127.0.0.1:1{route(task)}", retry=None, **secrets)
        for failing, options in (
            (client, {}),
            (client, {}),
            (other, {}),
            (unreachable, {}),
            (client, {"extra_headers": {"X-Api-Key": f"{SECRET}\nx"}}),
            (client, {"model": f"ftp://user:{SECRET}@host{route(task)}"}),
            (client, {"model": f"http://user:{SECRET}/@host{route(task)}"}),
            (client, {"extra_body": {"x": object()}, "extra_headers": {"X-Api-Key": SECRET}}),
        ):
            with pytest.raises((InferenceError, ValueError, TypeError)) as caught:
                await variant.rest(await task.open(variant, failing, **options))
            shown += [caught.value, str(caught.value), vars(caught.value)]
            shown += traceback.format_exception(caught.value)
        first, last = server.requests[0], server.requests[-1]
        assert all(SECRET in text for text in (first.path, first.headers["authorization"], first.headers["cookie"]))
        assert last.headers["authorization"] == f"Basic {PASSWORD}"
        assert len(server.requests) == 6
        await (theirs.aclose() if variant.name == "async" else asyncio.to_thread(theirs.close))
    assert not shows(" ".join(map(repr, shown)))
    messages = [record.getMessage() for record in caplog.records]
    assert not [message for message in messages if shows(message)]
    # What is logged is still of use.
    assert any(f'HTTP Request: POST {here} "HTTP/1.1 503' in message for message in messages)
    assert "receive_response_headers.complete" in messages
    assert any(message.startswith("connect_tcp.started host='127.0.0.1'") for message in messages)
    assert any("failed, next in" in message for message in messages)


@TALE
async def test_a_hook_and_an_error_of_a_http_client_show_no_secrets(
    variant: Variant, clients: Clients, task: Task
) -> None:
    """What raise_for_status() raises quotes the URL, and would be printed as the cause of our error."""

    def check(response: httpx.Response) -> None:
        response.raise_for_status()

    async def check_async(response: httpx.Response) -> None:
        response.raise_for_status()

    seen: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(401, json={"error": "no"})

    hooks: Any = {"response": [check if variant.name == "sync" else check_async]}
    make: Any = httpx.Client if variant.name == "sync" else httpx.AsyncClient
    theirs = make(transport=httpx.MockTransport(refuse), event_hooks=hooks)
    client = clients(f"http://user:{SECRET}@host{route(task)}", http_client=theirs)
    with pytest.raises(AuthenticationError) as caught:
        await task.open(variant, client)
    assert seen == [f"http://host{route(task)}"], "a hook, or instrumentation, sees the query but no password"
    assert not shows("".join(traceback.format_exception(caught.value)))


@TALE
async def test_requests_of_other_code_are_logged_as_ever(
    variant: Variant, clients: Clients, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    """Before, during and after requests of ours, also while one of ours waits for its headers."""
    caplog.set_level(logging.DEBUG)
    with (
        ScriptedServer(Response(task.whole(*WORDS), delay=0.2)) as server,
        ScriptedServer(Response.json({}), Response.json({})) as elsewhere,
    ):
        there = elsewhere.url

        def ask_elsewhere(number: int) -> None:
            with httpx.Client() as theirs:
                theirs.get(f"{there}/?visible={number}", headers={"Connection": "close"})

        async def ask_elsewhere_async() -> None:
            async with httpx.AsyncClient() as theirs:
                await theirs.get(f"{there}/?visible=2", headers={"Connection": "close"})

        opening = asyncio.ensure_future(task.open(variant, clients(server.url + route(task))))
        await until(lambda: server.running == 1)
        await asyncio.to_thread(ask_elsewhere, 1)
        await ask_elsewhere_async()
        stream = await opening
        await variant.next(stream)
        await asyncio.to_thread(ask_elsewhere, 3)
        await ask_elsewhere_async()
        await variant.rest(stream)
    messages = [record.getMessage() for record in caplog.records]
    for number, count in ((1, 1), (2, 2), (3, 1)):
        expected = f'HTTP Request: GET {there}/?visible={number} "HTTP/1.1 200'
        assert sum(message.startswith(expected) for message in messages) == count
    headers = [message for message in messages if message.startswith("receive_response_headers.complete")]
    assert len(headers) == 5
    assert sum("application/json" in message for message in headers) == 4
    assert not any(shows(message) for message in messages)


APPLICATION = """
import asyncio, logging, logging.config, sys, traceback
{before}
import httpx
from hfstream import AsyncInferenceClient, InferenceClient, InferenceError
{after}
variant, task, url = sys.argv[1:]
settings = {{"headers": {{"X-Api-Key": "hf_do_not_tell"}}, "cookies": {{"a": "hf_do_not_tell"}}, "retry": None}}
messages = [{{"role": "user", "content": "Hi"}}]


def call():
    client = InferenceClient(url, **settings)
    ask, prompt = (client.text_generation, "Hi") if task == "text" else (client.chat_completion, messages)
    return list(ask(prompt, stream=True))


async def call_async():
    client = AsyncInferenceClient(url, **settings)
    ask, prompt = (client.text_generation, "Hi") if task == "text" else (client.chat_completion, messages)
    return [item async for item in ask(prompt, stream=True)]


def run():
    return call() if variant == "sync" else asyncio.run(call_async())


assert len(run()) >= 3
httpx.get(url.partition("?")[0].replace("user:hf_do_not_tell@", "") + "?visible")
try:
    run()
except InferenceError:
    logging.exception("an answer is missing")
logging.warning("the end")
settings["headers"] = {{"X-Api-Key": "hf_do_not_tell\\n"}}
run()
"""
BASIC = "logging.basicConfig(level={level})"
DICT = (
    'logging.config.dictConfig({{"version": 1, "disable_existing_loggers": {disable}, "handlers": '
    '{{"all": {{"class": "logging.StreamHandler"}}}}, "root": {{"level": "DEBUG", "handlers": ["all"]}}}})'
)


@TALE
@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "logged"),
    [
        pytest.param("", BASIC.format(level="logging.INFO"), {"?visible": True, "?key": False}, id="INFO"),
        pytest.param(BASIC.format(level=1), "", {"?visible": True, "connect_tcp": True}, id="everything"),
        pytest.param("", DICT.format(disable=False), {"?visible": True, "connect_tcp": True}, id="dictConfig"),
        pytest.param(DICT.format(disable=True), "", {"?visible": True}, id="dictConfig first"),
        pytest.param("", DICT.format(disable=True), {"?visible": False}, id="dictConfig disables httpx"),
    ],
)
async def test_an_application_that_logs_everything_shows_no_secrets(
    variant: Variant, task: Task, before: str, after: str, logged: dict[str, bool]
) -> None:
    """In a process of its own, in Python's development mode: asyncio logs callbacks, and all warnings are shown."""
    cookie = {"Set-Cookie": f"session={SECRET}"}
    with ScriptedServer(
        Response(task.whole(*WORDS), headers=cookie),
        Response.json({}),
        Response([task.event("Hello"), Fault.DROP], headers=cookie),
    ) as server:
        url = server.url.replace("://", f"://user:{SECRET}@") + route(task)
        program = APPLICATION.format(before=before, after=after)
        command = [sys.executable, "-X", "dev", "-c", program, variant.name, task.name, url]
        ended = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=SOON * 2, check=False
        )
    assert "the end" in ended.stderr, ended.stderr
    assert "Illegal header value" in ended.stderr, "the last request ends the program with a traceback"
    assert not shows(ended.stdout + ended.stderr)
    for text, there in logged.items():
        assert (text in ended.stderr) == there
