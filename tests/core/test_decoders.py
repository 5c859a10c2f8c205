"""The choice of a decoder, JSON bodies and error responses, from bytes alone: no client, no clock, no network."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from hfstream.core.decoders import MAX_ERROR_BODY_SIZE, ErrorDecoder, JSONBodyDecoder, select_decoder
from hfstream.core.stream_decoders import TGIStreamDecoder
from hfstream.errors import (
    AuthenticationError,
    GenerationError,
    InferenceError,
    OverloadedError,
    ServerError,
    UnexpectedResponseError,
    ValidationError,
)
from hfstream.testing import token_events
from tests.helpers.decoding import EVENT_STREAM, OVERLOADED, decode_all, divisions

# --- Which decoder fits a response -----------------------------------------------------------------------------------


def reject(_: bytes) -> list[Any]:
    raise ValueError


@pytest.mark.parametrize("status", [100, 199, 300, 304, 307, 400, 401, 404, 429, 500, 503, 599])
@pytest.mark.parametrize("streamed", [True, False])
def test_any_failing_status_gets_the_error_decoder(status: int, streamed: bool) -> None:
    assert isinstance(select_decoder(status, EVENT_STREAM, TGIStreamDecoder, streamed=streamed), ErrorDecoder)


@pytest.mark.parametrize("status", [200, 201, 206, 299])
@pytest.mark.parametrize(
    "kind",
    ["text/event-stream", "text/event-stream; charset=latin-1", " Text/Event-Stream ;x", "TEXT/EVENT-STREAM", ""],
)
def test_the_charset_of_an_event_stream_is_ignored(status: int, kind: str) -> None:
    assert isinstance(select_decoder(status, {"content-type": kind}, TGIStreamDecoder, streamed=True), TGIStreamDecoder)
    headers = httpx.Headers({"Content-Type": kind})
    assert isinstance(select_decoder(status, headers, TGIStreamDecoder, streamed=True), TGIStreamDecoder)


def test_a_missing_content_type_is_accepted_for_a_stream() -> None:
    assert isinstance(select_decoder(200, {}, TGIStreamDecoder, streamed=True), TGIStreamDecoder)


@pytest.mark.parametrize(
    "kind", ["text/html", "application/json", "text/plain", "text/event-streams", "application/x-ndjson"]
)
def test_another_content_type_for_a_stream_raises_with_the_body(kind: str) -> None:
    decoder = select_decoder(200, {"content-type": kind}, TGIStreamDecoder, streamed=True)
    items, error = decode_all(decoder, [b"<html>", b"Hello"])
    assert items == []
    assert type(error) is UnexpectedResponseError
    assert kind in error.message
    assert "'<html>Hello'" in error.message
    assert error.response_body == "<html>Hello"


WRONG_TYPES = (
    "text/plain", "application/octet-stream", "application/json", "text/html; charset=UTF-8", "x",
)  # fmt: skip
STARTS = (
    b"",
    b"\xef\xbb\xbf",
    b"\n\n",
    b"\r\n",
    b": hi\n\n",
    b":\n\n",
    b"retry: 5\n\n",
    b"id: 7\n",
    b"event: message\n",
)


@pytest.mark.parametrize("kind", WRONG_TYPES)
@pytest.mark.parametrize("start", STARTS)
def test_an_event_stream_under_another_name_is_read(kind: str, start: bytes) -> None:
    """openai's client never looks at the type: a stream that it reads is read here as well."""
    body = start + b"".join(token_events("a", "b"))
    for chunks in divisions(body[:30]):
        decoder = select_decoder(200, {"content-type": kind}, TGIStreamDecoder, streamed=True)
        items, error = decode_all(decoder, [*chunks, body[30:]])
        assert ([item.token.text for item in items], error) == (["a", "b"], None)


@pytest.mark.parametrize("kind", ["application/json, text/event-stream", "text/event-stream;charset=utf-8,text/plain"])
def test_one_of_several_content_types_is_enough(kind: str) -> None:
    assert isinstance(select_decoder(200, {"content-type": kind}, TGIStreamDecoder, streamed=True), TGIStreamDecoder)


@pytest.mark.parametrize(
    "body",
    [b"", b"\n", b"dat", b"data", b"database: x", b"\xef\xbb", b"upstream busy", b"{}", b"<p>data: x\n\n", b" " * 5000],
)
def test_what_does_not_begin_as_an_event_stream_is_none(body: bytes) -> None:
    decoder = select_decoder(200, {"content-type": "text/plain"}, TGIStreamDecoder, streamed=True)
    items, error = decode_all(decoder, [body])
    assert items == []
    assert type(error) is UnexpectedResponseError
    assert "got text/plain" in error.message


