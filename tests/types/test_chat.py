"""The types of chat: values of an unexpected type with a clear meaning are corrected."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from hfstream.types import ChatCompletion, ChatCompletionChunk, ChatCompletionToolCall
from hfstream.types._base import APIModel
from tests.helpers.recordings import RECORDINGS, Recording


@pytest.fixture(params=list(RECORDINGS.values()), ids=list(RECORDINGS))
def recording(request: pytest.FixtureRequest) -> Recording:
    found: Recording = request.param
    return found


def read(payload: Any) -> ChatCompletionChunk:
    return ChatCompletionChunk.parse_lenient(json.dumps(payload).encode())


@pytest.mark.parametrize(
    ("delta", "field", "value"),
    [
        ({"tool_calls": [{"id": 5}]}, "id", "5"),
        ({"tool_calls": [{"id": None, "index": None, "type": None}]}, "id", None),
        ({"tool_calls": [{"index": "2"}]}, "index", 2),
        ({"tool_calls": [{"index": 1.0}]}, "index", 1),
        ({"tool_calls": [{"function": None}]}, "function", None),
    ],
)
def test_fields_of_a_tool_call_are_converted(delta: dict[str, Any], field: str, value: Any) -> None:
    calls = read({"choices": [{"delta": delta}]}).choices[0].delta.tool_calls
    assert calls is not None
    assert calls[0][field] == value


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (None, None),
        ("", ""),
        ({}, "{}"),
        ({"a": [None, "é"]}, '{"a": [null, "é"]}'),
        ([1], "[1]"),
        (5, "5"),
        ('{"a', '{"a'),
    ],
)
def test_arguments_are_a_string(arguments: Any, text: str | None) -> None:
    calls = read({"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}}]})
    [found] = calls.choices[0].delta.tool_calls or []
    assert found.function is not None
    assert found.function.arguments == text


@pytest.mark.parametrize(
    ("call", "written"),
    [
        (
            {"id": "a", "type": "custom", "custom": {"name": "f"}},
            {"id": "a", "type": "custom", "custom": {"name": "f"}},
        ),
        ({"type": "x", "function": {"name": "f"}}, {"id": "", "type": "x", "function": {"name": "f", "arguments": ""}}),
        ({"id": "a"}, {"id": "a", "type": "function", "function": {"name": "", "arguments": ""}}),
    ],
)
def test_a_tool_call_is_written_as_it_came(call: dict[str, Any], written: dict[str, Any]) -> None:
    """A call of another type without a function that the server did not send."""
    found = ChatCompletionToolCall.model_validate(call)
    assert (found.model_dump(exclude_none=True), json.loads(found.model_dump_json(exclude_none=True))) == (
        written,
        written,
    )
    assert found.function.name in ("", "f")


@pytest.mark.parametrize(
    ("created", "seconds"), [(1.9, 1), (1700000000.123, 1700000000), ("17", 17), (None, 0), (5, 5)]
)
def test_a_time_is_truncated_to_seconds(created: Any, seconds: int) -> None:
    assert read({"choices": [], "created": created}).created == seconds


def test_nulls_are_treated_as_left_out() -> None:
    usage = read({"choices": [], "usage": {"prompt_tokens": None, "total_tokens": 3, "details": None}}).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (0, 0, 3)
    assert usage["details"] is None
    logprobs = {"content": [{"token": "a", "logprob": None, "top_logprobs": None, "bytes": None}]}
    found = read({"choices": [{"index": None, "delta": None, "logprobs": logprobs}]}).choices[0]
    assert found.index == 0
    assert found.logprobs is not None
    assert found.logprobs.content is not None
    assert found.logprobs.content[0].top_logprobs == []


def test_several_values_in_one_chunk_are_all_corrected() -> None:
    found = read(
        {
            "id": 7,
            "created": 1.5,
            "model": None,
            "usage": {"prompt_tokens": None},
            "choices": [
                {"index": None, "delta": None},
                {"index": 1, "delta": {"tool_calls": [{"id": 0, "function": {"arguments": {"a": 1}}}], "content": 5}},
            ],
        }
    )
    assert (found.id, found.created, found.model) == ("7", 1, "")
    assert found.choices[1].delta.content == "5"
    [called] = found.choices[1].delta.tool_calls or []
    assert called.id == "0"


def test_valid_values_are_not_changed() -> None:
    strange = {"a": None, "b": [None, {"c": None}], "d": 1.5}
    found = read({"choices": None, "created": 1.5, "strange": strange})
    assert found["strange"] == strange


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key in a JSON value."""
    inside: Iterable[tuple[Any, Any]]
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(inside):
        yield value, key
        yield from places(part)


ODD = [None, True, 0, -1, 1.5, 1e300, "", "x", "1", [], [None], [1], ["x"], {}, {"a": None}, {"int": 1}, {"content": 5}]


@pytest.mark.parametrize("kind", [ChatCompletionChunk, ChatCompletion])
@pytest.mark.slow
def test_any_value_in_any_field_is_read_or_a_ValueError(kind: type[APIModel], recording: Recording) -> None:
    # A TypeError or a KeyError would reach the user as it is.
    if kind is ChatCompletion:
        payloads = [recording.whole]
    else:
        payloads = [
            json.loads(each[6:])
            for each in recording.events
            if each.startswith(b"data: {") and each.count(b"data") == 1
        ]
    read_ones = 0
    for payload in payloads:
        for number in range(len(list(places(payload)))):
            for odd in ODD:
                bent = copy.deepcopy(payload)
                holder, key = list(places(bent))[number]
                holder[key] = odd
                try:
                    assert isinstance(kind.parse_lenient(json.dumps(bent).encode()), kind)
                    read_ones += 1
                except ValueError:
                    pass
    assert read_ones or not payloads
