"""The events of a response, from the chunks of a chat."""

from __future__ import annotations

from typing import Any

from hfstream.core.response_events import ResponseEvents
from hfstream.errors import OverloadedError
from hfstream.types import ChatCompletion, ChatCompletionChunk

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **fields: Any) -> ChatCompletionChunk:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return ChatCompletionChunk.model_validate({"choices": choices, **fields})


def call(index: int, name: str | None, arguments: str) -> dict[str, Any]:
    id_ = None if name is None else f"call_{name}"
    return {"tool_calls": [{"index": index, "id": id_, "function": {"name": name, "arguments": arguments}}]}


CHUNKS = [
    chunk({"role": "assistant", "content": "Let "}),
    chunk({"content": ""}),
    chunk({"content": "me."}),
    chunk(call(0, "f", "")),
    chunk(call(0, None, '{"a":')),
    chunk(call(0, None, "1}")),
    chunk(call(1, "g", "{}")),
    chunk({}, "tool_calls"),
    chunk(usage=USAGE),
]


def without_ids(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    left_out = ("item_id", "item", "part", "sequence_number")
    return [{name: value for name, value in event.items() if name not in left_out} for event in events]


def test_the_sequence_of_events() -> None:
    response = ResponseEvents({"id": "resp_1", "usage": None})
    assert [event["type"] for event in response.start()] == ["response.created", "response.in_progress"]
    events = [event for each in CHUNKS for event in response.push(each)]
    assert [event["sequence_number"] for event in events] == list(range(2, len(events) + 2))
    text = {"output_index": 0, "content_index": 0}
    assert without_ids(events)[:-1] == [
        {"type": "response.output_item.added", "output_index": 0},
        {"type": "response.content_part.added", **text},
        {"type": "response.output_text.delta", **text, "delta": "Let ", "logprobs": []},
        {"type": "response.output_text.delta", **text, "delta": "me.", "logprobs": []},
        {"type": "response.output_text.done", **text, "text": "Let me.", "logprobs": []},
        {"type": "response.content_part.done", **text},
        {"type": "response.output_item.done", "output_index": 0},
        {"type": "response.output_item.added", "output_index": 1},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": '{"a":'},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "1}"},
        {
            "type": "response.function_call_arguments.done",
            "output_index": 1,
            "name": "f",
            "arguments": '{"a":1}',
        },
        {"type": "response.output_item.done", "output_index": 1},
        {"type": "response.output_item.added", "output_index": 2},
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{}"},
        {"type": "response.function_call_arguments.done", "output_index": 2, "name": "g", "arguments": "{}"},
        {"type": "response.output_item.done", "output_index": 2},
    ]
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"] is response.response
    assert response.complete


def test_the_response_is_the_same_whole() -> None:
    streamed, whole = ResponseEvents({}), ResponseEvents({})
    for each in CHUNKS:
        for _ in streamed.push(each):
            pass
    calls = [
        {"id": "call_f", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "call_g", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    message = {"role": "assistant", "content": "Let me.", "tool_calls": calls}
    choices = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    whole.complete_with(ChatCompletion.model_validate({"choices": choices, "usage": USAGE}))

    def output(events: ResponseEvents) -> list[dict[str, Any]]:
        return [{name: value for name, value in item.items() if name != "id"} for item in events.response["output"]]

    assert output(streamed) == output(whole)
    assert [item["status"] for item in output(whole)] == ["completed"] * 3
    assert streamed.response["usage"] == whole.response["usage"]
    assert whole.response["usage"]["output_tokens"] == 4
    assert whole.message() == streamed.message() == message


def test_a_response_that_is_cut_is_incomplete() -> None:
    response = ResponseEvents({})
    events = [
        event for each in (chunk({"content": "a"}, "length"), chunk(usage=USAGE)) for event in response.push(each)
    ]
    assert events[-1]["type"] == "response.incomplete"
    assert response.response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response.response["output"][0]["status"] == "incomplete"


def test_an_empty_response_has_a_message() -> None:
    response = ResponseEvents({})
    events = [event for each in (chunk({}, "stop"), chunk(usage=USAGE)) for event in response.push(each)]
    assert events[0]["type"] == "response.output_item.added"
    [item] = response.response["output"]
    assert item["content"] == [{"type": "output_text", "text": "", "annotations": [], "logprobs": []}]


def test_logprobs_come_with_the_text_that_they_belong_to() -> None:
    def with_logprobs(text: str, token: str) -> ChatCompletionChunk:
        logprobs = {"content": [{"token": token, "logprob": -0.5, "bytes": [1], "top_logprobs": []}]}
        choices = [{"index": 0, "delta": {"content": text}, "logprobs": logprobs}]
        return ChatCompletionChunk.model_validate({"choices": choices})

    response = ResponseEvents({})
    chunks = (with_logprobs("", "a"), with_logprobs("ab", "b"), chunk(usage=USAGE))
    events = [event for each in chunks for event in response.push(each)]
    [delta] = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [each["token"] for each in delta["logprobs"]] == ["a", "b"]
    assert response.response["output"][0]["content"][0]["logprobs"] == delta["logprobs"]


def test_a_failure() -> None:
    response = ResponseEvents({"error": None})
    error, failed = response.fail(OverloadedError("Model is overloaded"))
    assert error == {
        "type": "error", "sequence_number": 0, "code": "overloaded", "message": "Model is overloaded", "param": None,
    }  # fmt: skip
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "rate_limit_exceeded", "message": "Model is overloaded"}
