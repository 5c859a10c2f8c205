"""Errors from response bodies and back: the formats of TGI, OpenAI, FastAPI, and of gateways.

TGI's `error_type` decides the class of an error, then TGI's messages, then the body's own code, then the HTTP status.
Does not depend on how a response is received or sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from .error_shapes import (
    CODE_FIELDS,
    FAILED_REASONS,
    MESSAGE_FIELDS,
    REASON_PHRASES,
    STATUS_BY_NAME,
    find_error,
)
from .exceptions import (
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
from .retry_after import loading_time, rate_limit_reset, retry_after, retry_after_in_body

__all__ = ["from_event", "from_finish_reason", "from_response", "is_missing_route", "request_id", "to_response"]

_BY_TYPE: dict[str, type[InferenceError]] = {
    "validation": ValidationError,
    "template_error": ValidationError,
    "missing_template_variable": ValidationError,
    "tool_error": ValidationError,
    "generation": GenerationError,
    "overloaded": OverloadedError,
    "incomplete_generation": IncompleteGenerationError,
    "incomplete_generation_stream": IncompleteGenerationError,
}

# TGI's stream errors in OpenAI's format have no error_type and always the same code: only the message differs.
_BY_MESSAGE: dict[str, type[InferenceError]] = {
    "Model is overloaded": OverloadedError,
    "Input validation error": ValidationError,
    "Request failed during generation": GenerationError,
    "Incomplete generation": IncompleteGenerationError,
}

_BY_STATUS: dict[int, type[InferenceError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    422: ValidationError,
    424: GenerationError,
    429: OverloadedError,
    503: OverloadedError,
    529: OverloadedError,  # "site is overloaded": not in any RFC, sent by Anthropic and some CDNs
}

_TRANSIENT = frozenset({408, 409, 425, 502, 504, *range(520, 526), 527, 530, 598, 599})
"""Statuses of an interruption on the way, not of a problem with the request: a retry may help.

409 is a conflict with another request, such as a lock that is taken; 425 is "too early". 520 to 530 are Cloudflare's
for an origin that it cannot reach; 526, an invalid certificate, does not pass by itself. 598 and 599 are proxies' names
for a timeout.
"""

_EXHAUSTED = frozenset(
    {
        "insufficient_quota", "insufficient_balance", "insufficient_credits", "insufficient_funds",
        "exceeded_current_quota_error", "quota_exceeded", "account_deactivated", "access_terminated",
    }
)  # fmt: skip
"""Types and codes of errors that only the owner of the account can end, sent with 429 as if waiting could. All that
start with ``billing`` are too."""

_EXCERPT_SIZE = 500
"""How many characters of the body an error has as `response_body`."""


def from_response(status: int, headers: Mapping[str, str], body: bytes) -> InferenceError:
    """The error for an HTTP response with a failing `status`."""
    text = body.decode("utf-8", "replace")
    payload = _parse_json_or_text(text)
    found = find_error(payload)
    error = _from_payload(payload if found is None else found, status)
    error.request_id = request_id(headers)
    error.response_body = text[:_EXCERPT_SIZE]
    should_retry = headers.get("x-should-retry", "").strip().lower()
    if should_retry in ("true", "false"):
        error.retryable = should_retry == "true"
    _read_retry_after(error, headers, payload)
    return error


def _read_retry_after(error: InferenceError, headers: Mapping[str, str], payload: Any) -> None:
    seconds = retry_after(headers)
    if seconds is None:
        seconds = retry_after_in_body(payload)
    if error.status_code == 503:
        estimate = loading_time(payload)
        error._is_loading = estimate is not None or _says_loading(error.message)  # pyright: ignore[reportPrivateUsage]
    else:
        estimate = None
    if seconds is None:
        seconds = rate_limit_reset(headers) if estimate is None else estimate
        error._retry_after_is_estimate = True  # pyright: ignore[reportPrivateUsage]
    error.retry_after = seconds


def _says_loading(message: str) -> bool:
    words = message[:_EXCERPT_SIZE].lower()
    return words.startswith("loading model") or "is currently loading" in words or "model is loading" in words


def from_event(payload: Any) -> InferenceError | None:
    """The error for the JSON value of an event; None if it is not an error.

    The status of the stream is 200, so the error gets the status of its code or its class instead.
    """
    found = find_error(payload)
    if found is None:
        return None
    error = _from_payload(found, None)
    error.retry_after = retry_after_in_body(payload)
    error.response_body = _json(payload)[:_EXCERPT_SIZE]
    return error


def from_finish_reason(reason: str) -> InferenceError | None:
    """The error for a finish reason that says that the answer could not be finished; None for any other."""
    status = FAILED_REASONS.get(reason.lower())
    if status is None and "exception" in reason.lower():  # a gateway's words for a failure of Amazon Bedrock
        status = 500
    if status is None:
        return None
    error_class = OverloadedError if status == 503 else IncompleteGenerationError
    message = f"the server ended the answer with the finish reason {reason!r}"
    return error_class(message, status_code=status, retryable=status > 500)


def request_id(headers: Mapping[str, str]) -> str | None:
    """The server's id of this request."""
    return headers.get("x-request-id") or headers.get("request-id") or headers.get("x-amzn-requestid")


