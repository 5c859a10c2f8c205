"""How an answer is read, from its bytes alone: no client, no clock, no network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import pytest

from hfstream.core.decoders import MAX_ERROR_BODY_SIZE, ErrorDecoder, JSONBodyDecoder, ResponseDecoder, select_decoder
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

EVENT_STREAM = {"content-type": "text/event-stream"}
OVERLOADED = {"error": "Model is overloaded", "error_type": "overloaded"}


def event(payload: Any, head: bytes = b"data: ") -> bytes:
    return head + (payload if isinstance(payload, bytes) else json.dumps(payload).encode()) + b"\n\n"


def hear(reply: ResponseDecoder[Any], pieces: Iterable[bytes]) -> tuple[list[Any], InferenceError | None]:
    """What a reply says of a body, and the error that it ends with: as a driver reads it."""
    said: list[Any] = []
    try:
        for piece in pieces:
            said += reply.feed(piece)
            if reply.done:
                break
        said += reply.finish()
    except InferenceError as error:
        return said, error
    return said, None


def cuts(wire: bytes) -> Iterator[list[bytes]]:
    yield [wire]
    yield [wire[place : place + 1] for place in range(len(wire))]
    for place in range(1, len(wire)):
        yield [wire[:place], wire[place:]]


# --- Which reply fits ------------------------------------------------------------------------------------------------


def no_answer(_: bytes) -> list[Any]:
    raise ValueError


@pytest.mark.parametrize("status", [100, 199, 300, 304, 307, 400, 401, 404, 429, 500, 503, 599])
@pytest.mark.parametrize("streamed", [True, False])
def test_any_status_but_a_successful_one_is_a_refusal(status: int, streamed: bool) -> None:
    assert isinstance(select_decoder(status, EVENT_STREAM, TGIStreamDecoder, streamed=streamed), ErrorDecoder)


@pytest.mark.parametrize("status", [200, 201, 206, 299])
@pytest.mark.parametrize(
    "kind",
    ["text/event-stream", "text/event-stream; charset=latin-1", " Text/Event-Stream ;x", "TEXT/EVENT-STREAM", ""],
)
def test_an_event_stream_is_one_whatever_its_charset(status: int, kind: str) -> None:
    assert isinstance(select_decoder(status, {"content-type": kind}, TGIStreamDecoder, streamed=True), TGIStreamDecoder)
    headers = httpx.Headers({"Content-Type": kind})
    assert isinstance(select_decoder(status, headers, TGIStreamDecoder, streamed=True), TGIStreamDecoder)


def test_a_server_may_forget_to_say_that_it_streams() -> None:
    assert isinstance(select_decoder(200, {}, TGIStreamDecoder, streamed=True), TGIStreamDecoder)


@pytest.mark.parametrize(
    "kind", ["text/html", "application/json", "text/plain", "text/event-streams", "application/x-ndjson"]
)
def test_what_is_no_event_stream_is_read_whole_and_refused(kind: str) -> None:
    reply = select_decoder(200, {"content-type": kind}, TGIStreamDecoder, streamed=True)
    said, error = hear(reply, [b"<html>", b"Hello"])
    assert said == []
    assert type(error) is UnexpectedResponseError
    assert kind in error.message
    assert "'<html>Hello'" in error.message
    assert error.response_body == "<html>Hello"


@pytest.mark.parametrize("kind", ["text/html", "application/json", "text/plain"])
def test_an_answer_in_one_piece_may_call_itself_what_it_likes(kind: str) -> None:
    reply = select_decoder(200, {"content-type": kind}, lambda: JSONBodyDecoder(lambda body: [body]), streamed=False)
    assert hear(reply, [b"a", b"b"]) == ([b"ab"], None)


def test_a_200_that_is_a_JSON_error_is_that_error() -> None:
    reply = select_decoder(200, {"content-type": "application/json"}, TGIStreamDecoder, streamed=True)
    error = hear(reply, [json.dumps(OVERLOADED).encode()])[1]
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


# --- An answer in one piece ------------------------------------------------------------------------------------------


def test_a_document_is_joined_and_parsed_at_its_end() -> None:
    document = JSONBodyDecoder(lambda body: [json.loads(body)])
    for piece in cuts(b'{"a": "\xc3\xa9"}'):
        assert hear(JSONBodyDecoder(lambda body: [json.loads(body)]), piece) == ([{"a": "é"}], None)
    assert not document.done
    assert not document.complete


@pytest.mark.parametrize("body", [b"<html>no</html>", b"", b"{", b"\xff"])
def test_a_document_that_cannot_be_parsed_is_quoted(body: bytes) -> None:
    error = hear(JSONBodyDecoder(lambda body: [json.loads(body)]), [body])[1]
    assert type(error) is UnexpectedResponseError
    assert isinstance(error.__cause__, ValueError)
    assert (body.decode("utf-8", "replace") or "an empty body") in error.message


@pytest.mark.parametrize(("payload", "kind", "words"), SHAPES)
def test_a_document_that_is_an_error_is_raised_as_that(payload: Any, kind: type[InferenceError], words: str) -> None:
    error = hear(JSONBodyDecoder(no_answer), [json.dumps(payload).encode()])[1]
    assert type(error) is kind
    assert error.message == words


def test_a_document_that_is_nested_without_end_is_quoted() -> None:
    assert type(hear(JSONBodyDecoder(no_answer), [b"[" * 5000])[1]) is UnexpectedResponseError


def test_an_endless_document_is_refused() -> None:
    document, mega = JSONBodyDecoder(no_answer), b"x" * 2**22
    with pytest.raises(UnexpectedResponseError, match="larger than"):
        for _ in range(17):
            document.feed(mega)


# --- A refusal -------------------------------------------------------------------------------------------------------


def test_a_refusal_reads_its_body_and_raises() -> None:
    headers = {"retry-after": "3", "x-request-id": "r-1"}
    for pieces in cuts(json.dumps(OVERLOADED).encode()):
        said, error = hear(ErrorDecoder(429, headers), pieces)
        assert said == []
        assert type(error) is OverloadedError
        assert (error.message, error.status_code, error.retry_after, error.request_id) == (
            "Model is overloaded", 429, 3.0, "r-1",
        )  # fmt: skip


def test_a_refusal_without_a_body_says_what_to_do() -> None:
    error = hear(ErrorDecoder(401, {}), [])[1]
    assert type(error) is AuthenticationError
    assert "token" in error.message


def test_an_endless_refusal_is_read_no_further_than_an_error_can_say() -> None:
    refusal, fed = ErrorDecoder(500, {}), 0
    while not refusal.done:
        refusal.feed(b"x" * 1000)
        fed += 1000
        assert fed <= MAX_ERROR_BODY_SIZE + 1000
    with pytest.raises(ServerError):
        refusal.finish()
    assert not refusal.complete
