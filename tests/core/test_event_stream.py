"""What all streams have in common: errors wherever they are, and events that are passed over.

Each case runs on the three decoders: TGI's, chats and completions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from hfstream.core.decoders import MAX_ERROR_BODY_SIZE
from hfstream.core.event_stream import EventStreamDecoder
from hfstream.core.stream_decoders import ChatStreamDecoder, CompletionStreamDecoder, TGIStreamDecoder
from hfstream.errors import (
    AuthenticationError,
    BadRequestError,
    IncompleteStreamError,
    InferenceError,
    OverloadedError,
    ServerError,
    UnexpectedResponseError,
)
from hfstream.testing import chat_event, final_event, token_event
from tests.helpers.recordings import DONE, event


@dataclass(frozen=True)
class Kind:
    name: str
    decoder: Callable[[], EventStreamDecoder[Any]]
    tokens: list[bytes]
    """`a` and `b`."""
    last: bytes
    """What completes the stream, with the text `c`."""
    text: Callable[[Any], str]


def _completion(text: str, finish_reason: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "text": text, "finish_reason": finish_reason}]})


KINDS = [
    Kind(
        "TGI",
        TGIStreamDecoder,
        [token_event(1, "a"), token_event(2, "b")],
        final_event(3, "c", "abc"),
        lambda item: str(item.token.text),
    ),
    Kind(
        "chat",
        ChatStreamDecoder,
        [chat_event("a"), chat_event("b")],
        chat_event("c", finish_reason="stop"),
        lambda item: str(item.choices[0].delta.content),
    ),
    Kind(
        "completion",
        CompletionStreamDecoder,
        [_completion("a"), _completion("b")],
        _completion("c", "stop"),
        lambda item: "".join(choice.text for choice in item.choices),
    ),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def read(kind: Kind, *chunks: bytes) -> tuple[str, InferenceError | None]:
    """The text of a body, and the error that it ends with, read as a driver does: at once, and byte by byte."""
    results = [_read(kind, divided) for divided in (chunks, (b"".join(chunks),), _bytes(b"".join(chunks)))]
    assert {(text, repr(error)) for text, error in results} == {(results[0][0], repr(results[0][1]))}
    return results[0]


def _bytes(body: bytes) -> tuple[bytes, ...]:
    return tuple(body[position : position + 1] for position in range(len(body)))


def _read(kind: Kind, chunks: tuple[bytes, ...]) -> tuple[str, InferenceError | None]:
    decoder, items = kind.decoder(), list[Any]()
    error = None
    try:
        for chunk in chunks:
            items += decoder.feed(chunk)
            if decoder.done:
                break
        items += decoder.finish()
    except InferenceError as raised:
        error = raised
    return "".join(map(kind.text, items)), error


# --- Passed over -----------------------------------------------------------------------------------------------------

PASSED_OVER: list[Any] = [
    {}, {"type": "ping"}, {"message": "queued"}, {"status": "processing"}, {"cost": 0.1}, {"citations": ["u"]},
    {"warning": "provider_did_not_report_usage_on_stream"}, {"message": "Success", "code": 0}, {"error": None},
    {"error": {}}, {"error": {"code": None, "message": ""}}, {"error": None, "error_type": None},
    {"base_resp": {"status_code": 0, "status_msg": ""}}, {"usage": 5}, {"event": "heartbeat"}, {"id": "x"},
    {"index": 2}, {"choices": []}, {"token": None}, {"content": ""}, None, True, 5, 0, [], "", [5, None],
]  # fmt: skip


@pytest.mark.parametrize("payload", PASSED_OVER, ids=json.dumps)
def test_an_event_without_content_is_passed_over(kind: Kind, payload: Any) -> None:
    odd = event(json.dumps(payload))
    assert read(kind, odd, kind.tokens[0], odd, kind.tokens[1], odd, kind.last) == ("abc", None)
    assert type(read(kind, kind.tokens[0], odd)[1]) in (IncompleteStreamError, ServerError)


@pytest.mark.parametrize("name", ["hermes.tool.progress", "ping", "tool"])
@pytest.mark.parametrize("payload", ['{"error": "of a tool"}', '{"content": "of a tool"}', "nonsense", "{"])
def test_an_event_of_another_type_is_passed_over(kind: Kind, name: str, payload: str) -> None:
    other = event(payload, f"event: {name}\ndata: ".encode())
    assert read(kind, kind.tokens[0], other, kind.tokens[1], kind.last) == ("abc", None)


def test_what_is_framed_or_encoded_in_another_way_is_read(kind: Kind) -> None:
    first, second, last = (each[6:].strip() for each in (*kind.tokens, kind.last))
    for body in (
        [b"data: data: %b\n\n" % each for each in (first, second, last)],
        [b"data: %b\n\n" % json.dumps(each.decode()).encode() for each in (first, second, last)],
        [b"data: [%b]\n\n" % first, b"data: [%b,%b]\n\n" % (second, last)],
        [b"data: %b\ndata: %b\ndata: %b\n\n" % (first, second, last)],
        [b"data: %b\ndata: data: %b\n\n" % (first, second), kind.last],
        [b"data: %b\ndata: %b\ndata: %b\ndata: [DONE]\ndata: %b\n\n" % (first, second, last, first)],
        [b"event: chunk\ndata: %b\n\n" % each for each in (first, second, last)],
        [b"data: \xef\xbb\xbf%b\n\n" % each for each in (first, second, last)],
    ):
        assert read(kind, *body) == ("abc", None)


@pytest.mark.parametrize("payload", ['"text"', "queued", "{", "Internal Server Error", '{"response": "a"}', "data: x"])
def test_what_may_be_text_is_not_passed_over(kind: Kind, payload: str) -> None:
    text, error = read(kind, kind.tokens[0], event(payload), kind.tokens[1], kind.last)
    assert (text, type(error)) == ("a", UnexpectedResponseError)


# --- A message that may be an error ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"", DONE])
def test_a_message_is_an_error_if_the_stream_ends_there(kind: Kind, end: bytes) -> None:
    for before in ([], kind.tokens):
        text, error = read(kind, *before, event({"message": "boom"}), end)
        assert (text, type(error), str(error)) == ("ab"[: len(before)], ServerError, "boom")


def test_a_message_after_which_content_came_is_no_error(kind: Kind) -> None:
    text, error = read(kind, event({"message": "queued"}), kind.tokens[0])
    assert (text, type(error)) == ("a", IncompleteStreamError)


def test_a_message_that_has_a_mark_of_an_error_is_one_at_once(kind: Kind) -> None:
    failed = event({"message": "boom", "status": "error"})
    assert read(kind, kind.tokens[0], failed, kind.tokens[1], kind.last)[0] == "a"


# --- Errors outside of events ----------------------------------------------------------------------------------------

UNFRAMED: list[tuple[bytes, type[InferenceError], str]] = [
    # llama.cpp until late 2025
    (b'error: {"code":400,"message":"too long","type":"invalid_request_error"}\n\n', BadRequestError, "too long"),
    (b'error: {"error":{"code":400,"message":"too long"}}\n\n', BadRequestError, "too long"),
    (b"error: the slot is gone\n\n", ServerError, "the slot is gone"),
    (b'error:"gone"\n\n', ServerError, "gone"),
    # JSON without `data:`
    (b'{"error":{"message":"boom","code":429}}', OverloadedError, "boom"),
    (b'{"error":{"message":"boom","code":401}}\n', AuthenticationError, "boom"),
    (b'{"detail":"boom"}\n\n', ServerError, "boom"),
    (b'{\n  "error": {\n    "message": "boom",\n    "code": 400\n  }\n}\n', BadRequestError, "boom"),
    (b'{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}', BadRequestError,
     "insufficient balance"),
    (b'<!-- x -->\n{"error":"boom"}\n\n', ServerError, "boom"),
    # An event that its server did not complete
    (b'data: {"error":{"message":"cut","code":400}}', BadRequestError, "cut"),
    (b'event: error\ndata: {"error":{"message":"cut","code":400}}\n', BadRequestError, "cut"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "expected", "words"), UNFRAMED)
@pytest.mark.parametrize("before", ["", "comment", "role", "tokens"])
def test_an_error_outside_of_an_event_is_raised(
    kind: Kind, before: str, raw: bytes, expected: type[InferenceError], words: str
) -> None:
    head = {"": b"", "comment": b": hi\n\n", "role": event({"choices": []}), "tokens": b"".join(kind.tokens)}[before]
    text, error = read(kind, head, raw)
    assert (text, type(error), str(error)) == ("ab" if before == "tokens" else "", expected, words)


@pytest.mark.parametrize("rest", ["", "token", "done"])
def test_such_an_error_ends_the_stream(kind: Kind, rest: str) -> None:
    after = {"": b"", "token": kind.last, "done": DONE}[rest]
    text, error = read(kind, kind.tokens[0], UNFRAMED[0][0] + after)
    assert (text, str(error)) == ("a", "too long")


@pytest.mark.parametrize("line", [b"error:", b"error: null", b"error", b"foo: bar", b"{", b'{"a": 1}', b"5", b"<br>"])
def test_other_lines_are_ignored_as_the_standard_says(kind: Kind, line: bytes) -> None:
    body = [kind.tokens[0], line + b"\n\n", kind.tokens[1], line + b"\n" + kind.last]
    assert read(kind, *body) == ("abc", None)


def test_a_page_after_a_chunk_without_content_is_quoted() -> None:
    _, error = read(KINDS[1], chat_event("", role="assistant"), b"<html>504 Gateway Time-out</html>\n")
    assert type(error) is UnexpectedResponseError
    assert "504 Gateway" in error.message


def test_what_is_kept_of_other_lines_is_bounded(kind: Kind) -> None:
    decoder = kind.decoder()
    for _ in range(40):
        decoder.feed(b"x" * 2**16 + b"\n\n")
    assert len(vars(decoder)["_unframed"]) == MAX_ERROR_BODY_SIZE


def test_a_resumed_stream_begins_without_what_was_cut_off(kind: Kind) -> None:
    decoder = kind.decoder()
    decoder.feed(b"id: 1\n" + kind.tokens[0] + b"id: 2\n<html>\n")
    decoder.resume()
    assert decoder.last_event_id == "1"
    items = decoder.feed(b"id: 2\n" + kind.tokens[1] + b"id: 3\n" + kind.last)
    assert "".join(map(kind.text, items)) == "bc"
    assert decoder.finish() == []