def test_a_sniffed_decoder_is_the_one_it_has_found() -> None:
    decoder = select_decoder(200, {"content-type": "text/plain"}, TGIStreamDecoder, streamed=True)
    events = [b"id: %d\n%b" % (at, event) for at, event in enumerate(token_events("a", "b"), 1)]
    assert len(decoder.feed(events[0])) == 1
    assert (decoder.done, decoder.complete, decoder.content_count, decoder.last_event_id) == (False, False, 1, "1")
    decoder.resume()
    assert len(decoder.feed(events[1])) == 1
    assert (decoder.done, decoder.complete, decoder.content_count, decoder.last_event_id) == (True, True, 2, "2")
    assert decoder.finish() == []


@pytest.mark.parametrize("kind", ["text/html", "application/json", "text/plain"])
def test_the_content_type_of_a_response_without_streaming_is_ignored(kind: str) -> None:
    decoder = select_decoder(200, {"content-type": kind}, lambda: JSONBodyDecoder(lambda body: [body]), streamed=False)
    assert decode_all(decoder, [b"a", b"b"]) == ([b"ab"], None)


def test_a_200_that_is_a_JSON_error_is_that_error() -> None:
    decoder = select_decoder(200, {"content-type": "application/json"}, TGIStreamDecoder, streamed=True)
    error = decode_all(decoder, [json.dumps(OVERLOADED).encode()])[1]
    assert type(error) is OverloadedError
    assert (error.message, error.status_code) == ("Model is overloaded", 429)


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


# --- A JSON body -----------------------------------------------------------------------------------------------------


def test_a_JSON_body_is_joined_and_parsed_at_its_end() -> None:
    decoder = JSONBodyDecoder(lambda body: [json.loads(body)])
    for chunk in divisions(b'{"a": "\xc3\xa9"}'):
        assert decode_all(JSONBodyDecoder(lambda body: [json.loads(body)]), chunk) == ([{"a": "é"}], None)
    assert not decoder.done
    assert not decoder.complete


@pytest.mark.parametrize("body", [b"<html>no</html>", b"", b"{", b"\xff"])
def test_a_JSON_body_that_cannot_be_parsed_is_quoted(body: bytes) -> None:
    error = decode_all(JSONBodyDecoder(lambda body: [json.loads(body)]), [body])[1]
    assert type(error) is UnexpectedResponseError
    assert isinstance(error.__cause__, ValueError)
    assert (body.decode("utf-8", "replace") or "an empty body") in error.message


@pytest.mark.parametrize(("payload", "kind", "words"), SHAPES)
def test_a_JSON_body_that_is_an_error_is_raised_as_that(payload: Any, kind: type[InferenceError], words: str) -> None:
    error = decode_all(JSONBodyDecoder(reject), [json.dumps(payload).encode()])[1]
    assert type(error) is kind
    assert error.message == words


def test_a_deeply_nested_JSON_body_is_quoted() -> None:
    assert type(decode_all(JSONBodyDecoder(reject), [b"[" * 5000])[1]) is UnexpectedResponseError


def test_a_JSON_body_without_end_raises() -> None:
    decoder, megabyte = JSONBodyDecoder(reject), b"x" * 2**22
    with pytest.raises(UnexpectedResponseError, match="larger than"):
        for _ in range(17):
            decoder.feed(megabyte)


# --- An error response -----------------------------------------------------------------------------------------------


def test_an_error_response_is_raised_with_its_message() -> None:
    headers = {"retry-after": "3", "x-request-id": "r-1"}
    for chunks in divisions(json.dumps(OVERLOADED).encode()):
        items, error = decode_all(ErrorDecoder(429, headers), chunks)
        assert items == []
        assert type(error) is OverloadedError
        assert (error.message, error.status_code, error.retry_after, error.request_id) == (
            "Model is overloaded", 429, 3.0, "r-1",
        )  # fmt: skip


def test_an_error_response_without_a_body_has_a_helpful_message() -> None:
    error = decode_all(ErrorDecoder(401, {}), [])[1]
    assert type(error) is AuthenticationError
    assert "token" in error.message


def test_an_error_response_without_end_is_read_up_to_the_limit() -> None:
    decoder, fed = ErrorDecoder(500, {}), 0
    while not decoder.done:
        decoder.feed(b"x" * 1000)
        fed += 1000
        assert fed <= MAX_ERROR_BODY_SIZE + 1000
    with pytest.raises(ServerError):
        decoder.finish()
    assert not decoder.complete


@pytest.mark.parametrize("size", [3, 2**20])
def test_after_resume_only_the_new_body_counts(size: int) -> None:
    decoder = JSONBodyDecoder(lambda body: [body])
    for _ in range(70):  # together more than the limit on one body
        decoder.feed(b"x" * size)
        decoder.resume()
    decoder.feed(b"ab")
    assert decoder.finish() == [b"ab"]
    error_decoder = ErrorDecoder(429, {})
    error_decoder.feed(b"lost")
    error_decoder.resume()
    error_decoder.feed(json.dumps(OVERLOADED).encode())
    with pytest.raises(OverloadedError, match=r"^Model is overloaded$"):
        error_decoder.finish()
