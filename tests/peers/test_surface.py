"""What users pass and expect, coming from other clients: tools, types, timeouts, dictionaries, decorators."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from typing import Any
from unittest.mock import AsyncMock, create_autospec

import httpx
import pytest
from pydantic import BaseModel

from hfstream import InferenceTimeoutError, Timeouts
from hfstream.retry import retry_on_overload
from hfstream.testing import Response, ScriptedServer
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import WORDS, Task, endless

PROGRAMS = "Processes and other programs"


class City(BaseModel):
    name: str


@dataclass
class Town:
    name: str


def look_up(name: str) -> str:
    """Looks up a city."""
    return name


TOOLS = row(
    PROGRAMS,
    "`tools=[PydanticClass]`, `tools=[function]`",
    "`TypeError: Object of type ModelMetaclass is not JSON serializable` (huggingface_hub)",
    "sent as tools: name, docstring and annotations",
)


@TOOLS.only(task="chat")
async def test_classes_and_functions_are_tools(variant: Variant, clients: Clients) -> None:
    task = Task("chat")
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        await variant.rest(await task.open(variant, clients(server.url), tools=[City, look_up]))
    sent = [tool["function"] for tool in server.requests[0].json()["tools"]]
    assert [tool["name"] for tool in sent] == ["City", "look_up"]
    assert [list(tool["parameters"]["properties"]) for tool in sent] == [["name"], ["name"]]


TYPES = row(
    PROGRAMS,
    "`list[X]`, a dataclass, a union or a Literal as `response_format` or `grammar`",
    "`TypeError: Object of type GenericAlias is not JSON serializable` (huggingface_hub)",
    "sent as its JSON schema, and the response has the object as `parsed`",
)


@TYPES
@pytest.mark.parametrize("kind", [list[City], list[Town], list[City | Town], list[Any]])
async def test_types_are_response_formats(variant: Variant, clients: Clients, task: Task, kind: Any) -> None:
    with ScriptedServer(task.document('[{"name":"Köln"}]')) as server:
        given = {"grammar": kind, "details": True} if task.text else {"response_format": kind}
        response = await task.ask(variant, clients(server.url), **given)
    parsed = response.parsed if task.text else response.choices[0].message.parsed
    assert parsed in ([City(name="Köln")], [Town("Köln")], [{"name": "Köln"}])


TIMEOUT = row(
    PROGRAMS,
    '`timeout=(5, 60)`, `timeout=httpx.Timeout(...)`, `timeout="60"`',
    "`TypeError` of the socket module on the first call, or no limit (huggingface_hub)",
    "the first two are taken; anything that is no time raises when the client is made",
)


@TIMEOUT
async def test_timeouts_of_requests_and_httpx_are_taken(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(endless(task)) as server:
        for timeout in ((5, 0.05), httpx.Timeout(0.05, connect=5)):
            client = clients(server.url, timeout=timeout, retry=None)
            assert client.timeout == Timeouts(5, 0.05, 0.05, None)
            with pytest.raises(InferenceTimeoutError):
                await variant.rest(await task.open(variant, client))
    impossible: list[Any] = ["60", [5, 60], (1, 2, 3), {}]
    for wrong in impossible:
        with pytest.raises(TypeError, match="timeout must be a number of seconds"):
            clients("http://h", timeout=wrong)


DICTIONARIES = row(
    PROGRAMS,
    '`{**chunk}`, `dict(chunk)`, `for name in chunk`, `chunk["id"]`, `json.dumps(chunk, default=dict)`',
    "dictionaries (huggingface_hub); `TypeError`, or pairs of name and value (openai)",
    "as with a dictionary",
)


@DICTIONARIES
async def test_chunks_are_read_like_dictionaries(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        given = {"details": True} if task.text else {}
        for chunk in await variant.rest(await task.open(variant, clients(server.url), **given)):
            assert {**chunk} == dict(chunk) == {name: chunk[name] for name in chunk}
            assert json.loads(json.dumps(chunk, default=dict)) == chunk.model_dump(mode="json")


GENERATORS = row(
    PROGRAMS,
    "a retry decorator on a generator function",
    "never retries (tenacity)",
    "`retry_on_overload` raises `TypeError` when it decorates one, and says what to write",
)


@GENERATORS.only(variant="sync")
def test_a_generator_is_not_decorated_in_vain(task: Task) -> None:
    def tokens() -> Any:
        yield task

    with pytest.raises(TypeError, match="instead of `yield`"):
        retry_on_overload()(tokens)


@GENERATORS.only(variant="async")
def test_an_async_generator_is_not_decorated_in_vain(task: Task) -> None:
    async def tokens() -> Any:
        yield task

    with pytest.raises(TypeError, match="instead of `yield`"):
        retry_on_overload()(tokens)


SIGNATURES = row(
    PROGRAMS,
    "`inspect.signature`, `inspect.iscoroutinefunction` and completion of a client's methods, `AsyncMock(spec=...)`",
    "work (huggingface_hub); openai's methods are no coroutine functions, and a mock of them is not awaited",
    "every parameter is shown; async methods are coroutine functions, and mocks of them are awaited",
)


@SIGNATURES
async def test_the_methods_look_like_huggingface_hubs(variant: Variant, task: Task) -> None:
    client = variant.client("http://h")
    name, first = ("text_generation", "prompt") if task.text else ("chat_completion", "messages")
    method = getattr(client, name)
    assert inspect.iscoroutinefunction(method) == (variant.name == "async")
    assert {first, "stream", "model", "temperature", "seed"} <= set(inspect.signature(method).parameters)
    for mock in (AsyncMock(spec=type(client)), create_autospec(type(client), instance=True)):
        getattr(mock, name).return_value = "mocked"
        mocked = getattr(mock, name)("Hi", temperature=1)
        assert (await mocked if inspect.isawaitable(mocked) else mocked) == "mocked"
        assert inspect.isawaitable(mocked) == (variant.name == "async")


ATTRIBUTES = row(
    PROGRAMS,
    "`client.model`, `.token`, `.headers`, `.cookies`, `.timeout`, `.provider`; `repr(client)`",
    "can be read (huggingface_hub)",
    "can be read; `repr` shows no secret",
)


@ATTRIBUTES
async def test_what_a_client_was_made_with_can_be_read(variant: Variant, clients: Clients, task: Task) -> None:
    given = {"token": "secret", "headers": {"X-Key": "secret"}, "cookies": {"session": "secret"}, "timeout": 5}
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        client = clients(server.url, **given)
        await variant.rest(await task.open(variant, client))
        assert (client.model, client.token, client.provider) == (server.url, "secret", None)
        assert client.headers["X-Key"] == client.cookies["session"] == "secret"
        assert client.timeout == Timeouts(5, 5, 5)
        assert server.requests[0].headers["x-key"] == "secret"
    assert client.model in repr(client)
    assert "secret" not in repr(client)
