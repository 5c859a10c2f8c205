"""Where in a JSON value an error is: the formats of TGI, OpenAI, FastAPI, and of gateways and clouds.

A gateway may send an error beside content, or fields of errors that say that all is well. Does not depend on the
exception classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

__all__ = [
    "CODE_FIELDS",
    "ERROR_FIELDS",
    "FAILED_REASONS",
    "MESSAGE_FIELDS",
    "REASON_PHRASES",
    "STATUS_BY_NAME",
    "find_error",
    "is_notice",
]

ERROR_FIELDS: frozenset[str] = frozenset({"error", "error_type", "base_resp", "x_groq"})
"""Fields that make an error of an event which has content, unless they are empty."""

FAILED_REASONS: Mapping[str, int] = {
    "error": 500,
    "internal_error": 500,
    "server_error": 500,
    "failed": 500,
    "abort": 500,
    "aborted": 500,
    "network_error": 502,
    "insufficient_system_resource": 503,
    "cancelled": 500,
    "user_cancel": 500,
    "error_toxic": 500,
    "error_limit": 500,
    "timeout": 504,
    "malformed_function_call": 502,
    "malformed_response": 502,
    "missing_thought_signature": 400,
    "unexpected_tool_call": 502,
}
"""Finish reasons of an answer that the server could not finish, and the HTTP status of each.

The last four are Gemini's. After a tool call or an answer that could not be read, another try may do better; a
signature that the request lacks is missing again."""

STATUS_BY_NAME: Mapping[str, int] = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "insufficient_quota": 429,
    "timeout_error": 504,
}
"""The HTTP status that an error with this type or code has outside of a stream: OpenAI's, Azure's, Anthropic's."""

REASON_PHRASES: frozenset[str] = frozenset(
    {"payload too large", "unprocessable entity"} | {each.phrase.lower() for each in HTTPStatus if each >= 400}
)
"""What a status means, in HTTP's own words, which Spring, NestJS and Fastify send beside the message. Two of the words
depend on the version of Python."""

MESSAGE_FIELDS = ("error", "message", "detail", "error_message", "errorMessage", "error_msg", "errors", "msg")
"""Where the server's words are, the first of them that is not empty."""

CODE_FIELDS = ("code", "error_code", "status_code", "statusCode")

_MESSAGES = MESSAGE_FIELDS[2:]
"""Fields that make an error of an event without content. So does `message`, unless it is only a notice."""

_MINIMAX_STATUS: Mapping[int, int] = {
    1001: 504, 1002: 429, 1004: 401, 1008: 402, 1026: 400, 1027: 400, 1039: 429, 1041: 429, 2013: 400, 2045: 429,
    2049: 401,
}  # fmt: skip

_AWS_STATUS: Mapping[str, int] = {
    "internalServerException": 500,
    "modelStreamErrorException": 424,
    "modelTimeoutException": 504,
    "serviceUnavailableException": 503,
    "throttlingException": 429,
    "validationException": 400,
}


def find_error(payload: Any) -> Any:
    """The part of a JSON value that describes an error; None if nothing does.

    That is an object with a message, or what the server sent in its place.
    """
    if isinstance(payload, list) and len(cast("list[Any]", payload)) == 1:
        return find_error(cast("list[Any]", payload)[0])
    if not isinstance(payload, dict):
        return None
    fields = cast("dict[str, Any]", payload)
    if (found := _find_beside_content(fields)) is not None:
        return found
    return None if _has_content(fields) else _find_alone(fields)


def is_notice(payload: Any) -> bool:
    """Whether a JSON value has a `message`, but nothing that makes it an error: it may be one, or ``"queued"``."""
    if not isinstance(payload, dict):
        return False
    fields = cast("dict[str, Any]", payload)
    if not isinstance(fields.get("message"), str) or _has_content(fields) or any(map(fields.get, _MESSAGES)):
        return False
    return _find_beside_content(fields) is None and not _has_failing_code(fields)


def _has_content(fields: dict[str, Any]) -> bool:
    return bool(fields.get("choices")) or any(fields.get(name) is not None for name in ("token", "generated_text"))


def _find_beside_content(fields: dict[str, Any]) -> Any:
    error = fields.get("error")
    if error and not (isinstance(error, dict) and not any(cast("dict[str, Any]", error).values())):
        return fields
    if fields.get("error_type") or fields.get("object") == "error":
        return fields
    groq = fields.get("x_groq")
    if isinstance(groq, dict) and cast("dict[str, Any]", groq).get("error"):  # why a stream stopped early
        return {"error": cast("dict[str, Any]", groq)["error"]}
    base_resp = fields.get("base_resp")
    if isinstance(base_resp, dict):  # MiniMax
        code, message = (cast("dict[str, Any]", base_resp).get(name) for name in ("status_code", "status_msg"))
        if code and str(code) != "0":
            return {"message": message or f"status_code {code}", "code": _MINIMAX_STATUS.get(_number(code), 500)}
    return None


def _find_alone(fields: dict[str, Any]) -> Any:
    if (errors := fields.get("errors")) and isinstance(errors, list):  # Cloudflare
        entries = cast("list[Any]", errors)
        return cast("Any", entries[0]) if isinstance(entries[0], dict) else entries
    for name, status in _AWS_STATUS.items():
        if isinstance(fields.get(name), dict):
            return {"message": name, "code": status, "type": name} | fields[name]
    message: Any = fields.get("message")
    if isinstance(message, dict) and ("content" in message or "role" in message):
        return None  # a message of a chat, in a format that is not ours
    if "message" in fields or any(fields.get(name) for name in _MESSAGES):
        return fields
    return None


def _has_failing_code(fields: dict[str, Any]) -> bool:
    """Whether a field beside the message says that it is an error."""
    codes = [fields.get(name) for name in (*CODE_FIELDS, "status")]
    if any(isinstance(code, int) and code != 0 and not 200 <= code < 300 for code in codes):
        return True
    if isinstance(codes[0], str) and codes[0].lower() not in ("", "0", "200", "ok", "success"):
        return True
    kinds = [str(fields.get(name)).lower() for name in ("type", "status", "event", "level")]
    return fields.get("success") is False or any("error" in kind or "fail" in kind for kind in kinds)


def _number(code: Any) -> int:
    text = str(code)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1
