"""`run_tools`: asks, calls, asks again; streamed and whole, on both variants, over a real port."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import threading
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from hfstream import (
    AsyncInferenceClient,
    ChatCompletion,
    ChatCompletionChunk,
    IncompleteStreamError,
    InferenceClient,
    OverloadedError,
    ServerError,
    ToolError,
    ToolRunCompletion,
)
from hfstream.core.parameters import ChatCompletionOptions, RunToolsOptions
from hfstream.testing import DONE, Response, ScriptedServer, chat_event, chat_events
from tests.helpers.variants import HI, Clients, Variant


def call_of(name: str, arguments: str, id: str = "call_1") -> dict[str, Any]:  # noqa: A002  OpenAI's name
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def whole(content: str | None = None, *calls: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": content} | ({"tool_calls": list(calls)} if calls else {})
    return {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}]}


def answer(streamed: bool, content: str | None = None, *calls: dict[str, Any]) -> Response:
    if not streamed:
        return Response.json(whole(content, *calls))
    if not calls:
        return Response(chat_events(*(content or "").partition(" ")))
    numbered = [{"index": index, **call} for index, call in enumerate(calls)]
    return Response(
        [
            chat_event(role="assistant", content=content, tool_calls=numbered),
            chat_event(finish_reason="tool_calls"),
            DONE,
        ]
    )


def weather(city: str, days: int = 1) -> str:
    """The weather.

    Args:
        city: its name
    """
    if city == "Atlantis":
        raise LookupError("no such city")
    return f"Rain in {city} for {days}"


class Population(BaseModel):
    """How many live there."""

    city: str

    def __call__(self) -> dict[str, Any]:
        return {"city": self.city, "people": 100}


NUREMBERG = call_of("weather", '{"city": "Nuremberg"}')
ATLANTIS = call_of("weather", '{"city": "Atlantis"}', "call_2")
PEOPLE = call_of("Population", '{"city": "Rom"}', "call_3")


async def run(variant: Variant, client: Any, streamed: bool, **options: Any) -> ToolRunCompletion:
    """The result, streamed and read to the end or whole."""
    options = {"messages": list(HI), "tools": [weather, Population]} | options
    if not streamed:
        result = await variant.ask(client, "run_tools", **options)
    else:
        result = await variant.final(await variant.ask(client, "run_tools", stream=True, **options))
    assert isinstance(result, ToolRunCompletion)
    return result


both = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@both
async def test_it_calls_and_asks_again_until_there_is_an_answer(
    variant: Variant, clients: Clients, streamed: bool
) -> None:
    answers = [
        answer(streamed, None, NUREMBERG, PEOPLE),
        answer(streamed, "Let me see", ATLANTIS),
        answer(streamed, "It rains."),
    ]
    with ScriptedServer(*answers) as server:
        asked = list(HI)
        result = await run(variant, clients(server.url), streamed, messages=asked, temperature=0.5, model="m")
        bodies = [request.json() for request in server.requests]
    assert asked == list(HI)  # the caller's own is not changed
    assert result.choices[0].message.content == "It rains."
    assert isinstance(result, ChatCompletion)
    results = [message for message in result.messages if message["role"] == "tool"]
    assert results == [
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain in Nuremberg for 1"},
        {"role": "tool", "tool_call_id": "call_3", "content": '{"city":"Rom","people":100}'},
        {"role": "tool", "tool_call_id": "call_2", "content": "Error: LookupError: no such city"},
    ]
    assert [message["role"] for message in result.messages] == [
        "user", "assistant", "tool", "tool", "assistant", "tool", "assistant",
    ]  # fmt: skip
    assert result.messages[-1] is result.choices[0].message
    assert [len(body["messages"]) for body in bodies] == [1, 4, 6]
    assert bodies[2]["messages"][1]["tool_calls"] == [NUREMBERG, PEOPLE]
    for body in bodies:
        assert (body["temperature"], body["model"], body["stream"]) == (0.5, "m", streamed)
        assert [tool["function"]["name"] for tool in body["tools"]] == ["weather", "Population"]
    assert bodies[0]["tools"][0]["function"]["parameters"]["properties"]["city"]["description"] == "its name"


@both
async def test_a_call_that_is_no_functions_is_sent_back_as_it_came(
    variant: Variant, clients: Clients, streamed: bool
) -> None:
    custom = {"id": "call_1", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
    with ScriptedServer(answer(streamed, None, custom), answer(streamed, "Sorry.")) as server:
        await run(
            variant, clients(server.url), streamed, tools=[weather, {"type": "custom", "custom": {"name": "sql"}}]
        )
        assert server.requests[1].json()["messages"][1]["tool_calls"] == [custom]


async def test_a_stream_has_the_chunks_of_all_rounds(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(answer(True, "Let me see. ", NUREMBERG), answer(True, "It rains.")) as server:
        stream = await variant.ask(clients(server.url), "run_tools", HI, [weather], stream=True)
        assert (stream.rounds, stream.messages) == (1, list(HI))
        chunks = await variant.rest(stream)
        assert all(isinstance(chunk, ChatCompletionChunk) for chunk in chunks)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Let me see. It rains."
        assert (stream.rounds, stream.current.text) == (2, "It rains.")
        result = await variant.final(stream)
        assert await variant.final(stream) is result
        assert stream.messages == result.messages
        assert await variant.rest(stream) == []


@both
async def test_each_result_has_the_id_of_its_call_alone(variant: Variant, clients: Clients, streamed: bool) -> None:
    """Where the server sends none, or the same one again."""
    sent_ids, ids = ["", "x", "x", ""], ["call01000", "x", "call01002", "call01003"]
    given = [call_of("weather", f'{{"city": "{city}"}}', sent) for city, sent in zip("ABCD", sent_ids, strict=True)]
    with ScriptedServer(answer(streamed, None, *given), answer(streamed, "Rain.")) as server:
        result = await run(variant, clients(server.url), streamed)
        sent = server.requests[1].json()["messages"][1:]
    calls = result.messages[1]["tool_calls"]
    assert [call["id"] for call in sent[0]["tool_calls"]] == [call.id for call in calls] == ids
    assert [(each["tool_call_id"], each["content"]) for each in sent[1:]] == [
        (own, f"Rain in {city} for 1") for city, own in zip("ABCD", ids, strict=True)
    ]


@both
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (call_of("wether", "{}"), "there is no tool 'wether'; the tools are: weather, Population"),
        (call_of("weather", '{"town": 1}'), "the arguments of weather are not valid: "),
        (call_of("weather", '{"city": "N'), "the arguments of weather are not valid: Invalid JSON"),
        (call_of("weather", '{"city": "Atlantis"}'), "LookupError: no such city"),
        (call_of("broken", "{}"), "PydanticSerializationError: "),
    ],
)
async def test_what_goes_wrong_is_told_to_the_model_or_raised(
    variant: Variant, clients: Clients, streamed: bool, call: dict[str, Any], message: str
) -> None:
    def broken() -> object:
        return object()

    tools = [weather, Population] + [broken] * (call["function"]["name"] == "broken")
    answers = [answer(streamed, None, NUREMBERG | {"id": "call_0"}, call), answer(streamed, "Sorry.")]
    with ScriptedServer(*answers, *answers) as server:
        client = clients(server.url)
        result = await run(variant, client, streamed, tools=tools)
        assert result.messages[3]["content"].startswith(f"Error: {message}")
        with pytest.raises(ToolError, match="failed") as caught:
            await run(variant, client, streamed, tools=tools, on_tool_error="raise")
        error = caught.value
        assert message in str(error)
        assert error.tool_call.id == "call_1"
        assert [each["role"] for each in error.messages] == ["user", "assistant", "tool"]
        assert isinstance(error.__cause__, (LookupError, ValueError))
        assert pickle.loads(pickle.dumps(error)).messages == error.messages
        assert len(server.requests) == 3


async def test_arguments_that_were_cut_off_at_the_token_limit(variant: Variant, clients: Clients) -> None:
    cut = whole(None, call_of("weather", '{"city": "N'))
    cut["choices"][0]["finish_reason"] = "length"
    with ScriptedServer(Response.json(cut), Response.json(whole("Sorry."))) as server:
        result = await run(variant, clients(server.url), False)
        assert result.messages[2]["content"].endswith("; the message was cut off at its token limit")


@both
async def test_more_rounds_than_allowed_are_an_error_that_can_be_continued(
    variant: Variant, clients: Clients, streamed: bool
) -> None:
    again = answer(streamed, None, NUREMBERG)
    with ScriptedServer(again, again, answer(streamed, "Rain.")) as server:
        client = clients(server.url)
        with pytest.raises(ToolError, match=r"the model still calls tools \(weather\) after max_rounds=2") as caught:
            await run(variant, client, streamed, max_rounds=2)
        assert caught.value.tool_call is None
        assert [each["role"] for each in caught.value.messages] == ["user", "assistant", "tool", "assistant"]
        result = await run(variant, client, streamed, messages=caught.value.messages, max_rounds=1)
        assert result.choices[0].message.content == "Rain."
        assert [each["role"] for each in server.requests[2].json()["messages"]][-2:] == ["assistant", "tool"]


@both
async def test_calls_without_results_are_made_first(variant: Variant, clients: Clients, streamed: bool) -> None:
    begun = [*HI, {"role": "assistant", "content": None, "tool_calls": [NUREMBERG, PEOPLE]}]
    done = {"role": "tool", "tool_call_id": "call_1", "content": "from before"}
    with ScriptedServer(answer(streamed, "Rain.")) as server:
        result = await run(variant, clients(server.url), streamed, messages=[*begun, done])
        assert [message["content"] for message in result.messages] == [
            "Hi", None, "from before", '{"city":"Rom","people":100}', "Rain.",
        ]  # fmt: skip


@both
async def test_a_forced_choice_is_for_the_first_round(variant: Variant, clients: Clients, streamed: bool) -> None:
    answers = [answer(streamed, None, NUREMBERG), answer(streamed, "Rain.")]
    with ScriptedServer(*answers, *answers, *answers) as server:
        client = clients(server.url)
        for choice in (weather, "required", "auto"):
            await run(variant, client, streamed, tool_choice=choice)
        choices = [request.json().get("tool_choice") for request in server.requests]
    assert choices == [{"type": "function", "function": {"name": "weather"}}, None, "required", None, "auto", "auto"]


@both
async def test_a_failed_request_raises_and_a_stream_keeps_the_conversation(
    variant: Variant, clients: Clients, streamed: bool
) -> None:
    broken = Response.error(500, "broken")
    with ScriptedServer(answer(streamed, None, NUREMBERG), broken) as server:
        client = clients(server.url, retry=None)
        if not streamed:
            with pytest.raises(ServerError):
                await run(variant, client, streamed)
            return
        stream = await variant.ask(client, "run_tools", HI, [weather], stream=True)
        with pytest.raises(ServerError):
            await variant.final(stream)
        assert [message["role"] for message in stream.messages] == ["user", "assistant", "tool"]
        with pytest.raises(IncompleteStreamError):
            await variant.final(stream)


async def test_an_overloaded_server_raises_in_the_call(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response.error(429, "busy", "overloaded")) as server, pytest.raises(OverloadedError):
        await variant.ask(clients(server.url, retry=None), "run_tools", HI, [weather], stream=True)


async def test_a_stream_that_failed_in_a_tool_does_not_go_on(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(answer(True, None, ATLANTIS)) as server:
        stream = await variant.ask(clients(server.url), "run_tools", HI, [weather], stream=True, on_tool_error="raise")
        with pytest.raises(ToolError):
            await variant.rest(stream)
        for read in (variant.rest, variant.final):
            with pytest.raises(IncompleteStreamError):
                await read(stream)
        await variant.close(stream)
        assert await variant.rest(stream) == []
        assert len(server.requests) == 1


async def test_closed_while_a_tool_is_called_no_request_follows(variant: Variant, clients: Clients) -> None:
    called, go_on = threading.Event(), threading.Event()

    def wait(city: str) -> str:
        called.set()
        assert go_on.wait(60)
        return city

    with ScriptedServer(answer(True, None, call_of("wait", '{"city": "Rom"}'))) as server:
        stream = await variant.ask(clients(server.url), "run_tools", HI, [wait], stream=True)
        reader = asyncio.create_task(variant.rest(stream))
        await asyncio.to_thread(called.wait, 60)
        await variant.close(stream)
        go_on.set()
        assert len(await reader) == 2
        assert len(server.requests) == 1
        assert [message["role"] for message in stream.messages] == ["user", "assistant", "tool"]
        with pytest.raises(IncompleteStreamError):
            await variant.final(stream)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_rounds": 0}, ValueError, "`max_rounds` is at least 1"),
        ({"on_tool_error": "ignore"}, ValueError, '"return" or "raise"'),
        ({"n": 2}, ValueError, "leave `n` out"),
        ({"messages": "Hi"}, TypeError, "`messages` is a list"),
        ({"tools": weather}, TypeError, "`tools` is a list"),
        ({"temprature": 1}, TypeError, "did you mean `temperature`"),
    ],
)
async def test_invalid_arguments_are_refused(
    variant: Variant, clients: Clients, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await run(variant, clients("http://127.0.0.1:9"), False, **options)


def test_a_plain_client_refuses_async_functions() -> None:
    async def later() -> None: ...

    with pytest.raises(TypeError, match="use AsyncInferenceClient"):
        InferenceClient("http://127.0.0.1:9").run_tools(HI, [later])
    hidden: Any = lambda: later()  # noqa: E731  a function whose result turns out to be a coroutine
    hidden.__name__ = "hidden"
    with (
        ScriptedServer(answer(False, None, call_of("hidden", ""))) as server,
        InferenceClient(server.url) as client,
        pytest.raises(ToolError, match="returned a coroutine: use AsyncInferenceClient"),
    ):
        client.run_tools(HI, [hidden], on_tool_error="raise")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_client_awaits_and_calls_in_a_thread(backend: str) -> None:
    threads: dict[str, bool] = {}

    async def awaited() -> str:
        await anyio.sleep(0)
        threads["awaited"] = threading.current_thread() is threading.main_thread()
        return "awaited"

    def plain() -> str:
        threads["plain"] = threading.current_thread() is threading.main_thread()
        return "plain"

    hidden: Any = lambda: awaited()  # noqa: E731
    hidden.__name__ = "hidden"
    calls = [call_of("awaited", "{}", "1"), call_of("plain", "{}", "2"), call_of("hidden", "{}", "3")]

    async def main() -> None:
        async with AsyncInferenceClient(server.url) as client:
            run = client.run_tools(HI, [awaited, plain, hidden], stream=True)
            async with run as stream:
                result = await stream.final()
            found = [message["content"] for message in result.messages if message["role"] == "tool"]
            assert found == ["awaited", "plain", "awaited"]

    with ScriptedServer(answer(True, None, *calls), answer(True, "Done.")) as server:
        anyio.run(main, backend=backend)
    assert threads == {"awaited": True, "plain": False}


async def test_the_forms_of_an_async_stream() -> None:
    answers = [answer(True, None, NUREMBERG), answer(True, "Rain.")]
    with ScriptedServer(*answers * 3) as server:
        async with AsyncInferenceClient(server.url) as client:
            assert len([chunk async for chunk in client.run_tools(HI, [weather], stream=True)]) > 2
            stream = await client.run_tools(HI, [weather], stream=True)
            assert stream.rounds == 1
            assert (await stream.final()).choices[0].message.content == "Rain."
            async with client.run_tools(HI, [weather], stream=True) as stream:
                async for _ in stream:
                    break
            assert stream.rounds == 1
            client.run_tools(HI, [weather], stream=True)  # dropped: no request, no warning
        assert len(server.requests) == 5


async def test_an_object_at_the_end(variant: Variant, clients: Clients) -> None:
    class City(BaseModel):
        name: str

    with ScriptedServer(answer(True, None, NUREMBERG), answer(True, '{"name": "Rom"}')) as server:
        result = await run(variant, clients(server.url), True, response_format=City)
        assert result.parsed == City(name="Rom")
        assert "messages" not in result.model_dump()


@pytest.mark.parametrize("client", [InferenceClient("http://h"), AsyncInferenceClient("http://h")])
def test_a_signature_shows_every_parameter(client: Any) -> None:
    first = ["messages", "tools", "stream", "max_rounds", "on_tool_error"]
    assert list(inspect.signature(client.run_tools).parameters) == [*first, *RunToolsOptions.__annotations__]
    assert set(ChatCompletionOptions.__annotations__) - set(RunToolsOptions.__annotations__) == {"tools"}
    assert inspect.iscoroutinefunction(client.run_tools) is isinstance(client, AsyncInferenceClient)