def _from_payload(payload: Any, status: int | None) -> InferenceError:
    if isinstance(payload, list) and payload and isinstance(payload[0], dict):
        payload = cast("Any", payload[0])
    message, code_type, code = _parse_body(payload)
    error_type = cast("dict[str, Any]", payload).get("error_type") if isinstance(payload, dict) else None
    error_class = _select_class(message, error_type if isinstance(error_type, str) else None, code_type, code, status)
    number = _status_from_code(code, code_type)
    if error_class not in (_by_status(number), UnknownError):
        number = None  # something else than the code has decided the class, and with it the status
    status = status or number or error_class.status_code or 500
    transient = status in _TRANSIENT and not issubclass(error_class, ValidationError | GenerationError)
    exhausted = any(_is_exhausted_code(name) for name in (code_type, code))
    return error_class(
        _default_message(status) if message.strip() in ("", "{}", "[]") else message,
        status_code=status,
        error_type=error_type if isinstance(error_type, str) else code_type or error_class.error_type,
        retryable=False if exhausted else True if transient else None,
    )


def _select_class(
    message: str, error_type: str | None, code_type: str | None, code: Any, status: int | None
) -> type[InferenceError]:
    """The class of an error: by TGI's `error_type`, then its message, then the body's own code, then the status."""
    if error_type in _BY_TYPE:
        return _BY_TYPE[error_type]
    for start, error_class in _BY_MESSAGE.items():
        if message.startswith(start):
            return error_class
    if any(_is_overload_code(name) for name in (code_type, code)):
        return OverloadedError
    number = status or _status_from_code(code, code_type)
    if error_type is not None and _by_status(number) is not OverloadedError:
        return UnknownError
    return _by_status(number)


def _by_status(status: int | None) -> type[InferenceError]:
    if status is None or status >= 500:
        return _BY_STATUS.get(status or 500, ServerError)
    return _BY_STATUS.get(status, BadRequestError if status >= 400 else UnexpectedResponseError)


_OVERLOAD_CODE = re.compile(
    r"(engine_|server_)?overloaded|(request_|requests_)?(rate_?|request_)limit|throttling|too_?many_?requests"
    r"|resource_?exhausted",
    re.IGNORECASE,
)
"""How types and codes begin that ask for fewer requests: OpenAI's, Anthropic's, DashScope's, Databricks', Google's."""


def _is_overload_code(name: Any) -> bool:
    return isinstance(name, str) and _OVERLOAD_CODE.match(name) is not None


def _is_exhausted_code(name: Any) -> bool:
    return isinstance(name, str) and (name.lower() in _EXHAUSTED or name.lower().startswith("billing"))


def _status_from_code(code: Any, code_type: str | None) -> int | None:
    """The HTTP status that a body's `code` is (vLLM's: a number) or stands for (OpenAI's: a name), or else its type."""
    text = str(code)
    if text.isascii() and text.isdecimal() and len(text) == 3 and text >= "400":
        return int(text)
    return STATUS_BY_NAME.get(text) or STATUS_BY_NAME.get(code_type or "")


