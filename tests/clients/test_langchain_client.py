"""hfstream.langchain: LangChain's own tests of chat models with `ChatInferenceClient`, and what they do not test.

What the bundled model is too small for is expected to fail, each test with its reason, as LangChain asks.
"""

from __future__ import annotations

import asyncio
import functools
import json
import operator
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from pages import run_blocks

from hfstream import AsyncInferenceClient, InferenceClient, OverloadedError, RetryPolicy, ValidationError
from hfstream.langchain import ChatInferenceClient, InferenceClientLLM
from hfstream.testing import Fault, Response, ScriptedServer, chat_events, token_events

CHEESE = "How do you make cheese?"

DECIDES = "the bundled model calls functions that it does not know only if it must, and these tests leave it the choice"
EMPTY = "the argument that the bundled model passes to a function that it does not know is empty"
COPIES = "the bundled model does not copy from the question: the name in the call is another one"
SCHEMA = "`json_object` asks for any object, and the bundled model does not read in the prompt which one"


class TestUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[ChatInferenceClient]:
        return ChatInferenceClient

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"base_url": "http://127.0.0.1:1", "model": "m"}


class TestIntegration(ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def _backend(self, backend: str) -> None:
        type(self).url = backend

    url = ""

    @property
    def chat_model_class(self) -> type[ChatInferenceClient]:
        return ChatInferenceClient

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"client": InferenceClient(self.url), "model": "bundled", "temperature": 0}

    @property
    def model_override_value(self) -> str:
        return "another name"

    @property
    def supports_json_mode(self) -> bool:
        return True

    @pytest.mark.xfail(reason=DECIDES)
    def test_tool_calling(self, model: BaseChatModel) -> None:
        super().test_tool_calling(model)

    @pytest.mark.xfail(reason=DECIDES)
    async def test_tool_calling_async(self, model: BaseChatModel) -> None:
        await super().test_tool_calling_async(model)

    @pytest.mark.xfail(reason=EMPTY)
    def test_bind_runnables_as_tools(self, model: BaseChatModel) -> None:
        super().test_bind_runnables_as_tools(model)

    @pytest.mark.xfail(reason=COPIES)
    def test_unicode_tool_call_integration(self, model: BaseChatModel) -> None:
        super().test_unicode_tool_call_integration(model)

    @pytest.mark.xfail(reason=SCHEMA)
    def test_json_mode(self, model: BaseChatModel) -> None:
        super().test_json_mode(model)


def test_the_page(backend: str) -> None:
    run_blocks("langchain", backend)


@pytest.fixture
def model(backend: str) -> ChatInferenceClient:
    return ChatInferenceClient(client=InferenceClient(backend), temperature=0)


def permits(url: str) -> int:
    lines = urllib.request.urlopen(f"{url}/metrics").read().decode().splitlines()
    return int(next(line for line in lines if line.startswith("hfstream_permits_taken ")).split()[1])


def becomes_idle(url: str) -> bool:
    until = time.monotonic() + 10
    while permits(url):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


# --- Streams ---------------------------------------------------------------------------------------------------------


def test_each_token_is_a_chunk_and_all_are_the_answer(model: ChatInferenceClient) -> None:
    chunks = list(model.stream(CHEESE))
    assert len(chunks) > 20
    whole: Any = functools.reduce(operator.add, chunks)
    answer = model.invoke(CHEESE)
    assert whole.content == answer.content
    assert whole.usage_metadata == answer.usage_metadata
    assert whole.response_metadata["finish_reason"] == answer.response_metadata["finish_reason"] == "stop"


def test_each_token_is_a_chunk_async(model: ChatInferenceClient) -> None:
    """With a client that is made like the synchronous one."""

    async def main() -> list[str]:
        return [str(chunk.content) async for chunk in model.astream(CHEESE)]

    pieces = asyncio.run(main())
    assert len(pieces) > 20
    assert "".join(pieces) == model.invoke(CHEESE).content


def test_a_stop_string_is_not_part_of_the_answer(model: ChatInferenceClient) -> None:
    whole = str(model.invoke(CHEESE).content).partition("curd")[0]
    assert model.invoke(CHEESE, stop=["curd"]).content == whole
    assert "".join(str(chunk.content) for chunk in model.stream(CHEESE, stop=["curd"])) == whole


