"""Tools in a chat: what a model calls by itself, with a scripted engine; what it must call, with the bundled model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hfstream import InferenceClient
from hfstream.server import BackgroundServer, Settings
from hfstream.server.engine.protocol import EngineRequest
from tests.helpers.scripted_engine import EOS, TOKENIZER, Script, ScriptedEngine, chunks, http, idle, ids, user
from tests.helpers.shared_engine import SharedEngine

PATH = "/v1/chat/completions"
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 10}, "unit": {"enum": ["C", "F"]}},
    "required": ["city", "unit"],
}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "description": "The weather, now.", "parameters": CITY}},
    {"type": "function", "function": {"name": "time"}},
]
CALLS = (
    'I look.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Köln", "unit": "C"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'
)


class Model:
    """Answers with what a test says."""

    answer: Script = ()

    def __call__(self, request: EngineRequest) -> Script:
        return self.answer


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture(scope="module")
def scripted(chat_model: Path, model: Model) -> Iterator[str]:
    settings = Settings(model=str(chat_model), port=0)
    with BackgroundServer(settings, engine=ScriptedEngine(model, context=2_000)) as server:
        yield server.url


@pytest.fixture(scope="module")
def bundled(shared_engine: SharedEngine) -> Iterator[str]:
    with BackgroundServer(Settings(port=0), engine=shared_engine.connect()) as server:
        yield server.url


def ask(url: str, **fields: Any) -> Any:
    return http.post(url + PATH, json={"messages": user("Hi"), "tools": TOOLS, **fields})


def deltas(url: str, **fields: Any) -> list[dict[str, Any]]:
    stream = chunks(ask(url, stream=True, **fields).content)
    return [{**chunk["choices"][0]["delta"], "end": chunk["choices"][0]["finish_reason"]} for chunk in stream]


def test_calls_are_streamed_as_openai_does(scripted: str, model: Model) -> None:
    model.answer = [*ids(CALLS), EOS]
    *stream, last = deltas(scripted)
    assert last == {"end": "tool_calls"}
    assert [delta["end"] for delta in stream] == [None] * len(stream)
    assert stream[0]["role"] == "assistant"
    assert "".join(delta.get("content") or "" for delta in stream) == "I look."
    calls = [call for delta in stream for call in delta.get("tool_calls", ())]
    heads = [call for call in calls if "id" in call]
    assert [head["function"] for head in heads] == [
        {"name": "weather", "arguments": ""},
        {"name": "time", "arguments": ""},
    ]
    assert [(head["index"], head["type"]) for head in heads] == [(0, "function"), (1, "function")]
    assert len({head["id"] for head in heads}) == 2
    pieces = [call["function"]["arguments"] for call in calls if call["index"] == 0]
    assert json.loads("".join(pieces)) == {"city": "Köln", "unit": "C"}
    assert len(pieces) > 5


def test_the_whole_message_is_that_of_the_stream(scripted: str, model: Model) -> None:
    model.answer = [*ids(CALLS), EOS]
    choice = ask(scripted).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I look."
    assert [call["function"] for call in choice["message"]["tool_calls"]] == [
        {"name": "weather", "arguments": '{"city": "Köln", "unit": "C"}'},
        {"name": "time", "arguments": "{}"},
    ]
    model.answer = [*ids(CALLS[8:]), EOS]
    assert ask(scripted).json()["choices"][0]["message"]["content"] is None
    assert deltas(scripted)[0]["content"] is None


def test_without_parallel_calls_only_the_first_counts(scripted: str, model: Model) -> None:
    model.answer = [*ids(CALLS), EOS]
    message = ask(scripted, parallel_tool_calls=False).json()["choices"][0]["message"]
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["weather"]


def test_an_answer_without_a_call_is_text(scripted: str, model: Model) -> None:
    model.answer = [*ids("The <tool_ end. "), EOS]
    choice = ask(scripted).json()["choices"][0]
    assert (choice["message"], choice["finish_reason"]) == (
        {"role": "assistant", "content": "The <tool_ end. "},
        "stop",
    )
    assert "".join(delta.get("content", "") for delta in deltas(scripted)) == "The <tool_ end. "


@pytest.mark.parametrize(("cut", "arguments"), [(len('<tool_call>\n{"name": "wea'), None), (-40, '{"city": "')])
def test_half_a_call_is_no_content(scripted: str, model: Model, cut: int, arguments: str | None) -> None:
    text = CALLS.split("\n<tool_call>")[1].removesuffix("\n</tool_call>")
    text = ("<tool_call>" + text)[: cut if cut > 0 else None]
    if cut < 0:
        text = text[: text.index("Köln")]
    model.answer = ids(text)
    choice = ask(scripted, max_tokens=len(ids(text))).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert not choice["message"]["content"]
    found = [call["function"]["arguments"] for call in choice["message"].get("tool_calls", ())]
    assert found == ([] if arguments is None else [arguments])


def test_a_call_that_a_stop_string_cuts_is_no_call(scripted: str, model: Model) -> None:
    model.answer = [*ids(CALLS), EOS]
    choice = ask(scripted, stop=["city"]).json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"'
    assert deltas(scripted, stop=["city"])[-1]["end"] == "stop"
    assert deltas(scripted, stop=["</tool_call>"])[-1]["end"] == "tool_calls"


@pytest.mark.parametrize("text", ["", "<tool_", CALLS[8:]], ids=["end", "half a call", "calls"])
@pytest.mark.parametrize("logprobs", [False, True])
def test_the_role_is_in_the_first_delta(scripted: str, model: Model, text: str, logprobs: bool) -> None:
    model.answer = [*ids(text), EOS]
    first, *others = deltas(scripted, logprobs=logprobs)
    assert first["role"] == "assistant"
    assert not any("role" in delta for delta in others)


def test_half_a_required_call_is_no_content(bundled: str) -> None:
    choice = ask(bundled, tool_choice="required", max_tokens=2).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("", "length")


def test_with_none_all_is_text(scripted: str, model: Model) -> None:
    model.answer = [*ids(CALLS), EOS]
    choice = ask(scripted, tool_choice="none").json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (CALLS, "stop")


def test_several_choices_have_calls_of_their_own(scripted: str, model: Model) -> None:
    model.answer = [*ids(CALLS), EOS]
    choices = ask(scripted, n=2).json()["choices"]
    assert len({call["id"] for choice in choices for call in choice["message"]["tool_calls"]}) == 4


def test_a_special_token_that_begins_a_call(tmp_path: Path, model: Model) -> None:
    tokenizer = json.loads(TOKENIZER.to_str().replace("<turn>", "[TOOL_CALLS]"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    template = "{{ '[TOOL_CALLS]' if not messages }}{{ messages[-1].content }}{{ tools | tojson if tools }}"
    (tmp_path / "chat_template.jinja").write_text(template, "utf-8")
    model.answer = [TOKENIZER.encode("<turn>").ids[0], *ids(' [{"name": "time", "arguments": {}}]'), EOS]
    with BackgroundServer(Settings(model=str(tmp_path), port=0), engine=ScriptedEngine(model, context=2_000)) as server:
        [call] = ask(server.url).json()["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "time", "arguments": "{}"}
    assert len(call["id"]) == 9


# --- with the bundled model -------------------------------------------------------------------------------------------


def check_weather(function: dict[str, Any]) -> None:
    arguments = json.loads(function["arguments"])
    assert function["name"] == "weather"
    assert list(arguments) == ["city", "unit"]
    assert arguments["unit"] in ("C", "F")


@pytest.mark.parametrize("call_format", ["hermes", "llama3", "mistral"])
def test_a_function_that_must_be_called_is_called(shared_engine: SharedEngine, call_format: str) -> None:
    choice = {"type": "function", "function": {"name": "weather"}}
    settings = Settings(port=0, tool_call_format=call_format)
    with BackgroundServer(settings, engine=shared_engine.connect()) as server:
        for seed in range(3):
            fields = {"tool_choice": choice, "temperature": 1.0, "seed": seed}
            answer = ask(server.url, **fields).json()["choices"][0]
            assert (answer["message"]["content"], answer["finish_reason"]) == (None, "tool_calls")
            [call] = answer["message"]["tool_calls"]
            check_weather(call["function"])
            stream = deltas(server.url, **fields)
            pieces = [part["function"]["arguments"] for delta in stream for part in delta.get("tool_calls", ())]
            assert "".join(pieces) == call["function"]["arguments"]


def test_one_of_the_functions_must_be_called(bundled: str) -> None:
    for seed in range(4):
        fields = {"tool_choice": "required", "parallel_tool_calls": False, "temperature": 1.0, "seed": seed}
        [call] = ask(bundled, **fields).json()["choices"][0]["message"]["tool_calls"]
        if call["function"]["name"] == "weather":
            check_weather(call["function"])
        else:
            assert call["function"] == {"name": "time", "arguments": "{}"}


def test_a_responses_call(bundled: str) -> None:
    tool = {"type": "function", **TOOLS[0]["function"]}
    choice = {"type": "function", "name": "weather"}
    body = {"input": "Hi", "tools": [tool], "tool_choice": choice}
    [item] = http.post(bundled + "/v1/responses", json=body).json()["output"]
    assert item["type"] == "function_call"
    check_weather(item)


def weather(city: str) -> str:
    """The weather in a city."""
    return f"Rain in {city}"


def test_a_conversation_with_our_client(bundled: str) -> None:
    client = InferenceClient(bundled, retry=None)
    messages: list[Any] = [{"role": "user", "content": "Hello!"}]
    message = client.chat_completion(messages, tools=[weather], tool_choice=weather, max_tokens=400, temperature=0)
    called = message.choices[0].message
    messages += [
        called,
        *({"role": "tool", "tool_call_id": call.id, "content": "Rain"} for call in called.tool_calls or ()),
    ]
    assert len(messages) == 3
    assert client.chat_completion(messages, tools=[weather], max_tokens=5).choices[0].message.role == "assistant"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"not": {}}}}]},
            '`tools` is not valid: at /0/function/parameters: Unimplemented keys: ["not"]',
        ),
        ({"tools": [{}]}, "`tools` must be functions with names of 1 to 64 characters. Number 0 is not"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_refused_before_a_stream_begins(bundled: str, fields: dict[str, Any], message: str, *, stream: bool) -> None:
    response = ask(bundled, tool_choice="required", stream=stream, **fields)
    assert response.status_code == 422
    error = response.json()["error"]
    assert (error["message"], error["param"]) == (f"Input validation error: {message}", "tools")
    assert idle(bundled)


def test_tools_and_a_grammar_exclude_each_other_as_in_tgi(bundled: str) -> None:
    response = ask(bundled, response_format={"type": "json_object"})
    assert response.json()["error_type"] == "tool_error"
    assert response.json()["error"]["message"] == "Tool error: Grammar and tools are mutually exclusive"
    assert ask(bundled, response_format={"type": "text"}, max_tokens=3).status_code == 200
