"""What the responses of OpenAI's two routes have in common."""

from __future__ import annotations

import json

import pytest
from starlette.exceptions import HTTPException

from hfstream.errors import OverloadedError
from hfstream.server.routes.openai_responses import (
    ResponseMeta,
    StopStringFilter,
    StreamedUsage,
    error_json,
    finish_reason,
    parse_error_json,
    usage,
)
from hfstream.server.service.output_stream import OutputEvent
from hfstream.types import FinishReason, StreamDetails, StreamResponse, Token


def make_event(text: str, *, special: bool = False, reason: FinishReason | None = None) -> StreamResponse:
    """An event; with a finish reason the last one."""
    details = None
    if reason is not None:
        details = StreamDetails(finish_reason=reason, generated_tokens=3, seed=None, input_length=2)
    token = Token(id=1, text=text, logprob=None, special=special)
    return StreamResponse(index=1, token=token, generated_text="" if reason else None, details=details)


@pytest.mark.parametrize(
    ("stops", "tokens", "sent"),
    [
        ([], ["a", "b"], ["a", "b"]),
        (["x"], ["a", "x"], ["a", ""]),
        (["end"], ["a e", "n", "d"], ["a ", "", ""]),
        (["end"], ["a e", "n", "t"], ["a ", "", "ent"]),
        (["aab"], ["a", "a", "a", "b"], ["", "", "a", ""]),
        (["ab", "b"], ["xa", "b"], ["x", ""]),
        (["ab"], ["a"], ["a"]),
    ],
)
def test_text_that_may_become_a_stop_string_is_held_back(stops: list[str], tokens: list[str], sent: list[str]) -> None:
    stop_filter = StopStringFilter(stops)
    events = [make_event(text) for text in tokens[:-1]]
    events.append(make_event(tokens[-1], reason=FinishReason.StopSequence))
    assert [stop_filter.push(event) for event in events] == sent
    assert StopStringFilter(stops).strip("".join(tokens)) == "".join(sent)


def test_special_tokens_have_no_text() -> None:
    stop_filter = StopStringFilter(["x"])
    assert stop_filter.push(make_event("a")) == "a"
    assert stop_filter.push(make_event("<eos>", special=True, reason=FinishReason.EndOfSequenceToken)) == ""


def test_finish_reason_and_usage_are_in_the_last_event() -> None:
    assert finish_reason(make_event("a")) is None
    reasons = {reason: finish_reason(make_event("a", reason=reason)) for reason in FinishReason}
    assert reasons[FinishReason.Length] == "length"
    assert reasons[FinishReason.EndOfSequenceToken] == reasons[FinishReason.StopSequence] == "stop"
    tokens = usage(make_event("a", reason=FinishReason.Length))
    assert tokens.model_dump() == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


def test_the_usage_of_several_generations_counts_each_prompt_once() -> None:
    last = make_event("a", reason=FinishReason.Length)
    assert usage(last, last, last, last, choices=2).model_dump() == {
        "prompt_tokens": 4, "completion_tokens": 12, "total_tokens": 16,
    }  # fmt: skip
    streamed = StreamedUsage(2, 2)
    assert streamed.push(OutputEvent(0, make_event("a"))) is None
    assert streamed.push(OutputEvent(1, last)) is None
    assert streamed.push(OutputEvent(0, last)) == usage(last, last, choices=2)


def test_an_error_has_openais_keys_and_tgis() -> None:
    error = json.loads(error_json(OverloadedError("Model is overloaded")))
    assert error["error"]["http_status_code"] == 429
    assert error["error"]["type"] == error["error"]["code"] == error["error_type"] == "overloaded"
    unparsed = json.loads(parse_error_json(HTTPException(415, "not JSON")))
    assert unparsed["error"] == {
        "message": "not JSON",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
        "http_status_code": 415,
    }


def test_each_response_has_an_id_of_its_own() -> None:
    first, second = ResponseMeta.new("cmpl", "m"), ResponseMeta.new("cmpl", "m")
    assert first.id.startswith("cmpl-")
    assert first.id != second.id
