"""Where an error is in what a server sends, and what only looks like one."""

from __future__ import annotations

from typing import Any

import pytest

from hfstream.errors import (
    AuthenticationError,
    BadRequestError,
    GenerationError,
    IncompleteGenerationError,
    InferenceError,
    OverloadedError,
    ServerError,
)
from hfstream.errors.error_shapes import is_notice
from hfstream.errors.response_bodies import from_event, from_finish_reason, from_response


def base_resp(code: Any, message: str = "words") -> dict[str, Any]:
    return {"base_resp": {"status_code": code, "status_msg": message}, "choices": None}


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        # MiniMax
        (base_resp(1008), BadRequestError),
        (base_resp(1002), OverloadedError),
        (base_resp(1039), OverloadedError),
        (base_resp(1004), AuthenticationError),
        (base_resp("2013"), BadRequestError),
        (base_resp(1013), ServerError),
        ({**base_resp(1027), "choices": [{"delta": {}}]}, BadRequestError),
        # Cloudflare, Bedrock, Azure's gateway, DashScope, Baidu, Zhipu
        ({"errors": [{"code": 7003, "message": "words"}], "success": False, "result": None}, ServerError),
        ({"errors": ["words"], "success": False}, ServerError),
        ({"throttlingException": {"message": "words"}}, OverloadedError),
        ({"modelStreamErrorException": {"message": "words"}}, GenerationError),
        ({"internalServerException": {"message": "words"}}, ServerError),
        ({"validationException": {"message": "words"}}, BadRequestError),
        ({"statusCode": 429, "message": "words"}, OverloadedError),
        ({"code": "InvalidParameter", "message": "words", "request_id": "r"}, ServerError),
        ({"error_code": 17, "error_msg": "words"}, ServerError),
        ({"code": 500, "msg": "words", "success": False}, ServerError),
        ({"error_message": "words"}, ServerError),
        # Beside content
        ({"error": "words", "choices": [{"delta": {"content": "a"}}]}, ServerError),
        ({"error": {"message": "words", "code": 400}, "token": {"text": "a"}}, BadRequestError),
    ],
)
def test_an_error_is_found_with_its_words(payload: Any, kind: type[InferenceError]) -> None:
    error = from_event(payload)
    assert type(error) is kind
    assert str(error) == "words"
    assert not is_notice(payload)


@pytest.mark.parametrize(
    "payload",
    [
        base_resp(0), base_resp("0"), base_resp(None), {"base_resp": None}, {"base_resp": "ok"},
        {"error": {"code": None, "message": ""}}, {"error": {}}, {"error_type": None}, {"errors": []},
        {"error_code": 0, "error_msg": ""}, {"choices": [{}], "message": "x", "code": 500},
        {"message": {"role": "assistant", "content": "a"}}, {"token": {}, "detail": "x"},
    ],
)  # fmt: skip
def test_what_says_that_all_is_well_is_no_error(payload: Any) -> None:
    assert from_event(payload) is None


@pytest.mark.parametrize(
    ("payload", "notice"),
    [
        ({"message": "queued"}, True),
        ({"message": "Success", "code": 0}, True),
        ({"message": "ok", "status": 200}, True),
        ({"message": "queued", "type": "info", "position": 3}, True),
        ({"message": "x", "code": 500}, False),
        ({"message": "x", "code": "Arrearage"}, False),
        ({"message": "x", "status": "error"}, False),
        ({"message": "x", "type": "error"}, False),
        ({"message": "x", "success": False}, False),
        ({"message": "x", "detail": "y"}, False),
        ({"message": "x", "error": "y"}, False),
        ({"message": {"content": "x"}}, False),
        ({"message": "x", "choices": [{}]}, False),
        ({}, False),
        ([], False),
    ],
)
def test_a_message_alone_may_be_a_notice(payload: Any, notice: bool) -> None:
    assert is_notice(payload) == notice


@pytest.mark.parametrize(
    ("reason", "kind", "retryable"),
    [
        ("error", IncompleteGenerationError, False),
        ("ERROR", IncompleteGenerationError, False),
        ("abort", IncompleteGenerationError, False),
        ("network_error", IncompleteGenerationError, True),
        ("MALFORMED_RESPONSE", IncompleteGenerationError, True),
        ("MISSING_THOUGHT_SIGNATURE", IncompleteGenerationError, False),
        ("insufficient_system_resource", OverloadedError, True),
    ],
)
def test_some_finish_reasons_are_errors(reason: str, kind: type[InferenceError], retryable: bool) -> None:
    error = from_finish_reason(reason)
    assert type(error) is kind
    assert error.retryable == retryable
    assert repr(reason) in error.message


@pytest.mark.parametrize("reason", ["", "stop", "length", "tool_calls", "content_filter", "sensitive", "unknown"])
def test_other_finish_reasons_are_none(reason: str) -> None:
    assert from_finish_reason(reason) is None


def test_an_error_with_a_status_has_the_same_words() -> None:
    error = from_response(400, {}, b'{"errors":[{"code":7003,"message":"No route"}],"success":false}')
    assert (type(error), str(error)) == (BadRequestError, "No route")
