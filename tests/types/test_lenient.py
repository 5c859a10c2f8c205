"""Values that are not as documented: converted where their meaning is clear, else left out."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from hfstream.types import ChatCompletion, ChatCompletionChunk, StreamResponse, TextGenerationResponse
from hfstream.types._lenient import load_json


def chunk(**choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": "a"}, **choice}]}


@pytest.mark.parametrize(
    "odd",
    [
        {**chunk(), "created": "2026-01-01T00:00:00Z"},
        {**chunk(), "usage": []},
        {**chunk(), "usage": "none"},
        {**chunk(), "id": {}, "model": [], "object": False, "system_fingerprint": 5},
        chunk(logprobs=[]),
        chunk(logprobs="x"),
        chunk(logprobs={"content": "x", "refusal": {}}),
        chunk(index="x"),
        chunk(index=[], logprobs=[], finish_reason={}),
        chunk(finish_reason=False),
        chunk(finish_reason=0),
        chunk(delta={"content": "a", "tool_calls": [None]}),
        chunk(delta={"content": "a", "tool_calls": "none"}),
        chunk(delta={"content": "a", "role": [], "reasoning": {}, "refusal": False}),
        chunk(delta="a"),
        {"choices": [None, *chunk()["choices"], 5]},
        {"choices": chunk()["choices"][0]},
    ],
)
def test_what_is_not_the_text_is_no_reason_to_lose_it(odd: dict[str, Any]) -> None:
    [choice] = ChatCompletionChunk.validate_lenient(odd).choices
    assert (choice.delta.content, choice.index, choice.finish_reason, choice.logprobs and choice.logprobs.content) == (
        "a", 0, None, None,
    )  # fmt: skip
    assert not choice.delta.tool_calls


@pytest.mark.parametrize("delta", [[], "", None, 5, False])
def test_an_empty_delta_has_many_forms(delta: Any) -> None:
    [choice] = ChatCompletionChunk.validate_lenient(chunk(delta=delta)).choices
    assert choice.delta.content is None


@pytest.mark.parametrize(
    ("content", "text", "reasoning", "others"),
    [
        ([{"type": "text", "text": "A"}, {"type": "reference", "reference_ids": [1]}], "A", None,
         [{"type": "reference", "reference_ids": [1]}]),
        ([{"type": "output_text", "text": "A"}, {"type": "text", "text": None}], "A", None, None),
        (["A", "B"], "AB", None, None),
        ({"type": "text", "text": "A"}, "A", None, None),
        ([{"type": "text", "text": {"value": "A", "annotations": []}}], "A", None, None),
        ([{"type": "input_text", "text": "A"}], "A", None, None),
        ([{"text": "A"}, {"value": "B"}], "AB", None, None),
        ({"value": "A"}, "A", None, None),
        ({"value": "A", "more": 1}, None, None, [{"value": "A", "more": 1}]),
        ([{"type": "reasoning", "text": "T"}, {"type": "reasoning_text", "text": "U"}], None, "TU", None),
        ([{"type": "thinking", "thinking": "T"}, {"type": "text", "text": "A"}], "A", "T", None),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "T"}]}], None, "T", None),
        ([{"type": "image_url", "image_url": {"url": "u"}}], None, None,
         [{"type": "image_url", "image_url": {"url": "u"}}]),
        ([5, None], None, None, [5]),
    ],
)  # fmt: skip
def test_parts_of_a_message_are_joined_by_kind(content: Any, text: Any, reasoning: Any, others: Any) -> None:
    delta = ChatCompletionChunk.validate_lenient(chunk(delta={"content": content})).choices[0].delta
    assert (delta.content, delta.reasoning, delta.get("content_parts")) == (text, reasoning, others)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize(
    ("value", "text", "others"),
    [
        ([{"type": "text", "text": "T"}, {"text": "U"}], "TU", None),
        ([{"type": "thinking", "thinking": "T"}, "U", {"type": "summary_text", "text": "V"}], "TUV", None),
        ({"content": "T"}, "T", None),
        ({"effort": "low"}, None, [{"effort": "low"}]),
        ([], None, None),
        (5, "5", None),
    ],
)
def test_parts_of_the_reasoning_are_joined(name: str, value: Any, text: Any, others: Any) -> None:
    delta = ChatCompletionChunk.validate_lenient(chunk(delta={name: value, "content": "A"})).choices[0].delta
    assert (delta.content, delta[name], delta.get(f"{name}_parts")) == ("A", text, others)


def test_reasoning_in_the_content_and_beside_it_does_not_become_JSON() -> None:
    delta = {"content": [{"type": "thinking", "thinking": "T"}, "A"], "reasoning": [{"text": "T"}]}
    found = ChatCompletionChunk.validate_lenient(chunk(delta=delta)).choices[0].delta
    assert (found.content, found.reasoning) == ("A", "T")


def test_parts_that_are_nested_without_end_are_kept_as_they_are() -> None:
    nested: Any = "T"
    for _ in range(300):
        nested = {"type": "thinking", "thinking": nested}
    found = ChatCompletionChunk.validate_lenient(chunk(delta={"content": nested})).choices[0].delta
    assert (found.content, found.reasoning, len(found["content_parts"])) == (None, None, 1)


def test_several_entries_of_a_list_may_be_left_out() -> None:
    good = {"token": "a", "logprob": -1}
    bad: list[Any] = [None, {"token": None, "logprob": "x"}, {}, 5]
    payload = chunk(logprobs={"content": [bad[0], good, bad[1], bad[2], good, bad[3]]})
    logprobs = ChatCompletionChunk.validate_lenient(payload).choices[0].logprobs
    assert logprobs is not None
    assert [entry.token for entry in logprobs.content or []] == ["a", "a"]


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (ChatCompletion, {}),
        (ChatCompletionChunk, []),
        (ChatCompletionChunk, None),
        (StreamResponse, {"token": None}),
        (StreamResponse, {"token": {"id": 1}}),
        (TextGenerationResponse, {"generated_text": None}),
        (TextGenerationResponse, {"generated_text": {}}),
    ],
)
def test_what_is_required_must_be_there(kind: Any, payload: Any) -> None:
    with pytest.raises(ValueError, match="validation error"):
        kind.validate_lenient(payload)


def test_names_of_fields_are_logged_and_no_values(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "hfstream"):
        ChatCompletionChunk.validate_lenient({**chunk(), "created": "secret"})
    [record] = caplog.records
    assert "created" in record.getMessage()
    assert "secret" not in record.getMessage()


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'\xef\xbb\xbf"a"', "a"),
        (b'"a\xff"', "a\ufffd"),
        (b'"\\ud83d"', "\ufffd"),
        (b'"\\ud83d\\ude00"', "😀"),
        ('"\\udc00x"', "\ufffdx"),
    ],
)
def test_text_that_is_not_Unicode_is_replaced(data: bytes | str, value: str) -> None:
    assert load_json(data) == value


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"x"])
def test_what_is_not_JSON_is_a_ValueError(data: bytes) -> None:
    with pytest.raises(ValueError):
        load_json(data)


def test_a_whole_answer_is_read_leniently_too() -> None:
    odd = {"generated_text": 5, "details": {"finish_reason": None, "tokens": [{"text": "5"}, None], "prefill": None}}
    response = TextGenerationResponse.parse_lenient(json.dumps(odd).encode())
    assert response.generated_text == "5"
    assert response.details is not None
    assert (response.details.finish_reason, response.details.generated_tokens) == ("", 0)
    assert [(token.id, token.text) for token in response.details.tokens] == [(-1, "5")]
