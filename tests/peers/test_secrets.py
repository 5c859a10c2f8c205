"""Where tokens and cookies are sent, and that no message shows them."""

from __future__ import annotations

import base64
import logging
from typing import Any

import httpx
import pytest

from hfstream import (
    InferenceError,
)
from hfstream.testing import (
    Fault,
    Response,
    ScriptedServer,
)
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import AGAIN, WORDS, Task

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
    "secrets in logs, reprs and error messages",
    "headers and URLs are shown with the secrets in them",
    "never shown: tokens, cookies, headers, passwords in URLs and query strings",
)


@TALE
async def test_secrets_are_not_shown(
    variant: Variant, clients: Clients, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="hfstream")
    with ScriptedServer(
        Response.error(503, "busy"),
        Response(task.whole(*WORDS)),
        Response.error(422, "Input validation error"),
        Response([task.event("Hello"), Fault.DROP]),
        Response([b"<html>"], content_type="text/html"),
    ) as server:
        query = ("/generate_stream" if task.text else "/v1/chat/completions") + f"?key={SECRET}"
        secrets = {"headers": {"X-Api-Key": SECRET}, "cookies": {"session": SECRET}}
        client = clients(server.url + query, retry=AGAIN, token=SECRET, **secrets)
        stream = await task.open(variant, client)
        await variant.rest(stream)
        shown = [client, stream, stream._exchange, stream._exchange.spec, client._config, client._requests]
        shown += stream.attempts
        other = clients(server.url.replace("://", f"://user:{SECRET}@") + query, retry=AGAIN, **secrets)
        shown += [other, other._config]
        unreachable = clients(f"http://user:{SECRET}@127.0.0.1:1{query}", retry=None, **secrets)
        for failing, options in (
            (client, {}),
            (client, {}),
            (other, {}),
            (unreachable, {}),
            (client, {"extra_headers": {"X-Api-Key": f"{SECRET}\n"}}),
            (client, {"model": f"ftp://user:{SECRET}@host{query}"}),
        ):
            with pytest.raises((InferenceError, ValueError)) as caught:
                await variant.rest(await task.open(variant, failing, **options))
            shown += [caught.value, str(caught.value), vars(caught.value)]
        first, last = server.requests[0], server.requests[-1]
        assert all(SECRET in text for text in (first.path, first.headers["authorization"], first.headers["cookie"]))
        assert last.headers["authorization"].startswith("Basic ")
        assert len(server.requests) == 5
    assert SECRET not in " ".join(map(repr, shown))
    assert base64.b64encode(f"user:{SECRET}".encode()).decode() not in " ".join(map(repr, shown))
    assert "failed, next in" in caplog.text, "nothing was logged: nothing is tested"
    assert not any(SECRET in record.getMessage() for record in caplog.records if record.name.startswith("hfstream"))
