"""The request of chat completion: its body, its decoder and its accumulator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from hfstream.core.chat_accumulator import ChatAccumulator
from hfstream.core.chat_completion import chat_completion
from hfstream.core.decoders import JSONBodyDecoder
from hfstream.core.parameters import ChatCompletionOptions, ChatCompletionParameters
from hfstream.core.request_spec import RequestSpec
from hfstream.core.single_result import SingleResult
from hfstream.core.stream_decoders import ChatStreamDecoder
from hfstream.errors import (
    BadRequestError,
    IncompleteGenerationError,
    InferenceError,
    ServerError,
    UnexpectedResponseError,
)
from hfstream.types import ChatCompletionInputMessage, ChatCompletionMessage

USER = {"role": "user", "content": "Hi"}
HF_ROUTER_URL = "https://router.huggingface.co"


def call(
    messages: Any = (USER,), *, model: str = "m", stream: bool = False, extra_body: Any = None, **parameters: Any
) -> RequestSpec[Any, Any, Any]:
    url = "http://h/v1/chat/completions"
    return chat_completion(url, model, messages, parameters, stream=stream, headers={}, extra_body=extra_body)


def body(*args: Any, **options: Any) -> Any:
    sent = call(*args, **options).body
    assert sent is not None
    return json.loads(sent)


@pytest.mark.parametrize("stream", [True, False])
def test_the_smallest_body(stream: bool) -> None:
    assert body(stream=stream) == {"model": "m", "messages": [USER], "stream": stream}


def test_the_model_comes_first_in_the_body() -> None:
    sent = call(model="org/name", temperature=1, extra_body={"a": 1}).body
    assert sent is not None
    assert sent.startswith(b'{"model":"org/name","messages":[')
    assert json.loads(call(extra_body={"model": "x"}).body or b"")["model"] == "x"
    assert (call(extra_body={"model": "x"}).body or b"").startswith(b'{"model":"x"')


def test_None_is_the_same_as_leaving_out() -> None:
    assert body(**dict.fromkeys(ChatCompletionParameters.__annotations__)) == body()


def test_what_is_falsy_but_not_None_is_sent() -> None:
    given = {"seed": 0, "temperature": 0.0, "stop": [], "logprobs": False, "user": "", "tools": [], "logit_bias": {}}
    assert body(**given) == {**body(), **given}


def test_every_parameter_is_sent_under_its_name() -> None:
    for name in ChatCompletionParameters.__annotations__:
        value = [{"type": "value"}] if name == "tools" else "value"
        assert body(**{name: value})[name] == value


def test_every_parameter_of_huggingface_hub_and_of_TGI_is_known() -> None:
    known = {
        "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n", "presence_penalty", "response_format", "seed",
        "stop", "stream_options", "temperature", "tool_choice", "tool_prompt", "tools", "top_logprobs", "top_p",
    }  # fmt: skip
    assert known <= set(ChatCompletionParameters.__annotations__)
    of_the_request = {"model", "extra_body", "extra_headers", "timeout"}
    assert set(ChatCompletionOptions.__annotations__) == of_the_request | set(ChatCompletionParameters.__annotations__)


def test_nulls_inside_a_value_are_sent() -> None:
    schema = {"properties": {"a": {"default": None, "enum": [None, 1]}}, "x": None}
    given = {
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": None}},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema, "description": None}}],
        "stream_options": {"include_usage": None},
    }
    assert body(**given) == {**body(), **given}
    message = {"role": "assistant", "content": None, "tool_calls": None, "deep": [None, {"a": None}]}
    assert body([USER, message])["messages"] == [USER, message]


@pytest.mark.parametrize(
    ("name", "right"),
    [("max_token", "max_tokens"), ("temprature", "temperature"), ("max_new_tokens", "max_tokens"), ("topp", "top_p"),
     ("tool", "tools"), ("stop_sequences", None), ("Seed", "seed"), ("zzz", None), ("messages_", None),
     ("steam", "stream"), ("timout", "timeout")],
)  # fmt: skip
@pytest.mark.parametrize("value", [5, None])
def test_a_mistyped_name_raises_with_a_suggestion(name: str, right: str | None, value: Any) -> None:
    with pytest.raises(TypeError, match=f"chat_completion has no parameter `{name}`") as caught:
        call(**{name: value})
    if right:
        assert f"did you mean `{right}`" in str(caught.value)
    assert "extra_body=" in str(caught.value)


@pytest.mark.parametrize("messages", ["Hi", b"Hi", USER, {}, ""])
def test_messages_must_be_a_list(messages: Any) -> None:
    with pytest.raises(TypeError, match="list of messages"):
        call(messages)


@pytest.mark.parametrize("messages", [None, 5, object()])
def test_messages_that_cannot_be_a_list_are_a_TypeError(messages: Any) -> None:
    with pytest.raises(TypeError):
        call(messages)


def test_messages_may_be_any_iterable() -> None:
    expected = body([USER, USER])["messages"]
    assert expected == [USER, USER]
    given: list[Any] = [(USER, USER), iter([USER, USER]), (each for each in [USER, USER]), {1: USER, 2: USER}.values()]
    for messages in given:
        assert body(messages)["messages"] == expected
    assert body([ChatCompletionInputMessage(role="user", content="Hi")])["messages"] == [USER]
    assert body([])["messages"] == []


class ReadOnly(Mapping[str, Any]):
    def __init__(self, values: dict[str, Any]) -> None:
        self.values_ = values

    def __getitem__(self, name: str) -> Any:
        return self.values_[name]

    def __iter__(self) -> Any:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


def test_any_mapping_is_sent() -> None:
    assert body([ReadOnly(USER)], extra_body=ReadOnly({"deep": ReadOnly({"a": None})})) == {
        **body(), "deep": {"a": None},
    }  # fmt: skip


def test_a_message_of_a_response_is_sent_back_unchanged() -> None:
    function = {"name": "f", "arguments": '{"a": null}'}
    fields = {
        "role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": function}],
        "refusal": None, "reasoning": "Hm", "annotations": [], "unknown": {"x": 1},
    }  # fmt: skip
    message = ChatCompletionMessage.model_validate(fields)
    sent = body([USER, message, {"role": "tool", "tool_call_id": "a", "content": "x"}])["messages"][1]
    assert sent == {name: value for name, value in fields.items() if value is not None}
    assert message.tool_calls is not None
    by_hand = {"role": "assistant", "content": None, "tool_calls": message.tool_calls}
    assert body([by_hand])["messages"] == [{**by_hand, "tool_calls": fields["tool_calls"]}]


def test_the_arguments_are_not_modified() -> None:
    messages, extra = [USER], {"a": 1}
    parameters: dict[str, Any] = {"stop": ["x"], "seed": None}
    call(messages, extra_body=extra, **parameters)
    assert (messages, extra, parameters) == ([USER], {"a": 1}, {"stop": ["x"], "seed": None})


def test_extra_body_overrides_parameters() -> None:
    given = body(seed=1, extra_body={"seed": 2, "messages": [], "stream": "x", "top_k": None})
    assert given == {"model": "m", "messages": [], "stream": "x", "seed": 2, "top_k": None}


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": float("nan")},
        {"stop": {1}},
        {"user": "\ud800"},
        {"tools": [{"function": object()}]},
        {"messages": [{"role": "user", "content": b"x"}]},
        {"messages": [{"role": "user", "content": "\ud83d"}]},
        {"messages": [{1, 2}]},
    ],
)
def test_a_value_that_is_not_JSON_serializable_is_a_TypeError(bad: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="cannot be sent as JSON"):
        call(**bad)


def test_the_body_is_compact_UTF_8() -> None:
    sent = call([{"role": "user", "content": "é\u2028🙂"}]).body
    assert sent == '{"model":"m","messages":[{"role":"user","content":"é\u2028🙂"}],"stream":false}'.encode()


def test_each_kind_of_call_has_its_decoder_and_accumulator() -> None:
    for stream, decoder, accumulator in (
        (True, ChatStreamDecoder, ChatAccumulator),
        (False, JSONBodyDecoder, SingleResult),
    ):
        made = call(stream=stream)
        assert (made.streamed, made.method) == (stream, "POST")
        assert type(made.make_decoder()) is decoder
        assert type(made.make_accumulator()) is accumulator
        assert made.make_decoder() is not made.make_decoder()
        assert made.make_accumulator() is not made.make_accumulator()


@pytest.mark.parametrize(
    "body", [{"choices": []}, {"choices": [{"message": {"content": "Hi"}}], "error": {"message": "broken"}}]
)
def test_a_response_without_choices_or_with_an_error_raises(body: dict[str, Any]) -> None:
    decoder = call().make_decoder()
    decoder.feed(json.dumps(body).encode())
    with pytest.raises(InferenceError, match="broken" if "error" in body else "not the JSON that was expected"):
        decoder.finish()


# --- Unusual answers, in one piece -----------------------------------------------------------------------------------


def read(payload: Any) -> Any:
    decoder = call().make_decoder()
    decoder.feed(payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    [completion] = decoder.finish()
    return completion


def answer(content: Any = "Hi", finish_reason: Any = "stop", **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
    return {"choices": [{**choice, **fields}]}


@pytest.mark.parametrize(
    "payload",
    [
        {**answer(), "created": "2026-01-01T00:00:00Z", "usage": [], "id": 5},
        answer(logprobs=[]),
        answer(finish_reason=False),
        answer(["H", {"type": "text", "text": "i"}, {"type": "image_url"}]),
        {"choices": answer()["choices"][0]},
        {"choices": [*answer()["choices"], None]},
        b"\xef\xbb\xbf" + json.dumps(answer()).encode(),
    ],
)
def test_what_is_not_the_text_is_no_reason_to_lose_it(payload: Any) -> None:
    assert read(payload).choices[0].message.content == "Hi"


def test_text_that_is_not_Unicode_is_replaced() -> None:
    assert read(json.dumps(answer("@")).encode().replace(b"@", b"a\xff")).choices[0].message.content == "a\ufffd"


@pytest.mark.parametrize(
    ("payload", "kind", "message", "text"),
    [
        (answer("Ha", "error"), IncompleteGenerationError, "'error'", "Ha"),
        (answer("Ha", "abort"), IncompleteGenerationError, "'abort'", "Ha"),
        (answer("Ha", "error", error={"code": 502, "message": "upstream"}), ServerError, "upstream", "Ha"),
        (answer(None, "error", error={"code": 400, "message": "upstream"}), BadRequestError, "upstream", ""),
        ({**answer("Ha"), "base_resp": {"status_code": 1027, "status_msg": "w"}}, BadRequestError, "w", "Ha"),
        (
            {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "no money"}},
            BadRequestError,
            "no money",
            "",
        ),
        ({"errors": [{"message": "No route"}], "success": False}, ServerError, "No route", ""),
        ({"choices": []}, UnexpectedResponseError, "choices", ""),
        ({"choices": [{"message": None}]}, UnexpectedResponseError, "message", ""),
    ],
)
def test_an_error_is_raised_with_the_text(payload: Any, kind: type[InferenceError], message: str, text: str) -> None:
    with pytest.raises(InferenceError, match=message) as caught:
        read(payload)
    assert type(caught.value) is kind
    assert caught.value.partial_text == text


def test_several_choices_are_told_apart_only_if_they_were_asked_for() -> None:
    chunks = [{"choices": [{"index": index, "delta": {"content": text}}]} for index, text in ((1, "a"), (2, "b"))]
    for n, texts in ((None, ["ab"]), (1, ["ab"]), (2, ["a", "b"])):
        spec = call(stream=True, n=n)
        decoder, accumulator = spec.make_decoder(), spec.make_accumulator()
        for chunk in chunks:
            accumulator.add(decoder.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n"))
        assert [choice.message.content for choice in accumulator.result().choices] == texts
        assert [choice.index for choice in accumulator.result().choices] == [1, 2][: len(texts)]