def _parse_body(payload: Any) -> tuple[str, str | None, Any]:
    """Message, type and code of an error's body, in any of the formats."""
    if isinstance(payload, list) and payload:
        entries = cast("list[Any]", payload)
        return _parse_body(entries[0]) if isinstance(entries[0], dict) else (_format_detail(entries), None, None)
    if not isinstance(payload, dict):
        return "" if payload is None else str(cast("object", payload)), None, None
    payload_fields = cast("dict[str, Any]", payload)
    fields: dict[str, Any] = (
        payload_fields["error"] if isinstance(payload_fields.get("error"), dict) else payload_fields
    )
    # `{"error": true, "message": "..."}` has its words in the second field, as does `{"error": "Bad Request", ...}`.
    found = [fields[name] for name in MESSAGE_FIELDS if fields.get(name) and fields[name] is not True]
    message = next((each for each in found if not _is_reason_phrase(each)), found[0] if found else fields)
    code_type = fields.get("type")
    code = next((fields[name] for name in (*CODE_FIELDS, "status") if fields.get(name)), None)  # Google's name: status
    return _format_detail(message), code_type if isinstance(code_type, str) else None, code


def _is_reason_phrase(message: Any) -> bool:
    return isinstance(message, str) and message.lower() in REASON_PHRASES


def _format_detail(message: Any, depth: int = 9) -> str:
    """A message as one line. Servers send a string, a list of strings, or FastAPI's list of locations with messages.

    `depth` limits the nesting of lists, which a server could make as deep as Python's stack.
    """
    if isinstance(message, str):
        return message
    if isinstance(message, list) and depth:
        return "; ".join(_format_detail(entry, depth - 1) for entry in cast("list[Any]", message))
    if isinstance(message, dict) and "msg" in message:
        fields = cast("dict[str, Any]", message)
        loc = fields.get("loc")
        location = ".".join(map(str, cast("list[Any]", loc))) if isinstance(loc, list) else str(loc or "request")
        return f"{location}: {fields['msg']}"
    if isinstance(message, dict) and depth and (detail := cast("dict[str, Any]", message).get("detail")):
        return _format_detail(detail, depth - 1)  # Mistral's validation errors
    return _json(message)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "[…]"


_EVENT_STREAM = re.compile(r"\s*(data|event|id|retry)?:")


def _first_data(text: str) -> str:
    """The data of the first event, if `text` is an event stream, as DashScope sends with a failing status too."""
    data: list[str] = []
    for line in re.split(r"\r\n?|\n", text) if _EVENT_STREAM.match(text) else ():
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif data and not line:
            break
    return "\n".join(data) or text


def _parse_json_or_text(text: str) -> Any:
    text = _first_data(text.removeprefix("\ufeff"))
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        start = text.lstrip()[:15].lower()  # an HTML page is no message
        return "" if start.startswith(("<!doctype", "<html")) else text[:_EXCERPT_SIZE].strip()


_HINTS = {
    401: "check the token: pass token= or api_key=; HF_TOKEN is sent to huggingface.co only",
    403: "the token is not allowed to make this request",
    404: "check the URL: its host, port and path",
    407: "a proxy asks for authentication: put user and password into its URL, http://user:password@proxy:3128",
    429: "too many requests at once",
    503: "the server is not ready or overloaded",
}


def _default_message(status: int) -> str:
    """The message for a response that contains none."""
    hint = _HINTS.get(status)
    return f"HTTP {status} without a message" + (f": {hint}" if hint else "")


def is_missing_route(error: BaseException) -> bool:
    """Whether a server says that it has no such route, and not that it has no such model."""
    if not isinstance(error, NotFoundError):
        return False
    words = error.message.lower()
    return words == _default_message(404).lower() or ("not found" in words and "model" not in words)


def to_response(error: InferenceError) -> tuple[int, dict[str, str]]:
    """The HTTP status and the JSON body that TGI sends for an error; in a stream the body is the data of an event."""
    error_type = (
        {"error_type": error.error_type} if error.error_type else {}
    )  # without one the status decides the class
    return error.status_code or 500, {"error": error.message} | error_type
