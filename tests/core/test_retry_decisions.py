"""The table of judgement, cell by cell."""

from __future__ import annotations

import pytest

from hfstream.core import retry_decisions
from hfstream.core.retry_decisions import DECISIONS, Decision, FailureKind, classify, decide
from hfstream.errors import (
    AuthenticationError,
    BadRequestError,
    GenerationError,
    IncompleteGenerationError,
    IncompleteStreamError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    NotFoundError,
    OverloadedError,
    Phase,
    ServerError,
    TextGenerationError,
    UnexpectedResponseError,
    UnknownError,
    ValidationError,
)
from hfstream.errors.response_bodies import from_event, from_response

RAISE, RETRY, RESUME = Decision.RAISE, Decision.RETRY, Decision.RESUME


def refused(status: int) -> InferenceError:
    return from_response(status, {}, b"")


def of_type(error_type: str) -> InferenceError:
    error = from_event({"error": "words", "error_type": error_type})
    assert error is not None
    return error


NO_QUOTA = (b"insufficient_quota", b"billing_hard_limit_reached", b"exceeded_current_quota_error")
REFUSED = [
    ValidationError("x"), AuthenticationError("x"), NotFoundError("x"), BadRequestError("x"),
    UnexpectedResponseError("x"), of_type("validation"), of_type("template_error"), of_type("tool_error"),
    *map(refused, (400, 401, 402, 403, 404, 405, 410, 413, 415, 418, 422, 451)),
    *(from_response(429, {}, b'{"error":{"message":"x","code":"%b"}}' % code) for code in NO_QUOTA),
    from_response(503, {"x-should-retry": "false"}, b""), from_response(408, {"x-should-retry": "False "}, b""),
]  # fmt: skip
OVERLOADED = [OverloadedError("x"), of_type("overloaded"), *map(refused, (429, 503, 529))]
INTERRUPTED = [
    InferenceConnectionError("x"), IncompleteStreamError("x"), *map(refused, (408, 409, 425, 502, 504)),
    *map(refused, (520, 521, 522, 523, 524, 525, 527, 530, 598, 599)),
    *(from_response(status, {"x-should-retry": "true"}, b"") for status in (400, 422, 500)),
    *(InferenceTimeoutError("x", phase=phase) for phase in ("connect", "first_token", "between_tokens")),
]  # fmt: skip
BROKEN = [
    GenerationError("x"), IncompleteGenerationError("x"), ServerError("x"), of_type("generation"),
    of_type("incomplete_generation"), of_type("incomplete_generation_stream"), of_type("stream_serialization_error"),
    *map(refused, (424, 500, 501, 505, 507, 526)),
]  # fmt: skip
ROWS = [
    (REFUSED, FailureKind.REFUSED, RAISE, RAISE),
    (OVERLOADED, FailureKind.OVERLOADED, RETRY, RESUME),
    (INTERRUPTED, FailureKind.INTERRUPTED, RETRY, RESUME),
    (BROKEN, FailureKind.BROKEN, RAISE, RAISE),
]


@pytest.mark.parametrize(
    ("error", "kind", "silent", "after_content"),
    [
        pytest.param(error, kind, silent, after_content, id=f"{kind.value} {type(error).__name__} {error.status_code}")
        for row, kind, silent, after_content in ROWS
        for error in row
    ],
)
def test_every_cell_of_the_table_decides(
    error: InferenceError, kind: FailureKind, silent: Decision, after_content: Decision
) -> None:
    assert classify(error) is kind
    assert decide(error, after_content=False) is silent
    assert decide(error, after_content=True) is after_content


def test_the_table_has_every_kind_and_resumes_only_after_content() -> None:
    assert set(DECISIONS) == set(FailureKind)
    for silent, after_content in DECISIONS.values():
        assert silent is not RESUME
        assert after_content is not RETRY


@pytest.mark.parametrize("phase", ["connect", "first_token", "between_tokens", "total"])
def test_an_exceeded_total_limit_is_not_retried(phase: Phase) -> None:
    expected = RAISE if phase == "total" else RETRY
    assert decide(InferenceTimeoutError("x", phase=phase), after_content=False) is expected


@pytest.mark.parametrize("kind", [InferenceConnectionError, IncompleteStreamError])
@pytest.mark.parametrize("after_content", [True, False])
def test_a_closed_connection_that_is_not_retryable_is_raised(kind: type[InferenceError], after_content: bool) -> None:
    assert decide(kind("x", retryable=False), after_content=after_content) is RAISE


@pytest.mark.parametrize("kind", [InferenceError, TextGenerationError, UnknownError])
@pytest.mark.parametrize("after_content", [True, False])
def test_an_unknown_error_is_raised(kind: type[InferenceError], after_content: bool) -> None:
    assert decide(kind("x"), after_content=after_content) is RAISE


def test_a_servers_error_type_wins_over_its_status() -> None:
    body = b'{"error": "Input validation error: x", "error_type": "validation"}'
    assert decide(from_response(502, {}, body), after_content=False) is RAISE


def test_the_docstring_shows_the_table() -> None:
    for kind, (silent, after_content) in DECISIONS.items():
        [row] = [line for line in (retry_decisions.__doc__ or "").splitlines() if line.strip().startswith(kind.name)]
        assert row.split()[-2:] == [silent.name, after_content.name]
