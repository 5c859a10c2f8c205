"""The exception classes: their attributes, their tree, copies and pickles."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from hfstream import errors
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
    ServerError,
    TextGenerationError,
    UnexpectedResponseError,
    UnknownError,
    ValidationError,
)
from tests.errors.common import CLASSES, Class


@pytest.mark.parametrize(
    ("kind", "status", "error_type", "retryable"),
    [
        (InferenceError, None, None, False),
        (TextGenerationError, None, None, False),
        (ValidationError, 422, "validation", False),
        (GenerationError, 424, "generation", False),
        (OverloadedError, 429, "overloaded", True),
        (IncompleteGenerationError, 500, "incomplete_generation", False),
        (UnknownError, None, None, False),
        (BadRequestError, 400, None, False),
        (AuthenticationError, 401, None, False),
        (NotFoundError, 404, None, False),
        (ServerError, 500, None, False),
        (InferenceTimeoutError, None, None, True),
        (InferenceConnectionError, None, None, True),
        (IncompleteStreamError, None, None, True),
        (UnexpectedResponseError, None, None, False),
    ],
)
def test_the_attributes_of_each_class(kind: Class, status: int | None, error_type: str | None, retryable: bool) -> None:
    for one in (kind, kind("words")):
        assert (one.status_code, one.error_type, one.retryable) == (status, error_type, retryable)


def test_the_tree_is_the_documented_one() -> None:
    named = {ValidationError, GenerationError, OverloadedError, IncompleteGenerationError, UnknownError}
    assert set(TextGenerationError.__subclasses__()) == named
    assert {kind.__name__ for kind in CLASSES} == set(errors.__all__) - {"Phase"}
    assert len(CLASSES) == 16


def test_timeouts_and_connection_errors_are_also_the_builtin_ones() -> None:
    assert isinstance(InferenceTimeoutError("x"), TimeoutError)
    assert isinstance(InferenceConnectionError("x"), ConnectionError)
    assert not isinstance(InferenceConnectionError("x"), TimeoutError)


ATTRIBUTES: dict[str, Any] = {
    "status_code": 418,
    "error_type": "teapot",
    "retryable": True,
    "request_id": "r-1",
    "retry_after": 1.5,
    "partial_text": "so far",
    "response_body": "{}",
}


def same(error: InferenceError) -> InferenceError:
    return error


COPIES: list[Callable[[InferenceError], InferenceError]] = [
    same,
    copy.copy,
    copy.deepcopy,
    *(lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol)) for protocol in range(6)),
]


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("duplicate", COPIES)
def test_errors_can_be_copied_and_pickled_with_all_attributes(
    kind: Class, duplicate: Callable[[InferenceError], InferenceError]
) -> None:
    error = kind("words é🙂", **ATTRIBUTES)
    if isinstance(error, InferenceTimeoutError):
        error.phase = "between_tokens"
    other = duplicate(error)
    assert type(other) is kind
    assert other.message == str(other) == "words é🙂"
    assert {name: getattr(other, name) for name in ATTRIBUTES} == ATTRIBUTES
    assert getattr(other, "phase", None) == getattr(error, "phase", None)
    assert other.args == ("words é🙂",)


@pytest.mark.parametrize("kind", CLASSES)
def test_attributes_default_to_those_of_the_class(kind: Class) -> None:
    error = kind("words", status_code=None, retryable=None)
    assert error.status_code == kind.status_code
    assert error.retryable == kind.retryable
    assert error.partial_text == ""
    assert kind("x", retryable=False).retryable is False
    assert str(kind()) == ""


def test_attributes_of_one_error_do_not_change_the_class() -> None:
    OverloadedError("x", **ATTRIBUTES)
    assert OverloadedError("x").request_id is None
    assert OverloadedError.retry_after is None
