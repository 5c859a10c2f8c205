"""Errors, to the wire and from the wire: whatever a server writes becomes the right class with the server's words."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfstream.errors import (
    AuthenticationError,
    BadRequestError,
    GenerationError,
    IncompleteGenerationError,
    InferenceError,
    NotFoundError,
    OverloadedError,
    ServerError,
    UnexpectedResponseError,
    UnknownError,
    ValidationError,
)
from hfstream.errors.response_bodies import from_event, from_response, to_response

Class = type[InferenceError]


def all_classes(base: Class = InferenceError) -> Iterator[Class]:
    yield base
    for kind in base.__subclasses__():
        if kind.__module__.startswith("hfstream") and not kind.__module__.startswith(
            "hfstream.server"
        ):  # it has its own
            yield from all_classes(kind)


CLASSES = list(all_classes())


def body(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


# --- From the wire ---------------------------------------------------------------------------------------------------


class Wire(NamedTuple):
    """A response, and the error that it stands for."""

    status: int
    body: Any
    kind: Class
    words: str
    error_type: str | None = None


OPENAI_LIMIT = {"message": "Rate limit reached", "type": "tokens", "param": None, "code": "rate_limit_exceeded"}
FASTAPI = [
    {"type": "missing", "loc": ["body", "inputs"], "msg": "Field required", "input": None},
    {"type": "int_parsing", "loc": ["body", "n", 0], "msg": "not a number", "input": "x"},
]
WIRES = [
    # TGI's own
    Wire(422, {"error": "Input validation error: bad", "error_type": "validation"}, ValidationError,
         "Input validation error: bad", "validation"),
    Wire(422, {"error": "Template error: t", "error_type": "template_error"}, ValidationError, "Template error: t",
         "template_error"),
    Wire(422, {"error": "Tool error: t", "error_type": "tool_error"}, ValidationError, "Tool error: t", "tool_error"),
    Wire(422, {"error": "m", "error_type": "missing_template_variable"}, ValidationError, "m",
         "missing_template_variable"),
    Wire(429, {"error": "Model is overloaded", "error_type": "overloaded"}, OverloadedError, "Model is overloaded",
         "overloaded"),
    Wire(424, {"error": "Request failed during generation: Server error: x", "error_type": "generation"},
         GenerationError, "Request failed during generation: Server error: x", "generation"),
    Wire(500, {"error": "Incomplete generation", "error_type": "incomplete_generation"}, IncompleteGenerationError,
         "Incomplete generation", "incomplete_generation"),
    Wire(500, {"error": "Incomplete generation stream", "error_type": "incomplete_generation_stream"},
         IncompleteGenerationError, "Incomplete generation stream", "incomplete_generation_stream"),
    Wire(422, {"error": "s", "error_type": "suffix not supported"}, UnknownError, "s", "suffix not supported"),
    Wire(500, {"error": "h", "error_type": "headers"}, UnknownError, "h", "headers"),
    Wire(503, {"error": "unhealthy", "error_type": "healthcheck"}, OverloadedError, "unhealthy", "healthcheck"),
    Wire(422, b"Failed to deserialize the JSON body into the target type: x", ValidationError,
         "Failed to deserialize the JSON body into the target type: x", "validation"),
    Wire(400, b"Failed to parse the request body as JSON: x", BadRequestError,
         "Failed to parse the request body as JSON: x"),
    Wire(415, b"Expected request with `Content-Type: application/json`", BadRequestError,
         "Expected request with `Content-Type: application/json`"),
    Wire(413, b"", BadRequestError, "HTTP 413"),
    Wire(401, b"", AuthenticationError, "HTTP 401"),
    Wire(404, b"", NotFoundError, "HTTP 404"),
    Wire(405, b"", BadRequestError, "HTTP 405"),
    # The type counts before the words, the words before the number
    Wire(500, {"error": "Model is overloaded", "error_type": "validation"}, ValidationError, "Model is overloaded",
         "validation"),
    Wire(500, {"error": "Model is overloaded"}, OverloadedError, "Model is overloaded", "overloaded"),
    Wire(422, {"error": "Model is overloaded"}, OverloadedError, "Model is overloaded"),
    Wire(500, {"error": "Input validation error: x"}, ValidationError, "Input validation error: x"),
    Wire(400, {"error": {"message": "busy", "type": "overloaded_error"}}, OverloadedError, "busy", "overloaded_error"),
    Wire(422, {"error": "the Model is overloaded with work"}, ValidationError, "the Model is overloaded with work"),
    # Statuses alone
    *(Wire(status, {"error": "words"}, kind, "words") for status, kind in [
        (400, BadRequestError), (401, AuthenticationError), (402, BadRequestError), (403, AuthenticationError),
        (404, NotFoundError), (408, BadRequestError), (409, BadRequestError), (410, BadRequestError),
        (422, ValidationError), (424, GenerationError), (429, OverloadedError), (451, BadRequestError),
        (500, ServerError), (501, ServerError), (502, ServerError), (503, OverloadedError), (504, ServerError),
        (520, ServerError), (529, OverloadedError),
    ]),
    # Others' shapes
    Wire(400, {"error": {"message": "m", "type": "invalid_request_error", "code": None}}, BadRequestError, "m",
         "invalid_request_error"),
    Wire(429, {"error": OPENAI_LIMIT}, OverloadedError, "Rate limit reached", "tokens"),
    Wire(400, {"error": OPENAI_LIMIT}, OverloadedError, "Rate limit reached", "tokens"),
    Wire(529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, OverloadedError,
         "Overloaded", "overloaded_error"),
    Wire(500, {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}, OverloadedError, "slow"),
    Wire(404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404},
         NotFoundError, "The model `x` does not exist.", "NotFoundError"),
    Wire(400, {"object": "error", "message": "m", "type": "BadRequestError", "param": None, "code": 400},
         BadRequestError, "m", "BadRequestError"),
    Wire(422, {"error": ["a is wrong", "b is wrong"]}, ValidationError, "a is wrong; b is wrong"),
    Wire(400, {"error": ["Error in `parameters.top_p`: must be less than 1"], "warnings": ["w"]}, BadRequestError,
         "Error in `parameters.top_p`: must be less than 1"),
    Wire(503, {"error": "Model x is currently loading", "estimated_time": 20.0}, OverloadedError,
         "Model x is currently loading"),
    Wire(404, {"detail": "Not Found"}, NotFoundError, "Not Found"),
    Wire(422, {"detail": FASTAPI}, ValidationError, "body.inputs: Field required; body.n.0: not a number",
         "validation"),
    Wire(403, {"message": "Forbidden"}, AuthenticationError, "Forbidden"),
    Wire(500, {"message": "Internal", "error": None}, ServerError, "Internal"),
    Wire(400, [{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}], BadRequestError, "m"),
    Wire(400, ["a", "b"], BadRequestError, "a; b"),
    Wire(400, "just a string", BadRequestError, "just a string"),
    Wire(500, b"plain words\n", ServerError, "plain words"),
    Wire(502, b"<html>\n<head><title>502 Bad Gateway</title></head></html>", ServerError, "HTTP 502"),
    Wire(404, b"\n<!DOCTYPE html><p>nothing here", NotFoundError, "HTTP 404"),
    Wire(500, {"error": "x", "error_type": None}, ServerError, "x"),
    Wire(500, {"error": "x", "error_type": 5}, ServerError, "x"),
    Wire(500, {"error": {"message": "x", "code": {"a": 1}, "type": ["b"]}}, ServerError, "x"),
    Wire(500, {"error": {"message": "m", "code": 429}}, ServerError, "m"),
    Wire(500, b"\xff\xfe", ServerError, "\ufffd\ufffd"),
    Wire(500, {"error": {"reason": "odd"}}, ServerError, '{"reason": "odd"}'),
    Wire(500, b"null", ServerError, "HTTP 500"),
    Wire(500, b"5", ServerError, "5"),
    Wire(500, b"9" * 5000, ServerError, "9" * 500),
]  # fmt: skip


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: f"{wire.status} {str(wire.body)[:60]}")
def test_a_refusal_becomes_the_right_class_with_the_servers_words(wire: Wire) -> None:
    error = from_response(wire.status, {}, body(wire.body))
    assert type(error) is wire.kind
    assert error.message.startswith(wire.words) if wire.words.startswith("HTTP") else error.message == wire.words
    assert error.status_code == wire.status
    if wire.error_type:
        assert error.error_type == wire.error_type


def test_a_BOM_before_the_JSON_is_no_matter() -> None:
    error = from_response(422, {}, b'\xef\xbb\xbf{"error": "words", "error_type": "validation"}')
    assert error.message == "words"


@pytest.mark.parametrize("status", [301, 304, 307, 308])
def test_a_redirect_keeps_its_status(status: int) -> None:
    error = from_response(status, {"location": "https://elsewhere"}, b"<html>moved")
    assert type(error) is UnexpectedResponseError
    assert error.status_code == status
    assert str(status) in error.message


NESTED = b"[" * 5000 + b"]" * 5000


@pytest.mark.parametrize("wire", [NESTED, b'{"error":' * 5000, b'{"error": ' + b"[" * 700 + b"]" * 700 + b"}"])
def test_a_body_that_is_nested_without_end_is_an_error_like_any_other(wire: bytes) -> None:
    assert type(from_response(500, {}, wire)) is ServerError


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize("silence", [b"", b"  \n", b"null", b'""', b'{"error": [""]}', b"<html></html>", b'[""]'])
def test_a_message_is_never_empty(status: int, silence: bytes) -> None:
    assert from_response(status, {}, silence).message.startswith(f"HTTP {status} without a message")


@pytest.mark.parametrize("silence", [b"{}", b"[]", b'{"error": " "}', b'{"error": {"message": " "}}', b'{"error": {}}'])
def test_a_message_is_never_as_good_as_empty(silence: bytes) -> None:
    assert from_response(400, {}, silence).message.startswith("HTTP 400 without a message")


@pytest.mark.parametrize(("status", "hint"), [(401, "token"), (404, "URL"), (403, "not allowed")])
def test_silence_is_answered_with_advice(status: int, hint: str) -> None:
    assert hint in from_response(status, {}, b"").message


@pytest.mark.parametrize("loc", [None, 5, True])
def test_a_place_that_is_no_list_is_no_matter(loc: Any) -> None:
    error = from_response(422, {}, body({"detail": [{"loc": loc, "msg": "Field required"}]}))
    assert type(error) is ValidationError
    assert "Field required" in error.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "error_type", "message", "detail", "type", "code", "object", "msg"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.integers(400, 599), JSON | st.binary(max_size=30))
@settings(deadline=None, max_examples=300)
def test_nothing_that_a_server_sends_breaks_the_reading_of_it(status: int, value: Any) -> None:
    wire = value if isinstance(value, bytes) else json.dumps(value).encode()
    error = from_response(status, {}, wire)
    assert error.message
    assert error.status_code == status
    assert isinstance(error.error_type, str | None)
    pickle.loads(pickle.dumps(error))
    if not isinstance(value, bytes) and (inside := from_event(value)) is not None:
        assert inside.message
        assert inside.status_code is not None
        assert 400 <= inside.status_code < 1000


# --- From an event of a stream ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "kind", "words", "status"),
    [
        ({"error": "Model is overloaded", "error_type": "overloaded"}, OverloadedError, "Model is overloaded", 429),
        ({"error": "Input validation error: x", "error_type": "validation"}, ValidationError,
         "Input validation error: x", 422),
        ({"error": "Request failed during generation: x", "error_type": "generation"}, GenerationError,
         "Request failed during generation: x", 424),
        ({"error": "Incomplete generation stream", "error_type": "incomplete_generation_stream"},
         IncompleteGenerationError, "Incomplete generation stream", 500),
        ({"error": "Stream event serialization error", "error_type": "stream_serialization_error"}, UnknownError,
         "Stream event serialization error", 500),
        # TGI's OpenAI-shaped events: one number for everything, and the words tell.
        ({"error": {"message": "Model is overloaded", "http_status_code": 422}}, OverloadedError,
         "Model is overloaded", 429),
        ({"error": {"message": "Input validation error: x", "http_status_code": 422}}, ValidationError,
         "Input validation error: x", 422),
        ({"error": {"message": "Request failed during generation: x", "http_status_code": 422}}, GenerationError,
         "Request failed during generation: x", 424),
        ({"error": {"message": "Incomplete generation", "http_status_code": 422}}, IncompleteGenerationError,
         "Incomplete generation", 500),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, OverloadedError,
         "Overloaded", 429),
        ({"error": OPENAI_LIMIT}, OverloadedError, "Rate limit reached", 429),
        ({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}, BadRequestError,
         "too long", 400),
        ({"error": {"message": "m", "type": "BadRequestError", "code": 400}}, BadRequestError, "m", 400),
        ({"error": {"message": "m", "code": 503}}, OverloadedError, "m", 503),
        ({"error": {"message": "m", "code": "504"}}, ServerError, "m", 504),
        ({"error": {"message": "m", "code": 200}}, ServerError, "m", 500),
        ({"error": {"message": "m"}}, ServerError, "m", 500),
        ({"error": "words"}, ServerError, "words", 500),
        ({"error": ["a", "b"]}, ServerError, "a; b", 500),
        ({"detail": "words"}, ServerError, "words", 500),
        ({"detail": FASTAPI}, ServerError, "body.inputs: Field required; body.n.0: not a number", 500),
        ({"message": "words"}, ServerError, "words", 500),
    ],
)  # fmt: skip
def test_an_event_becomes_the_right_class(payload: Any, kind: Class, words: str, status: int) -> None:
    error = from_event(payload)
    assert type(error) is kind
    assert error.message == words
    assert error.status_code == status
    assert error.response_body is not None
    assert json.loads(error.response_body) == payload


@pytest.mark.parametrize(
    "payload",
    [
        None, 5, "error", [], {}, {"error": None}, {"error": ""}, {"choices": []}, {"token": {}, "message": "x"},
        {"choices": [{"message": "x"}], "message": "x"}, {"generated_text": "x", "detail": 1},
        {"error": None, "choices": []},
    ],
)  # fmt: skip
def test_an_answer_is_no_error(payload: Any) -> None:
    assert from_event(payload) is None


@pytest.mark.parametrize(
    "payload",
    [{"error": "", "error_type": "overloaded"}, {"error_type": "overloaded"}, [{"error": "Model is overloaded"}]],
)
def test_an_event_that_names_an_error_is_one(payload: Any) -> None:
    assert type(from_event(payload)) is OverloadedError


def test_passing_failures_say_that_they_may_pass() -> None:
    assert [status for status in range(400, 600) if from_response(status, {}, b"").retryable] == [
        408,
        429,
        502,
        503,
        504,
        529,
    ]
    assert from_event({"error": {"message": "m", "code": 504}}).retryable  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["x-request-id", "request-id", "x-amzn-requestid"])
def test_the_servers_name_for_the_request_is_kept(name: str) -> None:
    assert from_response(500, {name: "r-1"}, b"").request_id == "r-1"
    assert from_response(500, httpx.Headers({name.upper(): "r-1"}), b"").request_id == "r-1"
    assert from_response(500, {}, b"").request_id is None


def test_the_start_of_the_body_is_kept_and_no_more() -> None:
    error = from_response(500, {}, b"x" * 10_000)
    assert error.response_body == "x" * 500
    assert error.message == "x" * 500
    inside = from_event({"error": "x" * 10_000})
    assert inside is not None
    assert inside.response_body is not None
    assert len(inside.response_body) == 500


# --- To the wire and back --------------------------------------------------------------------------------------------

NAMED = [ValidationError, GenerationError, OverloadedError, IncompleteGenerationError]


@pytest.mark.parametrize("kind", NAMED)
@pytest.mark.parametrize("words", ["words", "Model is overloaded", "Input validation error: é🙂\n"])
def test_what_one_end_says_is_what_the_other_hears(kind: Class, words: str) -> None:
    status, told = to_response(kind(words))
    assert told == {"error": words, "error_type": kind.error_type}
    for heard in (from_response(status, {}, json.dumps(told).encode()), from_event(told)):
        assert type(heard) is kind
        assert (heard.message, heard.error_type, heard.status_code) == (words, kind.error_type, kind.status_code)


def test_an_error_type_of_its_own_survives_the_wire() -> None:
    status, told = to_response(ValidationError("words", error_type="template_error"))
    assert (status, told["error_type"]) == (422, "template_error")
    heard = from_response(status, {}, json.dumps(told).encode())
    assert (type(heard), heard.error_type) == (ValidationError, "template_error")
    status, told = to_response(UnknownError("words", error_type="odd", status_code=418))
    heard = from_response(status, {}, json.dumps(told).encode())
    assert (type(heard), heard.error_type, heard.status_code) == (UnknownError, "odd", 418)


@pytest.mark.parametrize("kind", [AuthenticationError, NotFoundError, BadRequestError, ServerError])
def test_errors_without_a_type_are_heard_by_their_status(kind: Class) -> None:
    status, told = to_response(kind("words"))
    assert type(from_response(status, {}, json.dumps(told).encode())) is kind


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_can_be_sent(kind: Class) -> None:
    status, told = to_response(kind("words"))
    assert 400 <= status <= 599
    assert told["error"] == "words"
    heard = from_response(status, {}, json.dumps(told).encode())
    assert heard.message == "words"