def test_a_stop_string_that_the_server_sends_is_cut_off() -> None:
    """As TGI does, in one piece or in several; a beginning of one that comes to nothing is shown."""
    with ScriptedServer(*[Response(chat_events("Milk E", "N and EN", "D not this"))] * 2) as server:
        model = ChatInferenceClient(client=InferenceClient(server.url), stop=["END"])
        assert [str(chunk.content) for chunk in model.stream("x")] == ["Milk ", "EN and ", ""]
        model = ChatInferenceClient(client=InferenceClient(server.url), stop="ENDE")
        assert "".join(str(chunk.content) for chunk in model.stream("x")) == "Milk EN and END not this"


def test_a_stream_that_is_left_ends_at_the_server(serve: Callable[..., str]) -> None:
    url = serve("--tokens-per-second", "20")
    model = ChatInferenceClient(client=InferenceClient(url))
    llm = InferenceClientLLM(client=InferenceClient(url))

    async def leave_async() -> None:
        async for _ in model.astream(CHEESE):
            break
        await asyncio.sleep(0)  # an event loop closes what was left of a generator in its next turn
        assert await asyncio.to_thread(becomes_idle, url)
        async for _ in llm.astream(CHEESE):
            break
        assert await asyncio.to_thread(becomes_idle, url)
        task = asyncio.create_task(model.ainvoke(CHEESE))
        while not await asyncio.to_thread(permits, url):
            await asyncio.sleep(0.01)
        task.cancel()
        assert await asyncio.to_thread(becomes_idle, url)

    for _ in model.stream(CHEESE):
        break
    assert becomes_idle(url)
    for _ in llm.stream(CHEESE):
        break
    assert becomes_idle(url)
    asyncio.run(leave_async())


# --- Tools -----------------------------------------------------------------------------------------------------------


def get_weather(city: str) -> str:
    """The weather of a city."""
    return city


def test_tool_calls(mock: Callable[..., str]) -> None:
    call = {"name": "get_weather", "arguments": {"city": "Nuremberg"}}
    url = mock({"when": {"tool": "get_weather"}, "tool_calls": [call]}, {"text": "Milk, rennet and salt."})
    bound = ChatInferenceClient(client=InferenceClient(url)).bind_tools([get_weather], tool_choice="any")
    expected = [("get_weather", {"city": "Nuremberg"})]
    whole: Any = bound.invoke("The weather?")
    assert [(each["name"], each["args"]) for each in whole.tool_calls] == expected
    streamed: Any = functools.reduce(operator.add, bound.stream("The weather?"))
    assert [(each["name"], each["args"]) for each in streamed.tool_calls] == expected


def call_delta(**fields: Any) -> bytes:
    choice = {"index": 0, "delta": {"tool_calls": [fields]}, "finish_reason": None}
    value = {"id": "1", "model": "m", "choices": [choice]}
    return f"data: {json.dumps(value)}\n\n".encode()


def test_tool_calls_of_servers_that_number_them_in_their_own_way() -> None:
    """Without indices, with a name that is repeated, and with ``{}`` before the arguments."""
    body = [
        call_delta(id="a", function={"name": "f", "arguments": "{}"}),
        call_delta(id="a", function={"name": "f", "arguments": '{"x": 1}'}),
        call_delta(id="b", function={"name": "g", "arguments": '{"y"'}),
        call_delta(id="b", function={"name": "g", "arguments": ": 2}"}),
        call_delta(id="c", function={"name": "h", "arguments": "{}"}),
        *chat_events(finish_reason="tool_calls")[-3:],
    ]
    with ScriptedServer(Response(body)) as server:
        streamed: Any = functools.reduce(operator.add, ChatInferenceClient(base_url=server.url).stream("x"))
    calls = [(each["id"], each["name"], each["args"]) for each in streamed.tool_calls]
    assert calls == [("a", "f", {"x": 1}), ("b", "g", {"y": 2}), ("c", "h", {})]


def test_a_conversation_with_tools_is_sent_as_openai_has_it() -> None:
    call = {"name": "f", "args": {"x": 1}, "id": "a", "type": "tool_call"}
    invalid = {"name": "g", "args": "{", "id": "b", "error": "no JSON", "type": "invalid_tool_call"}
    reasoning = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "I ask."}]
    messages = [
        HumanMessage("x"),
        AIMessage(reasoning, tool_calls=[call], invalid_tool_calls=[invalid]),
        ToolMessage("1", tool_call_id="a"),
    ]
    with ScriptedServer(Response(chat_events("ok"))) as server:
        list(ChatInferenceClient(base_url=server.url).stream(messages))
        sent = server.requests[0].json()["messages"]
    assert sent == [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": "I ask.",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{"}},
            ],
        },
        {"role": "tool", "content": "1", "tool_call_id": "a"},
    ]


