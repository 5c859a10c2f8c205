"""The decoder of TGI's streams, from bytes alone: no client, no clock, no network."""

from __future__ import annotations

import gc
import itertools
import json
import weakref
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfstream.core.accumulators import TextAccumulator
from hfstream.core.stream_decoders import TGIStreamDecoder
from hfstream.errors import (
    GenerationError,
    IncompleteGenerationError,
    IncompleteStreamError,
    InferenceError,
    OverloadedError,
    ServerError,
    UnexpectedResponseError,
    ValidationError,
)
from hfstream.testing import final_event, token_event, token_events
from hfstream.types import StreamResponse
from tests.helpers.decoding import OVERLOADED, decode_all, divisions, event


def texts(chunks: Iterable[bytes]) -> tuple[list[str], InferenceError | None]:
    items, error = decode_all(TGIStreamDecoder(), chunks)
    return [response.token.text for response in items], error


def failure(*chunks: bytes) -> InferenceError:
    error = decode_all(TGIStreamDecoder(), chunks)[1]
    assert error is not None
    return error


# --- Streams of tokens -----------------------------------------------------------------------------------------------

ANSWER = ["Grüß", " ", "\u2028", "", "👩‍🚀", " Gott"]


def test_a_stream_ends_with_its_final_event() -> None:
    decoder = TGIStreamDecoder()
    *events, last = token_events("a", "b", "c")
    for each in events:
        assert len(decoder.feed(each)) == 1
        assert not decoder.done
        assert not decoder.complete
    [response] = decoder.feed(last)
    assert response.generated_text == "abc"
    assert decoder.done
    assert decoder.complete
    assert decoder.finish() == []


@pytest.mark.parametrize("finish_reason", ["length", "eos_token"])
@pytest.mark.parametrize("space", [b"data: ", b"data:"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b":\n\n", b"retry: 5\n\n"])
@pytest.mark.slow
def test_a_stream_gives_the_same_items_however_it_is_divided(
    finish_reason: str, space: bytes, end: bytes, start: bytes
) -> None:
    raw_body = start + b":\n\n".join(token_events(*ANSWER, finish_reason=finish_reason))
    raw_body = raw_body.replace(b"data: ", space).replace(b"\n", end)
    expected = ANSWER + (["</s>"] if finish_reason == "eos_token" else [])
    for chunks in divisions(raw_body):
        assert texts(chunks) == (expected, None)


@given(st.lists(st.integers(0, 2000), max_size=12), st.booleans())
@settings(deadline=None, max_examples=150)
def test_a_stream_in_any_chunks_gives_equal_objects(positions: list[int], keep_alive: bool) -> None:
    raw_body = (b":\n\n" * keep_alive).join(token_events(*ANSWER, finish_reason="eos_token"))
    in_one_chunk, _ = decode_all(TGIStreamDecoder(), [raw_body])
    bounds = [0, *sorted(position % len(raw_body) for position in positions), len(raw_body)]
    assert decode_all(TGIStreamDecoder(), [raw_body[a:b] for a, b in itertools.pairwise(bounds)]) == (
        in_one_chunk,
        None,
    )


def test_data_after_the_final_event_is_ignored() -> None:
    for more in (
        b"garbage",
        event(OVERLOADED),
        event(b"nonsense"),
        event(b"[DONE]"),
        token_event(9, "x"),
        b"\xff\n\n\r",
    ):
        decoder = TGIStreamDecoder()
        assert len(decoder.feed(b"".join(token_events("a", "b")) + more)) == 2
        assert decoder.complete
        assert decoder.finish() == []


def test_an_event_with_generated_text_is_final_even_if_that_is_empty() -> None:
    for last in ({"generated_text": ""}, {"generated_text": "x", "details": None}):
        decoder = TGIStreamDecoder()
        decoder.feed(token_event(1, "", **last))
        assert decoder.complete


def test_an_event_from_an_old_server_is_read() -> None:
    old = b'data:{"token":{"id":1,"text":"a","logprob":null,"special":false},"generated_text":null,"details":null}\n\n'
    assert decode_all(TGIStreamDecoder(), [old, final_event(2, "b", "ab")])[0][0] == StreamResponse.model_validate(
        {"token": {"id": 1, "text": "a", "logprob": None, "special": False}}
    )


