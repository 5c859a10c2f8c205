"""Errors from and to response bodies: every server's format becomes the right class with the server's message."""

from __future__ import annotations

import json
import pickle
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
    NotFoundError,
    OverloadedError,
    ServerError,
    UnexpectedResponseError,
    UnknownError,
    ValidationError,
)
from hfstream.errors.response_bodies import from_event, from_response, to_response
from tests.errors.common import CLASSES, Class


def body(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


# --- From a response -------------------------------------------------------------------------------------------------


class Case(NamedTuple):
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
CASES = [
    # TGI's own
    Case(422, {"error": "Input validation error: bad", "error_type": "validation"}, ValidationError,
         "Input validation error: bad", "validation"),
    Case(422, {"error": "Template error: t", "error_type": "template_error"}, ValidationError, "Template error: t",
         "template_error"),
    Case(422, {"error": "Tool error: t", "error_type": "tool_error"}, ValidationError, "Tool error: t", "tool_error"),
    Case(422, {"error": "m", "error_type": "missing_template_variable"}, ValidationError, "m",
         "missing_template_variable"),
    Case(429, {"error": "Model is overloaded", "error_type": "overloaded"}, OverloadedError, "Model is overloaded",
         "overloaded"),
    Case(424, {"error": "Request failed during generation: Server error: x", "error_type": "generation"},
         GenerationError, "Request failed during generation: Server error: x", "generation"),
    Case(500, {"error": "Incomplete generation", "error_type": "incomplete_generation"}, IncompleteGenerationError,
         "Incomplete generation", "incomplete_generation"),
    Case(500, {"error": "Incomplete generation stream", "error_type": "incomplete_generation_stream"},
         IncompleteGenerationError, "Incomplete generation stream", "incomplete_generation_stream"),
    Case(422, {"error": "s", "error_type": "suffix not supported"}, UnknownError, "s", "suffix not supported"),
    Case(500, {"error": "h", "error_type": "headers"}, UnknownError, "h", "headers"),
    Case(503, {"error": "unhealthy", "error_type": "healthcheck"}, OverloadedError, "unhealthy", "healthcheck"),
    Case(422, b"Failed to deserialize the JSON body into the target type: x", ValidationError,
         "Failed to deserialize the JSON body into the target type: x", "validation"),
    Case(400, b"Failed to parse the request body as JSON: x", BadRequestError,
         "Failed to parse the request body as JSON: x"),
    Case(415, b"Expected request with `Content-Type: application/json`", BadRequestError,
         "Expected request with `Content-Type: application/json`"),
    Case(413, b"", BadRequestError, "HTTP 413"),
    Case(401, b"", AuthenticationError, "HTTP 401"),
    Case(404, b"", NotFoundError, "HTTP 404"),
    Case(405, b"", BadRequestError, "HTTP 405"),
    # The type counts before the words, the words before the number
    Case(500, {"error": "Model is overloaded", "error_type": "validation"}, ValidationError, "Model is overloaded",
         "validation"),
    Case(500, {"error": "Model is overloaded"}, OverloadedError, "Model is overloaded", "overloaded"),
    Case(422, {"error": "Model is overloaded"}, OverloadedError, "Model is overloaded"),
    Case(500, {"error": "Input validation error: x"}, ValidationError, "Input validation error: x"),
    Case(400, {"error": {"message": "busy", "type": "overloaded_error"}}, OverloadedError, "busy", "overloaded_error"),
    Case(422, {"error": "the Model is overloaded with work"}, ValidationError, "the Model is overloaded with work"),
    # Statuses alone
    *(Case(status, {"error": "words"}, kind, "words") for status, kind in [
        (400, BadRequestError), (401, AuthenticationError), (402, BadRequestError), (403, AuthenticationError),
        (404, NotFoundError), (408, BadRequestError), (409, BadRequestError), (410, BadRequestError),
        (422, ValidationError), (424, GenerationError), (429, OverloadedError), (451, BadRequestError),
        (500, ServerError), (501, ServerError), (502, ServerError), (503, OverloadedError), (504, ServerError),
        (520, ServerError), (529, OverloadedError),
    ]),
    # Others' shapes
    Case(400, {"error": {"message": "m", "type": "invalid_request_error", "code": None}}, BadRequestError, "m",
         "invalid_request_error"),
    Case(429, {"error": OPENAI_LIMIT}, OverloadedError, "Rate limit reached", "tokens"),
    Case(400, {"error": OPENAI_LIMIT}, OverloadedError, "Rate limit reached", "tokens"),
    Case(529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, OverloadedError,
         "Overloaded", "overloaded_error"),
    Case(500, {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}, OverloadedError, "slow"),
    Case(404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404},
         NotFoundError, "The model `x` does not exist.", "NotFoundError"),
    Case(400, {"object": "error", "message": "m", "type": "BadRequestError", "param": None, "code": 400},
         BadRequestError, "m", "BadRequestError"),
    Case(422, {"error": ["a is wrong", "b is wrong"]}, ValidationError, "a is wrong; b is wrong"),
    Case(400, {"error": ["Error in `parameters.top_p`: must be less than 1"], "warnings": ["w"]}, BadRequestError,
         "Error in `parameters.top_p`: must be less than 1"),
    Case(503, {"error": "Model x is currently loading", "estimated_time": 20.0}, OverloadedError,
         "Model x is currently loading"),
    Case(404, {"detail": "Not Found"}, NotFoundError, "Not Found"),
    Case(422, {"detail": FASTAPI}, ValidationError, "body.inputs: Field required; body.n.0: not a number",
         "validation"),
    Case(403, {"message": "Forbidden"}, AuthenticationError, "Forbidden"),
    Case(500, {"message": "Internal", "error": None}, ServerError, "Internal"),
    Case(400, [{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}], BadRequestError, "m"),
    Case(400, ["a", "b"], BadRequestError, "a; b"),
    Case(400, "just a string", BadRequestError, "just a string"),
    Case(500, b"plain words\n", ServerError, "plain words"),
    Case(502, b"<html>\n<head><title>502 Bad Gateway</title></head></html>", ServerError, "HTTP 502"),
    Case(404, b"\n<!DOCTYPE html><p>nothing here", NotFoundError, "HTTP 404"),
    Case(500, {"error": "x", "error_type": None}, ServerError, "x"),
    Case(500, {"error": "x", "error_type": 5}, ServerError, "x"),
    Case(500, {"error": {"message": "x", "code": {"a": 1}, "type": ["b"]}}, ServerError, "x"),
    Case(500, {"error": {"message": "m", "code": 429}}, ServerError, "m"),
    # The status in words, beside the message: Spring, NestJS, Fastify
    Case(400, {"timestamp": "t", "status": 400, "error": "Bad Request", "message": "words"}, BadRequestError, "words"),
    Case(400, {"statusCode": 400, "error": "Bad Request", "message": ["a", "b"]}, BadRequestError, "a; b"),
    Case(422, {"error": "Unprocessable Entity", "detail": "words"}, ValidationError, "words"),
    Case(401, {"error": "Unauthorized", "message": ""}, AuthenticationError, "Unauthorized"),
    Case(404, {"error": "Not Found", "message": "Not Found"}, NotFoundError, "Not Found"),
    # An event stream with a failing status: DashScope, gateways
    Case(400, b'id:1\nevent:error\n:HTTP_STATUS/400\ndata:{"code":"InvalidParameter","message":"words"}\n\n',
         BadRequestError, "words"),
    Case(400, b': ping\r\n\r\ndata: {"error":\r\ndata: "words"}\r\n\r\ndata: [DONE]\r\n\r\n', BadRequestError, "words"),
    Case(500, b"event: error\ndata: words", ServerError, "words"),
    Case(500, b": words", ServerError, ": words"),
    Case(500, b"data:" * 5000, ServerError, "data:" * 100),
    Case(500, b"\xff\xfe", ServerError, "\ufffd\ufffd"),
    Case(500, {"error": {"reason": "odd"}}, ServerError, '{"reason": "odd"}'),
    Case(500, b"null", ServerError, "HTTP 500"),
    Case(500, b"5", ServerError, "5"),
    Case(500, b"9" * 5000, ServerError, "9" * 500),
]  # fmt: skip