def test_a_call_whose_arguments_are_no_json_is_an_invalid_one() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "hm"}
    answer = {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    with ScriptedServer(Response.json(answer)) as server:
        result = ChatInferenceClient(base_url=server.url).invoke("x")
    assert result.tool_calls == []
    assert [(each["id"], each["name"], each["args"]) for each in result.invalid_tool_calls] == [("a", "f", "{")]
    assert result.additional_kwargs == {"reasoning_content": "hm"}


# --- Errors and settings ---------------------------------------------------------------------------------------------


def test_errors_are_the_clients_own() -> None:
    overloaded = Response.error(429, "Model is overloaded", "overloaded", Retry_After="3")
    broken = Response([*chat_events("a", "b")[:2], b'data: {"error":"no","error_type":"validation"}\n\n', Fault.DROP])
    with ScriptedServer(overloaded, broken) as server:
        model = ChatInferenceClient(client=InferenceClient(server.url, retry=None))
        with pytest.raises(OverloadedError) as caught:
            model.invoke("x")
        assert caught.value.retry_after == 3
        with pytest.raises(ValidationError) as failed:
            list(model.stream("x"))
        assert failed.value.partial_text == "a"


def test_a_client_is_made_like_the_other_one() -> None:
    given = AsyncInferenceClient("http://a", token="t", retry=RetryPolicy(attempts=7), headers={"X-A": "1"})
    made = ChatInferenceClient(async_client=given)._sync_client()
    assert (made.model, made.token, dict(made.headers)) == ("http://a", "t", {"X-A": "1"})
    assert made._config == given._config
    with pytest.raises(ValueError, match="pass that too"):
        ChatInferenceClient(client=InferenceClient("http://a", http_client=httpx.Client()))._asynchronous_client()


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="pass client=, async_client= or base_url="):
        ChatInferenceClient()
    with pytest.raises(ValueError, match="pass them to the client"):
        ChatInferenceClient(client=InferenceClient("http://a"), base_url="http://a")
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        ChatInferenceClient(base_url="http://a", temprature=0)
    with pytest.raises(ValueError, match="a stream has one answer"):
        list(ChatInferenceClient(base_url="http://a").stream("x", n=2))
    with pytest.raises(TypeError, match="did you mean `temperature`"):
        ChatInferenceClient(base_url="http://a").invoke("x", temprature=0)


# --- The LLM ---------------------------------------------------------------------------------------------------------


def test_the_llm_generates_text(backend: str) -> None:
    llm = InferenceClientLLM(client=InferenceClient(backend), max_new_tokens=20)
    expected = InferenceClient(backend).text_generation(CHEESE, max_new_tokens=20)
    assert llm.invoke(CHEESE) == expected
    assert "".join(pieces := list(llm.stream(CHEESE))) == expected
    assert len(pieces) > 10

    async def main() -> tuple[str, list[str]]:
        return await llm.ainvoke(CHEESE), [piece async for piece in llm.astream(CHEESE)]

    assert asyncio.run(main()) == (expected, pieces)


def test_the_llms_text_ends_before_a_stop_string(backend: str) -> None:
    llm = InferenceClientLLM(client=InferenceClient(backend), stop=["milk"])
    assert llm.invoke(CHEESE).strip() == "You make cheese from"
    assert "".join(llm.stream(CHEESE)) == llm.invoke(CHEESE)
    assert llm.invoke(CHEESE, stop=["cheese"]).strip() == "You make"
    with ScriptedServer(Response(token_events("a E", "N"))) as server:
        assert "".join(InferenceClientLLM(base_url=server.url, stop=["END"]).stream("x")) == "a EN"


def test_callbacks_get_the_tokens(backend: str) -> None:
    class Handler(BaseCallbackHandler):
        def __init__(self) -> None:
            self.tokens: list[Any] = []

        def on_llm_new_token(self, token: Any, **fields: Any) -> None:
            self.tokens.append(token)

    handler = Handler()
    llm = InferenceClientLLM(client=InferenceClient(backend), max_new_tokens=5)
    text = "".join(llm.stream(CHEESE, config={"callbacks": [handler]}))
    assert "".join(handler.tokens) == text
    model = ChatInferenceClient(client=InferenceClient(backend), streaming=True)
    handler.tokens.clear()
    answer = model.invoke(CHEESE, config={"callbacks": [handler]})
    assert "".join(handler.tokens) == answer.content
    assert len(handler.tokens) > 20