@pytest.mark.parametrize("end", [[], [b":\n\n"], [b'data: {"tok'], [event(b"[DONE]")], [event(b"[DONE]", b"data:")]])
def test_an_early_end_raises(end: list[bytes]) -> None:
    items, error = texts([*token_events("a", "b", "c")[:2], *end])
    assert items == ["a", "b"]
    assert type(error) is IncompleteStreamError
    assert "after 2 tokens" in error.message


@pytest.mark.parametrize(
    "chunks",
    [
        [], [b""], [b":\n\n"] * 3, [event(b"[DONE]")], [event(b"[DONE]", b"data:")], [event(b" [DONE] ")],
        [b"\xef\xbb\xbf"], [b"data:\n\n"], [b"event: ping\ndata: {}\n\n"], [b"id: 1\n\n", b"retry: 5\n\n"], [b"\n\n\n"],
    ],
)  # fmt: skip
def test_an_empty_stream_raises(chunks: list[bytes]) -> None:
    error = failure(*chunks)
    assert type(error) is IncompleteStreamError
    assert "without a token" in error.message


SHAPES: list[tuple[Any, type[InferenceError], str]] = [
    (OVERLOADED, OverloadedError, "Model is overloaded"),
    ({"error": "Input validation error: x", "error_type": "validation"}, ValidationError, "Input validation error: x"),
    ({"error": {"message": "Model is overloaded", "http_status_code": 422}}, OverloadedError, "Model is overloaded"),
    ({"error": "Request failed during generation: x", "error_type": "generation"}, GenerationError,
     "Request failed during generation: x"),
    ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, OverloadedError, "Overloaded"),
    ({"detail": "boom"}, ServerError, "boom"),
    ({"message": "boom"}, ServerError, "boom"),
    ({"object": "error", "message": "boom", "code": 500}, ServerError, "boom"),
    ({"error": ["a", "b"]}, ServerError, "a; b"),
]  # fmt: skip


@pytest.mark.parametrize(("payload", "kind", "words"), SHAPES)
@pytest.mark.parametrize("name", [b"", b"event: error\n"])
@pytest.mark.parametrize("before", [0, 2])
def test_an_error_in_the_stream_is_raised_after_the_items_before_it(
    payload: Any, kind: type[InferenceError], words: str, name: bytes, before: int
) -> None:
    raw_body = b"".join(token_events("a", "b", "c")[:before]) + name + event(payload) + event(b"[DONE]")
    for chunks in (
        [raw_body],
        [raw_body[:9], raw_body[9:]],
        [raw_body[position : position + 1] for position in range(len(raw_body))],
    ):
        decoder = TGIStreamDecoder()
        items, error = decode_all(decoder, chunks)
        assert [response.token.text for response in items] == ["a", "b"][:before]
        assert type(error) is kind
        assert error.message == words
        assert decoder.done
        assert not decoder.complete


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"words", "words"),
        (b'{"a": 1}', '{"a": 1}'),
        (b"Model is overloaded", "Model is overloaded"),
        (b"\xff", "\ufffd"),
    ],
)
def test_an_error_event_may_be_plain_text(payload: bytes, words: str) -> None:
    error = failure(event(payload, b"event: error\ndata: "))
    assert error.message == words
    assert isinstance(error, OverloadedError) == (words == "Model is overloaded")


@pytest.mark.parametrize("payload", [b"", b" ", b"{}", b"ping", b'{"type": "ping"}', b"[1]", b"not json"])
@pytest.mark.parametrize("name", [b"ping", b"keep-alive", b"errors"])
def test_events_with_other_names_are_ignored(payload: bytes, name: bytes) -> None:
    other = b"event: " + name + b"\ndata: " + payload + b"\n\n"
    assert texts([other, *(each for token in token_events("a", "b") for each in (token, other))]) == (["a", "b"], None)


