"""What can go wrong: one tree of errors, and both directions of it, to the wire and from the wire.

    InferenceError
    ├── TextGenerationError
    │   ├── ValidationError             422  validation              the request is wrong
    │   ├── GenerationError             424  generation              the model failed
    │   ├── OverloadedError             429  overloaded              too many at once: try again
    │   ├── IncompleteGenerationError   500  incomplete_generation   the model stopped without an end
    │   └── UnknownError                     any other error_type
    ├── BadRequestError                 400 and other 4xx
    ├── AuthenticationError             401, 403
    ├── NotFoundError                   404
    ├── ServerError                     5xx
    ├── InferenceTimeoutError           nothing came in time; also a TimeoutError
    ├── InferenceConnectionError        no connection, or a broken one; also a ConnectionError
    ├── IncompleteStreamError           the answer ended early, without a final event or an error
    └── UnexpectedResponseError         an answer that is none, such as an HTML page

Class attributes are the facts of a class (its HTTP status, TGI's `error_type`, whether asking again can help); an
instance carries what it was told instead. This module refuses to know who sends and who listens.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Literal, cast

__all__ = [
    "AuthenticationError",
    "BadRequestError",
    "GenerationError",
    "IncompleteGenerationError",
    "IncompleteStreamError",
    "InferenceConnectionError",
    "InferenceError",
    "InferenceTimeoutError",
    "NotFoundError",
    "OverloadedError",
    "Phase",
    "ServerError",
    "TextGenerationError",
    "UnexpectedResponseError",
    "UnknownError",
    "ValidationError",
]

Phase = Literal["connect", "first_token", "between_tokens", "total"]
"""The limit that a timeout ran into."""


class InferenceError(Exception):
    """Base of every error of hfstream. ``str(error)`` is the server's own words wherever it said any."""

    status_code: int | None = None
    """HTTP status; for an error inside a 200 stream, what it would have been as a status."""
    error_type: str | None = None
    """TGI's name for it, as the server sent it."""
    retryable: bool = False
    """Whether the same request may succeed if it is sent again."""
    request_id: str | None = None
    """The server's id for the request, where it gave one."""
    retry_after: float | None = None
    """Seconds to wait before asking again, where the server said."""
    partial_text: str = ""
    """What the stream had said until then."""
    response_body: str | None = None
    """The start of the body that the error was read from."""

    def __init__(
        self,
        message: str = "",
        *,
        status_code: int | None = None,
        error_type: str | None = None,
        retryable: bool | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        partial_text: str | None = None,
        response_body: str | None = None,
    ) -> None:
        # One positional argument: exceptions are pickled as type(*args) plus __dict__, and this keeps that true.
        super().__init__(message)
        told = {name: value for name, value in locals().items() if name in _ATTRIBUTES and value is not None}
        self.__dict__.update(told)

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return self.message  # not OSError's, which the timeout and connection errors would inherit


_ATTRIBUTES = frozenset(InferenceError.__annotations__)


class TextGenerationError(InferenceError):
    """Base of the errors that TGI names with an `error_type`."""


class ValidationError(TextGenerationError):
    """The server judged the request wrong; it says which value and why."""

    status_code: int | None = 422
    error_type: str | None = "validation"


class GenerationError(TextGenerationError):
    """The model failed while it generated."""

    status_code: int | None = 424
    error_type: str | None = "generation"


class OverloadedError(TextGenerationError):
    """The server has too much to do just now. The same request can succeed later."""

    status_code: int | None = 429
    error_type: str | None = "overloaded"
    retryable: bool = True


class IncompleteGenerationError(TextGenerationError):
    """The server says itself that its answer has no end."""

    status_code: int | None = 500
    error_type: str | None = "incomplete_generation"


class UnknownError(TextGenerationError):
    """An `error_type` that this version does not know."""


class BadRequestError(InferenceError):
    """The server does not take such a request."""

    status_code: int | None = 400


class AuthenticationError(InferenceError):
    """The token is missing, wrong, or not allowed to do this."""

    status_code: int | None = 401


class NotFoundError(InferenceError):
    """There is no such route or model at this address."""

    status_code: int | None = 404


class ServerError(InferenceError):
    """The server, or a proxy before it, failed."""

    status_code: int | None = 500