@pytest.mark.parametrize("response", CASES, ids=lambda response: f"{response.status} {str(response.body)[:60]}")
def test_an_error_response_becomes_the_right_class_with_the_servers_message(response: Case) -> None:
    error = from_response(response.status, {}, body(response.body))
    assert type(error) is response.kind
    assert (
        error.message.startswith(response.words)
        if response.words.startswith("HTTP")
        else error.message == response.words
    )
    assert error.status_code == response.status
    if response.error_type:
        assert error.error_type == response.error_type


def test_a_BOM_before_the_JSON_is_ignored() -> None:
    error = from_response(422, {}, b'\xef\xbb\xbf{"error": "words", "error_type": "validation"}')
    assert error.message == "words"


@pytest.mark.parametrize("status", [301, 304, 307, 308])
def test_a_redirect_keeps_its_status(status: int) -> None:
    error = from_response(status, {"location": "https://elsewhere"}, b"<html>moved")
    assert type(error) is UnexpectedResponseError
    assert error.status_code == status
    assert str(status) in error.message


NESTED = b"[" * 5000 + b"]" * 5000


@pytest.mark.parametrize("response", [NESTED, b'{"error":' * 5000, b'{"error": ' + b"[" * 700 + b"]" * 700 + b"}"])
def test_a_deeply_nested_body_is_an_error_like_any_other(response: bytes) -> None:
    assert type(from_response(500, {}, response)) is ServerError


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize("empty_body", [b"", b"  \n", b"null", b'""', b'{"error": [""]}', b"<html></html>", b'[""]'])
def test_a_message_is_never_empty(status: int, empty_body: bytes) -> None:
    assert from_response(status, {}, empty_body).message.startswith(f"HTTP {status} without a message")