@pytest.mark.parametrize(
    "payload",
    [
        b"nonsense", b"{", b'"text"', b"[DONE", b'{"choices": [{"text": "a"}]}', b"<html>", b"\xff\xfe",
        b'{"response": "a"}', b'{"content": "a", "stop": false}', b'{"delta": {"text": "a"}}',
    ],
)  # fmt: skip
def test_an_unexpected_event_is_quoted(payload: bytes) -> None:
    items, error = texts([*token_events("a", "b", "c")[:2], event(payload)])
    assert items == ["a", "b"]
    assert type(error) is UnexpectedResponseError
    assert payload.decode("utf-8", "replace")[:20] in error.message


@pytest.mark.parametrize(
    "other",
    [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}}]},
        {"response": [None], "usage": {"prompt_tokens": 1}},
        {"delta": {"type": "text", "text": ""}},
        {"content": 0},
    ],
)
def test_an_event_of_another_API_without_text_is_passed_over(other: Any) -> None:
    before, *after = token_events("a", "b")
    assert texts([event(other), before, event(other), *after]) == (["a", "b"], None)


@pytest.mark.parametrize("nested", [{"content": "a"}, ["a"], [[[[[[[[[[]]]]]]]]]], [[[[[[[[[{}]]]]]]]]]])
def test_text_anywhere_in_an_event_of_another_API_is_not_passed_over(nested: Any) -> None:
    for name in ("choices", "response"):
        assert type(failure(*token_events("a", "b")[:1], event({name: nested}))) is UnexpectedResponseError


@pytest.mark.parametrize(
    "odd",
    [
        {"token": {"text": "b"}},
        {"token": {"id": None, "text": "b", "special": None, "logprob": "x"}},
        {"token": {"id": "x", "text": "b"}, "index": "x", "top_tokens": [[{"id": 1}], None]},
        {"token": "b"},
        {"token": [{"id": 2, "text": "b"}]},
        {"token": {"id": 2, "text": "b"}, "top_tokens": None, "details": {}},
        {"token": {"id": 2, "text": "b"}, "details": []},
        {"token": {"id": 2, "text": "b"}, "details": {"finish_reason": None, "generated_tokens": 2}},
        {"token": {"id": 2, "text": "b"}, "generated_text": False},
        [{"token": {"id": 2, "text": "b"}}],
    ],
)
def test_the_text_of_an_unusual_token_is_handed_on(odd: Any) -> None:
    items, error = texts([token_event(1, "a"), event(odd), final_event(3, "c", "abc")])
    assert (items, error) == (["a", "b", "c"], None)


@pytest.mark.parametrize(("text", "expected"), [(None, ""), (5, "5"), (1.5, "1.5")])
def test_a_token_without_text_is_still_a_token(text: Any, expected: str) -> None:
    items, error = texts([event({"token": {"id": 1, "text": text}}), final_event(2, "c", "c")])
    assert (items, error) == ([expected, "c"], None)


@pytest.mark.parametrize(
    ("last", "generated_text", "reason"),
    [
        ({"token": None, "generated_text": "ab", "details": {"finish_reason": "eos_token"}}, "ab", "eos_token"),
        ({"generated_text": "ab"}, "ab", None),
        ({"token": {"text": ""}, "generated_text": 42}, "42", None),
        ({"token": {"text": ""}, "generated_text": "ab", "details": []}, "ab", None),
        ({"token": {"text": ""}, "generated_text": "ab",
          "details": {"finish_reason": "length", "generated_tokens": "x", "seed": [], "prefill": None}},
         "ab", "length"),
        ({"details": {"finish_reason": "length", "generated_tokens": 2}}, "a", "length"),
    ],
)  # fmt: skip
def test_an_unusual_last_event_is_the_last(last: dict[str, Any], generated_text: str, reason: str | None) -> None:
    decoder, accumulator = TGIStreamDecoder(), TextAccumulator()
    accumulator.add(decoder.feed(token_event(1, "a")))
    accumulator.add(decoder.feed(event(last)))
    assert decoder.complete
    assert (accumulator.result(), accumulator.finish_reason) == (generated_text, reason)