class InferenceTimeoutError(InferenceError, TimeoutError):
    """Nothing came in time; `phase` says which of the `Timeouts` ended the wait."""

    retryable: bool = True
    phase: Phase = "total"

    def __init__(self, message: str = "", *, phase: Phase = "total", **told: Any) -> None:
        super().__init__(message, **told)
        self.phase = phase


class InferenceConnectionError(InferenceError, ConnectionError):
    """The connection could not be made, or broke."""

    retryable: bool = True


class IncompleteStreamError(InferenceError):
    """The body ended with neither a final event nor an error; `partial_text` is what it had said."""

    retryable: bool = True


class UnexpectedResponseError(InferenceError):
    """A successful status, but not the answer that was asked for: the message quotes the start of the body."""


# --- to the wire -----------------------------------------------------------------------------------------------------


def to_response(error: InferenceError) -> tuple[int, dict[str, str]]:
    """The HTTP status and the JSON body that TGI answers with; in a stream the body alone is the event's data."""
    named = {"error_type": error.error_type} if error.error_type else {}  # without one the status tells
    return error.status_code or 500, {"error": error.message} | named


# --- from the wire ---------------------------------------------------------------------------------------------------

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

# TGI's OpenAI-shaped stream errors have no error_type and one constant number, so only the words tell them apart.
_BY_WORDS: dict[str, type[InferenceError]] = {
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

_PASSING = frozenset({408, 502, 504})
"""Statuses that tell of an interruption on the way, not of the request: asking again may help."""

_QUOTED = 500
"""How many characters of a body an error carries."""


def from_response(status: int, headers: Mapping[str, str], body: bytes) -> InferenceError:
    """The error that an HTTP response with a failing `status` stands for."""
    text = body.decode("utf-8", "replace")
    error = _from_payload(_parsed(text), status)
    error.request_id = request_id(headers)
    error.retry_after = retry_after(headers)
    error.response_body = text[:_QUOTED]
    return error


def from_event(payload: Any) -> InferenceError | None:
    """The error that the JSON value of an event stands for, or None if it is no error.

    The status that came with the stream says nothing (it is 200), so the class decides what the status would have been.
    """
    if not is_error(payload):
        return None
    error = _from_payload(payload, None)
    error.response_body = _json(payload)[:_QUOTED]
    return error


def is_error(payload: Any) -> bool:
    """Whether a JSON value is one of the shapes in which servers send an error, rather than an answer."""
    if isinstance(payload, list) and len(cast("list[Any]", payload)) == 1:
        return is_error(cast("list[Any]", payload)[0])
    if not isinstance(payload, dict):
        return False
    told = cast("dict[str, Any]", payload)
    if told.get("error") or told.get("error_type") or told.get("object") == "error":
        return True
    # The shapes of FastAPI and of gateways. "choices" and "token" are what answers have.
    return ("detail" in told or "message" in told) and not told.keys() & {"choices", "token", "generated_text"}


def request_id(headers: Mapping[str, str]) -> str | None:
    """The server's name for this request."""
    return headers.get("x-request-id") or headers.get("request-id") or headers.get("x-amzn-requestid")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until the server wants to be asked again.

    `retry-after-ms`, else `Retry-After` in seconds or as a date (RFC 9110), else the reset of the rate limit that is
    used up: `x-ratelimit-reset`, and OpenAI's with `-requests` and `-tokens`.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if value.replace(".", "", 1).isdecimal() and value.isascii():
            return float(value) * unit
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
        date = date if date.tzinfo else date.replace(tzinfo=UTC)  # HTTP has no other
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, OverflowError):
        return _limit_reset(headers)


def _limit_reset(headers: Mapping[str, str]) -> float | None:
    used_up = [kind for kind in ("", "-requests", "-tokens") if headers.get(f"x-ratelimit-remaining{kind}", "0") == "0"]
    resets = [_seconds(headers.get(f"x-ratelimit-reset{kind}", "").strip()) for kind in used_up]
    return max(filter(None, resets), default=None)


_DURATION = re.compile(r"(?=.)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+\.?\d*)s)?(?:(\d+\.?\d*)ms)?", re.ASCII)
_UNITS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_EPOCH = 1e9
"""What is larger than this is no number of seconds to wait, but a time: seconds since 1970, or milliseconds."""