@pytest.mark.parametrize(
    "empty_body", [b"{}", b"[]", b'{"error": " "}', b'{"error": {"message": " "}}', b'{"error": {}}']
)
def test_a_message_is_never_an_empty_value(empty_body: bytes) -> None:
    assert from_response(400, {}, empty_body).message.startswith("HTTP 400 without a message")


@pytest.mark.parametrize(("status", "hint"), [(401, "token"), (404, "URL"), (403, "not allowed")])
def test_a_missing_message_is_replaced_by_a_hint(status: int, hint: str) -> None:
    assert hint in from_response(status, {}, b"").message


@pytest.mark.parametrize("loc", [None, 5, True])
def test_a_location_that_is_not_a_list_is_accepted(loc: Any) -> None:
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
def test_any_body_can_be_read(status: int, value: Any) -> None:
    response = value if isinstance(value, bytes) else json.dumps(value).encode()
    error = from_response(status, {}, response)
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
        # Names that have a status: the code's first, which says more than the type
        *(({"error": {"message": "m", "type": name}}, kind, "m", status) for name, kind, status in [
            ("invalid_request_error", BadRequestError, 400), ("authentication_error", AuthenticationError, 401),
            ("permission_error", AuthenticationError, 403), ("not_found_error", NotFoundError, 404),
            ("request_too_large", BadRequestError, 413), ("timeout_error", ServerError, 504),
            ("billing_error", BadRequestError, 402), ("server_error", ServerError, 500),
        ]),
        *(({"error": {"message": "m", "type": "invalid_request_error", "code": code}}, kind, "m", status)
          for code, kind, status in [
            ("context_length_exceeded", BadRequestError, 400), ("invalid_api_key", AuthenticationError, 401),
            ("model_not_found", NotFoundError, 404), ("insufficient_quota", OverloadedError, 429),
            ("another", BadRequestError, 400), (None, BadRequestError, 400), (503, OverloadedError, 503),
        ]),
        ({"error": {"message": "m", "type": "not_found_error", "code": "overloaded"}}, OverloadedError, "m", 429),
        ({"error": {"message": "Model is overloaded", "code": 422}}, OverloadedError, "Model is overloaded", 429),
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
def test_a_response_with_content_is_not_an_error(payload: Any) -> None:
    assert from_event(payload) is None


