"""The tables of docs/migration.md for users of openai's client, row by row, on both variants."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

import hfstream
from hfstream import InferenceClient, ModelList, RetryPolicy, Timeouts, UnexpectedResponseError
from hfstream.testing import DONE, Response, ScriptedServer, chat_event, chat_events
from tests.helpers.modules import ROOT
from tests.helpers.variants import HI, Clients, Variant


class Recipe(BaseModel):
    """A recipe."""

    name: str


RECIPE = {"choices": [{"message": {"content": '{"name": "Cheese"}'}, "finish_reason": "stop"}]}
CUT = {"choices": [{"message": {"content": '{"name": "Che'}, "finish_reason": "length"}]}
MODELS = {"object": "list", "data": [{"id": "a"}, {"id": "b"}]}


async def value(result: Any) -> Any:
    """What a method of either variant returned: the async one is awaited."""
    return await result if inspect.isawaitable(result) else result


async def run(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """A method of either variant; the sync one in a thread, because it waits for the server."""
    return await value(await asyncio.to_thread(function, *args, **options))


def refused(owner: Any, name: str, *words: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(owner, name)
    for word in words:
        assert word in str(caught.value)


async def base_url_and_api_key(variant: Variant, clients: Clients) -> None:
    client = clients(None, base_url="http://h/v1", api_key="key")
    assert (client.model, client.token) == ("http://h/v1", "key")


async def max_retries(variant: Variant, clients: Clients) -> None:
    busy = Response.error(503, "busy", "overloaded", Retry_After="0")
    with ScriptedServer(busy) as server:
        for count in (0, 1):
            with pytest.raises(hfstream.OverloadedError):
                await variant.chat(clients(server.url, max_retries=count))
        assert len(server.requests) == 3
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match="`max_retries` counts the attempts after the first one"):
            clients("http://h", max_retries=wrong)
    with pytest.raises(ValueError, match="`max_retries=2` is another way to write `retry=3`"):
        clients("http://h", max_retries=2, retry=3)


async def default_headers(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response.json(RECIPE)) as server:
        await variant.chat(clients(server.url, default_headers={"X-Team": "a"}))
        assert server.requests[0].headers["x-team"] == "a"
    with pytest.raises(ValueError, match="`default_headers` is another name for `headers`"):
        clients("http://h", default_headers={}, headers={})


async def timeout(variant: Variant, clients: Clients) -> None:
    assert clients("http://h", timeout=5).timeout.between_tokens == 5
    assert clients("http://h", timeout=httpx.Timeout(7, connect=3)).timeout == Timeouts.of((3, 7))


async def http_client(variant: Variant, clients: Clients) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=RECIPE)

    kind: Any = httpx.Client if variant.name == "sync" else httpx.AsyncClient
    client = clients("http://h", http_client=kind(transport=httpx.MockTransport(answer)))
    assert (await variant.chat(client)).choices


async def with_options(variant: Variant, clients: Clients) -> None:
    client = clients("http://h", token="t", headers={"X-A": "1", "X-B": "2"}, timeout=7, retry=5, resume=True)
    other = client.with_options(timeout=5, max_retries=0, default_headers={"X-B": None, "X-C": "3"})
    assert (other.timeout.first_token, other.token, other.model) == (5, "t", "http://h")
    assert dict(other.headers) == {"X-A": "1", "X-B": None, "X-C": "3"}
    assert dict(client.headers) == {"X-A": "1", "X-B": "2"}
    assert (client.timeout.first_token, type(other)) == (7, type(client))
    third = other.with_options(base_url="http://g", api_key="u", provider="auto", retry=RetryPolicy(attempts=2))
    assert (third.model, third.token, dict(third.headers)) == ("http://g", "u", dict(other.headers))
    with pytest.raises(TypeError, match="with_options has no option `organization`; it has: model, base_url, "):
        client.with_options(organization="o")
    with pytest.raises(ValueError, match="pass only one"):
        client.with_options(token="a", api_key="b")
    with ScriptedServer(Response.json(RECIPE)) as server:
        client = clients(server.url)
        for asked in (client, client.with_options(timeout=60), client):
            await variant.chat(asked)
        assert server.connections == 1  # of all three
    several = clients(["http://h", "http://i"])
    assert several.with_options(timeout=5).endpoints == several.endpoints == ("http://h", "http://i")
    assert several.with_options(base_url="http://g").endpoints == ("http://g",)
    limited = clients("http://h", max_concurrency=2)
    factory = limited._requests  # the limit is that of all requests of both
    assert limited.with_options(timeout=5)._requests.limiter is factory.limiter is not None
    assert limited.with_options(max_concurrency=3)._requests.limiter is not factory.limiter
    assert limited.with_options(max_concurrency=None)._requests.limiter is None
    with ScriptedServer(Response.error(503, "busy", "overloaded")) as server:
        with pytest.raises(hfstream.OverloadedError):
            await variant.chat(clients(server.url).with_options(max_retries=0))
        assert len(server.requests) == 1
    refused(client, "copy", "client.with_options")


async def create(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(chat_events("He", "llo")), Response.json(RECIPE)) as server:
        completions = clients(server.url).chat.completions
        stream = await run(completions.create, model="m", messages=HI, stream=True)
        chunks = await variant.rest(stream)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello"
        assert (await run(completions.create, model="m", messages=HI)).choices[0].message.content


async def options_of_a_call(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response.json(RECIPE)) as server:
        made = clients(server.url).chat.completions.create
        await run(made, messages=HI, extra_headers={"X-A": "1"}, extra_body={"top_k": 3}, timeout=60)
        assert (server.requests[0].headers["x-a"], server.requests[0].json()["top_k"]) == ("1", 3)
        with pytest.raises(TypeError, match=r"no parameter `service_tier` \(extra_body= sends anything\)"):
            await run(made, messages=HI, service_tier="flex")


async def parse(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response.json(RECIPE), Response.json(CUT)) as server:
        made = clients(server.url).chat.completions.parse
        completion = await run(made, model="m", messages=HI, response_format=Recipe)
        assert completion.choices[0].message.parsed == completion.parsed == Recipe(name="Cheese")
        with pytest.raises(UnexpectedResponseError, match="not a valid Recipe: it was cut off at the token limit"):
            await run(made, messages=HI, response_format=Recipe)
    assert inspect.iscoroutinefunction(made) is (variant.name == "async")


async def event_stream(variant: Variant, clients: Clients) -> None:
    completions = clients("http://h").chat.completions
    refused(completions, "stream", "client.chat_completion(messages, stream=True)", "stream.parsed", "stream.final()")
    refused(completions, "list", "does not store completions")
    refused(completions, "creat", "no attribute 'creat'")


async def legacy_completions(variant: Variant, clients: Clients) -> None:
    refused(clients("http://h"), "completions", "client.text_generation(prompt, max_new_tokens=")
    with ScriptedServer(Response.json({"choices": [{"text": "Hi", "finish_reason": "stop"}]})) as server:
        assert await variant.whole(clients(f"{server.url}/v1"), max_new_tokens=2) == "Hi"
        assert (server.requests[0].path, server.requests[0].json()["max_tokens"]) == ("/v1/completions", 2)


async def models_list(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response.json(MODELS)) as server:
        client = clients(server.url)
        models = await run(client.models.list)
        assert isinstance(models, ModelList)
        assert [model.id for model in models] == [model.id for model in models.data] == ["a", "b"]
        assert models == await variant.ask(client, "list_models")


async def models_retrieve(variant: Variant, clients: Clients) -> None:
    refused(clients("http://h").models, "retrieve", "client.models.list()", "get_endpoint_info()")


async def raw_responses(variant: Variant, clients: Clients) -> None:
    client = clients("http://h")
    for owner in (client, client.chat.completions, client.models):
        for name in ("with_raw_response", "with_streaming_response"):
            refused(owner, name, "stream=True", "headers", "final()")
    with ScriptedServer(Response(chat_events("Hi"), headers={"X-Request-Id": "7"})) as server:
        stream = await variant.open_chat(clients(server.url))
        assert (stream.request_id, stream.headers["x-request-id"]) == ("7", "7")
        assert (await variant.final(stream)).choices[0].message.content == "Hi"


async def function_tool(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response.json(RECIPE)) as server:
        await variant.chat(clients(server.url), tools=[Recipe])
        assert server.requests[0].json()["tools"][0]["function"]["name"] == "Recipe"


async def errors(variant: Variant, clients: Clients) -> None:
    statuses = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError", 429: "OverloadedError"}
    statuses |= {500: "ServerError"}
    with ScriptedServer(*(Response.error(status, "x") for status in statuses)) as server:
        client = clients(server.url, retry=None)
        for name in statuses.values():
            kind = getattr(hfstream, name)
            assert issubclass(kind, hfstream.InferenceError)
            with pytest.raises(kind):
                await variant.chat(client)


async def connection_errors(variant: Variant, clients: Clients) -> None:
    with pytest.raises(hfstream.InferenceConnectionError):
        await variant.chat(clients("http://127.0.0.1:9", retry=None))
    assert issubclass(hfstream.InferenceTimeoutError, hfstream.InferenceError)


async def the_rest(variant: Variant, clients: Clients) -> None:
    client = clients("http://h")
    for name in ("responses", "embeddings", "audio", "images", "files", "beta", "moderations"):
        refused(client, name, f"no attribute {name!r}: ")
    refused(client, "text_generaton", "no attribute 'text_generaton'")
    assert not hasattr(client, "embeddings")


ROWS: dict[str, Callable[[Variant, Clients], Awaitable[None]]] = {
    "`OpenAI(base_url=..., api_key=...)`": base_url_and_api_key,
    "`OpenAI(max_retries=2)`": max_retries,
    "`OpenAI(default_headers=...)`": default_headers,
    "`OpenAI(timeout=...)`": timeout,
    "`OpenAI(http_client=...)`": http_client,
    "`client.with_options(timeout=5, max_retries=0)`": with_options,
    "`client.chat.completions.create(...)`": create,
    "`client.chat.completions.create(extra_headers=..., extra_body=..., timeout=...)`": options_of_a_call,
    "`client.chat.completions.parse(response_format=Recipe)`": parse,
    "`client.chat.completions.stream(...)`": event_stream,
    "`client.completions.create(prompt=...)`": legacy_completions,
    "`client.models.list()`": models_list,
    "`client.models.retrieve(...)`": models_retrieve,
    "`with_raw_response`, `with_streaming_response`": raw_responses,
    "`openai.pydantic_function_tool(Recipe)`": function_tool,
    "`RateLimitError`, `InternalServerError`": errors,
    "`APIConnectionError`, `APITimeoutError`": connection_errors,
    "`BadRequestError`, `AuthenticationError`, `NotFoundError`": errors,
    "`APIError`, `OpenAIError`": errors,
    "`responses`, `embeddings`, `audio`, `images` and the rest": the_rest,
}


def rows_of(heading: str) -> list[str]:
    """The first cells of the table under a heading of docs/migration.md."""
    page = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    section = re.split(r"^##+ ", page.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^\| (.+?) \|", section, flags=re.MULTILINE)[1:]


def test_every_row_is_tested() -> None:
    assert rows_of("Migrating from openai") == list(ROWS)


@pytest.mark.parametrize("row", ROWS)
async def test_a_row(variant: Variant, clients: Clients, row: str) -> None:
    await ROWS[row](variant, clients)


def test_what_openais_events_have_is_in_the_stream() -> None:
    assert rows_of("Events of a stream") == [
        "`chunk`",
        "`content.delta`",
        "`content.done`",
        "`tool_calls.function.arguments.delta`",
        "`tool_calls.function.arguments.done`",
        "`stream.get_final_completion()`",
    ]
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":'}}
    more = {"index": 0, "function": {"arguments": " 1}"}}
    events = [chat_event(role="assistant", content='{"name": "Che'), chat_event(content='ese"}')]
    events += [chat_event(tool_calls=[call]), chat_event(tool_calls=[more]), chat_event(finish_reason="stop"), DONE]
    with ScriptedServer(Response(events)) as server, InferenceClient(server.url) as client:
        stream = client.chat_completion(HI, response_format=Recipe, stream=True)
        text, arguments = "", ""
        for chunk in stream:
            delta = chunk.choices[0].delta
            text += delta.content or ""
            for part in delta.tool_calls or ():
                assert part.function is not None
                arguments += part.function.arguments or ""
        assert (text, arguments) == ('{"name": "Cheese"}', '{"a": 1}')
        assert (stream.text, stream.parsed) == (text, {"name": "Cheese"})
        message = stream.final().choices[0].message
        assert stream.final().parsed == Recipe(name="Cheese")
        assert [each.function.arguments for each in message.tool_calls or ()] == [arguments]