def _seconds(value: str) -> float | None:
    """``20``, ``6m0s``, ``120ms``, or a Unix time, as seconds from now."""
    if value.isascii() and value.replace(".", "", 1).isdecimal():
        number = float(value)
        moment = number / 1000 if number > 1000 * _EPOCH else number
        return max(0.0, moment - time.time()) if moment > _EPOCH else moment
    parts = found.groups() if (found := _DURATION.fullmatch(value)) else ()
    return sum(float(part) * unit for part, unit in zip(parts, _UNITS, strict=False) if part) if parts else None


def _from_payload(payload: Any, status: int | None) -> InferenceError:
    if isinstance(payload, list) and payload and isinstance(payload[0], dict):
        payload = cast("Any", payload[0])
    words, kind, code = _complaint(payload)
    error_type = cast("dict[str, Any]", payload).get("error_type") if isinstance(payload, dict) else None
    found = _class_of(words, error_type if isinstance(error_type, str) else None, kind, code, status)
    status = status or _number(code) or found.status_code or 500
    return found(
        _silence(status) if words.strip() in ("", "{}", "[]") else words,
        status_code=status,
        error_type=error_type if isinstance(error_type, str) else kind or found.error_type,
        retryable=True if status in _PASSING else None,
    )


def _class_of(
    words: str, error_type: str | None, kind: str | None, code: Any, status: int | None
) -> type[InferenceError]:
    """What kind of error this is: by TGI's type, then its words, then the body's own code, then the HTTP status."""
    if error_type in _BY_TYPE:
        return _BY_TYPE[error_type]
    for start, found in _BY_WORDS.items():
        if words.startswith(start):
            return found
    if any(_says_overloaded(name) for name in (kind, code)):
        return OverloadedError
    number = status or _number(code)
    if error_type is not None and _by_status(number) is not OverloadedError:
        return UnknownError
    return _by_status(number)


def _by_status(status: int | None) -> type[InferenceError]:
    if status is None or status >= 500:
        return _BY_STATUS.get(status or 500, ServerError)
    return _BY_STATUS.get(status, BadRequestError if status >= 400 else UnexpectedResponseError)


def _says_overloaded(name: Any) -> bool:
    return isinstance(name, str) and (name == "overloaded_error" or name.startswith("rate_limit"))


def _number(code: Any) -> int | None:
    """A body's `code` as an HTTP status, if it is one (OpenAI's is a word, vLLM's a number)."""
    text = str(code)
    return int(text) if text.isascii() and text.isdecimal() and len(text) == 3 and text >= "400" else None


def _complaint(payload: Any) -> tuple[str, str | None, Any]:
    """Message, type and code of an error body, whichever server wrote it."""
    if isinstance(payload, list) and payload:
        entries = cast("list[Any]", payload)
        return _complaint(entries[0]) if isinstance(entries[0], dict) else (_joined(entries), None, None)
    if not isinstance(payload, dict):
        return "" if payload is None else str(cast("object", payload)), None, None
    outer = cast("dict[str, Any]", payload)
    told: dict[str, Any] = outer["error"] if isinstance(outer.get("error"), dict) else outer
    words = next((told[key] for key in ("error", "message", "detail") if told.get(key)), told)
    kind = told.get("type")
    return _joined(words), kind if isinstance(kind, str) else None, told.get("code")


def _joined(words: Any, depth: int = 9) -> str:
    """One line from what a server put where its message belongs: text, a list of texts, FastAPI's list of places."""
    if isinstance(words, str):
        return words
    if isinstance(words, list) and depth:
        return "; ".join(_joined(word, depth - 1) for word in cast("list[Any]", words))
    if isinstance(words, dict) and "msg" in words:
        told = cast("dict[str, Any]", words)
        places = told.get("loc")
        where = ".".join(map(str, cast("list[Any]", places))) if isinstance(places, list) else str(places or "request")
        return f"{where}: {told['msg']}"
    return _json(words)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "[…]"


def _parsed(text: str) -> Any:
    text = text.removeprefix("\ufeff")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        page = text.lstrip()[:15].lower()
        return "" if page.startswith(("<!doctype", "<html")) else text[:_QUOTED].strip()


_HINTS = {
    401: "check the token: token=, or HF_TOKEN for huggingface.co; a token from the environment goes nowhere else",
    403: "the token is not allowed to do this",
    404: "check the URL: its host, port and path",
    429: "too many requests at once",
    503: "the server is not ready or too busy",
}


def _silence(status: int) -> str:
    """A message for a server that said nothing a person could read."""
    hint = _HINTS.get(status)
    return f"HTTP {status} without a message" + (f": {hint}" if hint else "")