@pytest.mark.parametrize(
    "payload",
    [{"error": "", "error_type": "overloaded"}, {"error_type": "overloaded"}, [{"error": "Model is overloaded"}]],
)
def test_an_event_with_an_error_type_is_an_error(payload: Any) -> None:
    assert type(from_event(payload)) is OverloadedError


def test_transient_statuses_are_retryable() -> None:
    assert [status for status in range(400, 600) if from_response(status, {}, b"").retryable] == [
        408, 409, 425, 429, 502, 503, 504, 520, 521, 522, 523, 524, 525, 527, 529, 530, 598, 599,
    ]  # fmt: skip
    assert from_event({"error": {"message": "m", "code": 504}}).retryable  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["x-request-id", "request-id", "x-amzn-requestid"])
def test_the_request_id_is_kept(name: str) -> None:
    assert from_response(500, {name: "r-1"}, b"").request_id == "r-1"
    assert from_response(500, httpx.Headers({name.upper(): "r-1"}), b"").request_id == "r-1"
    assert from_response(500, {}, b"").request_id is None


def test_only_the_start_of_the_body_is_kept() -> None:
    error = from_response(500, {}, b"x" * 10_000)
    assert error.response_body == "x" * 500
    assert error.message == "x" * 500
    inside = from_event({"error": "x" * 10_000})
    assert inside is not None
    assert inside.response_body is not None
    assert len(inside.response_body) == 500


# --- To a response and back ------------------------------------------------------------------------------------------

NAMED = [ValidationError, GenerationError, OverloadedError, IncompleteGenerationError]


@pytest.mark.parametrize("kind", NAMED)
@pytest.mark.parametrize("words", ["words", "Model is overloaded", "Input validation error: é🙂\n"])
def test_an_error_is_the_same_after_a_round_trip(kind: Class, words: str) -> None:
    status, response_body = to_response(kind(words))
    assert response_body == {"error": words, "error_type": kind.error_type}
    for received in (from_response(status, {}, json.dumps(response_body).encode()), from_event(response_body)):
        assert type(received) is kind
        assert (received.message, received.error_type, received.status_code) == (
            words,
            kind.error_type,
            kind.status_code,
        )


def test_a_custom_error_type_is_the_same_after_a_round_trip() -> None:
    status, response_body = to_response(ValidationError("words", error_type="template_error"))
    assert (status, response_body["error_type"]) == (422, "template_error")
    received = from_response(status, {}, json.dumps(response_body).encode())
    assert (type(received), received.error_type) == (ValidationError, "template_error")
    status, response_body = to_response(UnknownError("words", error_type="odd", status_code=418))
    received = from_response(status, {}, json.dumps(response_body).encode())
    assert (type(received), received.error_type, received.status_code) == (UnknownError, "odd", 418)


@pytest.mark.parametrize("kind", [AuthenticationError, NotFoundError, BadRequestError, ServerError])
def test_errors_without_a_type_are_recognised_by_their_status(kind: Class) -> None:
    status, response_body = to_response(kind("words"))
    assert type(from_response(status, {}, json.dumps(response_body).encode())) is kind


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_can_be_sent(kind: Class) -> None:
    status, response_body = to_response(kind("words"))
    assert 400 <= status <= 599
    assert response_body["error"] == "words"
    received = from_response(status, {}, json.dumps(response_body).encode())
    assert received.message == "words"


def test_a_message_nested_too_deeply_for_JSON_is_abbreviated() -> None:
    message: Any = []
    for _ in range(100_000):
        message = [message]
    error = from_event({"error": message})
    assert error is not None
    assert error.message == error.response_body == "[…]"