def test_a_text_that_comes_at_once_is_a_token() -> None:
    """A loop over the stream must show it, too."""
    assert texts([event({"generated_text": "all"})]) == (["all"], None)


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        # Hugging Face's LMI containers
        ({"token": {"id": -1, "text": "", "log_prob": -1, "special_token": True}, "generated_text": "",
          "details": {"finish_reason": "error", "generated_tokens": None}}, IncompleteGenerationError),
        ({"token": {"id": 1, "text": ""}, "error": "CUDA", "error_type": "generation"}, GenerationError),
        ({"token": {"id": 1, "text": ""}, "details": {"finish_reason": "abort"}}, IncompleteGenerationError),
    ],
)  # fmt: skip
def test_an_error_beside_a_token_is_raised(last: dict[str, Any], kind: type[InferenceError]) -> None:
    error = failure(token_event(1, "a"), event(last))
    assert type(error) is kind


def test_a_quotation_is_short() -> None:
    assert len(failure(event(b"x" * 10_000)).message) < 300
    assert len(failure(event("é".encode() * 10_000)).message) < 300


def test_a_deeply_nested_event_is_quoted() -> None:
    assert type(failure(event(b"[" * 5000))) is UnexpectedResponseError


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"a\xffb", "a\ufffdb"), (b"\xe2\x82", "\ufffd"), (b"\xf0\x9f\x99", "\ufffd"), (b"\xc3\x28", "\ufffd("),
     ("é".encode("latin-1"), "\ufffd")],
)  # fmt: skip
def test_invalid_UTF_8_in_a_token_is_replaced(raw: bytes, text: str) -> None:
    token = token_event(1, "@").replace(b"@", raw)
    for chunks in divisions(token + final_event(2, "b", "b")):
        assert texts(chunks) == ([text, "b"], None)


@pytest.mark.parametrize(
    ("logprob", "value"), [("null", None), ("-0.5", -0.5), ("0.0", 0.0), ("-Infinity", float("-inf"))]
)
def test_any_logprob_is_accepted(logprob: str, value: float | None) -> None:
    token = token_event(1, "a", logprob=-7).replace(b"-7", logprob.encode())
    [response] = decode_all(TGIStreamDecoder(), [token, final_event(2, "b", "b")])[0][:1]
    assert response.token.logprob == value


def test_an_event_may_have_its_JSON_over_several_lines() -> None:
    pretty = json.dumps(json.loads(token_event(1, "a")[6:]), indent=2).replace("\n", "\ndata: ")
    assert texts([f"data: {pretty}\n\n".encode(), final_event(2, "b", "ab")]) == (["a", "b"], None)


def test_an_event_without_end_raises_after_the_items_before_it() -> None:
    megabyte = b"x" * 2**20
    items, error = texts([token_event(1, "a"), b"data: ", *[megabyte] * 17])
    assert items == ["a"]
    assert type(error) is UnexpectedResponseError
    assert "larger than" in error.message
    items, error = texts([token_event(1, "a") + b"data: " + megabyte * 17, token_event(2, "b")])
    assert items == ["a"]
    assert type(error) is UnexpectedResponseError


def test_a_decoder_that_raised_is_freed_without_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        decoder = TGIStreamDecoder()
        gone = weakref.ref(decoder)
        decode_all(decoder, [event(OVERLOADED)])
        del decoder
        assert gone() is None
    finally:
        gc.enable()


# --- Bodies that are not a stream, but have its content type ---------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 7, 10_000])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_JSON_error_with_the_content_type_of_a_stream_is_that_error(cut: int, indent: int | None) -> None:
    body = json.dumps({"error": "Input validation error: bad", "error_type": "validation"}, indent=indent).encode()
    error = failure(*(body[position : position + cut] for position in range(0, len(body), cut)))
    assert type(error) is ValidationError
    assert error.message == "Input validation error: bad"


def test_a_long_JSON_error_with_the_content_type_of_a_stream_is_that_error() -> None:
    words = "Input validation error: " + "x" * 300
    error = failure(json.dumps({"error": words, "error_type": "validation"}).encode())
    assert type(error) is ValidationError
    assert error.message == words


@pytest.mark.parametrize(
    "body", [b"<html>Hello</html>", b"<!DOCTYPE html>\n\n<html>", b'{"generated_text": "x"}', b"[1, 2]"]
)
def test_a_page_with_the_content_type_of_a_stream_is_quoted(body: bytes) -> None:
    for chunks in divisions(body):
        error = failure(*chunks)
        assert type(error) is UnexpectedResponseError
        assert body.decode().split()[0] in error.message
