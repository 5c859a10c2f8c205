"""Scripted responses: what a `ScriptedServer` sends. Does not depend on sockets, or on the format of the bodies."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

__all__ = ["Fault", "Response", "Step", "check_step"]


class Fault(Enum):
    """What to do with the connection in the middle of a response. Nothing is sent after a fault."""

    DROP = "drop"
    """Close it without the end of the chunked body."""
    RESET = "reset"
    """Close it with a TCP reset."""
    STALL = "stall"
    """Send nothing more, and keep it open until the client closes it."""


Step = bytes | str | float | Fault
"""One step of a response body: bytes are sent as one HTTP chunk, text is encoded, a number is a pause in seconds."""


@dataclass(frozen=True)
class Response:
    """A scripted response: status, headers, and the steps of its body.

    Raises:
        TypeError: An argument, or a step of a body that is a list or a tuple, has the wrong type. Steps of other
            iterables are checked when they are sent: the connection is dropped, and `ScriptedServer.close` raises.
        ValueError: A pause or the status is out of range, or a header has a character that HTTP does not allow.
    """

    body: Iterable[Step] = ()
    """The steps, sent in order; a str or bytes is one step. If the response is sent more than once, this must be
    reiterable, such as a list."""
    status: int = 200
    """The HTTP status code. With 204 and 304, and in response to HEAD requests, the body is not sent."""
    content_type: str | None = "text/event-stream"
    """The `Content-Type` header; None omits it. One in `headers` replaces it."""
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = field(default_factory=dict[str, str])
    """Further headers. Pairs allow several headers of the same name.

    The body is sent with `Transfer-Encoding: chunked`, unless one of these headers is `Content-Length` or
    `Transfer-Encoding`, or the client has HTTP/1.0: then the bytes are sent as they are. The connection is closed after
    them, unless `Content-Length` is right.
    """
    delay: float = 0.0
    """Seconds to wait before the status line and headers are sent."""
    raw: bool = False
    """Whether the steps are all that is sent: the status line, the headers and the framing are written in them, and the
    connection is closed at the end. For heads that `status` and `headers` cannot express."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "body", _as_steps(self.body))
        _check_head(self.status, self.content_type, self.headers)
        _check_pause(self.delay)

    @classmethod
    def error(cls, status: int, message: str, error_type: str | None = None, **headers: str) -> Response:
        """An error in TGI's JSON format.

        Args:
            status: The HTTP status code.
            message: The value of `error`.
            error_type: The value of `error_type`, such as ``"overloaded"``; None leaves it out.
            headers: Further headers, with underscores for hyphens in their names: ``Retry_After="1"``.
        """
        body = {"error": message} | ({"error_type": error_type} if error_type else {})
        hyphenated = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls([json.dumps(body).encode()], status, "application/json", hyphenated)

    @classmethod
    def json(cls, value: Any) -> Response:
        """`value` as a JSON response with status 200.

        Raises:
            TypeError: `value` is not JSON-serializable.
        """
        return cls([json.dumps(value, ensure_ascii=False).encode()], content_type="application/json")

    def header_items(self) -> list[tuple[str, str]]:
        """All headers that the script defines, in the order in which they are sent."""
        items = list(self.headers.items() if isinstance(self.headers, Mapping) else self.headers)
        if self.content_type is None or any(name.lower() == "content-type" for name, _ in items):
            return items
        return [("Content-Type", self.content_type), *items]


# Typed as Any: the item types of what users pass are unknown, and pyright would report them as such.
_BYTES: Any = (bytes, bytearray, memoryview)
_LISTS: Any = (list, tuple)
_MAPPING: Any = Mapping


def check_step(step: Any) -> bytes | float | Fault:
    """A step as it is sent; text is encoded.

    Raises:
        TypeError: It is no step. The message says what to write.
        ValueError: It is a pause that is negative or not finite.
    """
    if isinstance(step, str):
        return step.encode("utf-8", "surrogatepass")
    if isinstance(step, _BYTES):
        return bytes(step)
    if isinstance(step, Fault):
        return step
    if isinstance(step, Response):
        raise TypeError("a step of a body cannot be a Response; write ScriptedServer(first, second) for two responses")
    if isinstance(step, bool) or not isinstance(step, int | float):
        raise TypeError(
            f"a step of a body must be bytes, a str, a pause in seconds or a Fault, not {type(step).__name__}; "
            "Response.json(value) sends JSON, and token_events() and chat_events() make events"
        )
    _check_pause(step)
    return step


def _as_steps(body: Any) -> Iterable[Step]:
    if isinstance(body, (str, *_BYTES)):
        return [check_step(body)]
    if isinstance(body, _LISTS):
        return [check_step(step) for step in body]
    if isinstance(body, _MAPPING) or not hasattr(body, "__iter__"):
        what = "an asynchronous iterable" if hasattr(body, "__aiter__") else type(body).__name__
        raise TypeError(
            f"the body of a Response must be bytes, a str or an iterable of steps, not {what}; "
            "Response.json(value) sends JSON"
        )
    steps: Iterable[Step] = body
    return steps


def _check_pause(seconds: Any) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"a pause must be a number of seconds, not {type(seconds).__name__}")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"a pause must be finite and not negative, not {seconds}; Fault.STALL waits for ever")


_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def _check_head(status: Any, content_type: Any, headers: Any) -> None:
    if isinstance(status, bool) or not isinstance(status, int):
        raise TypeError(f"the status of a Response must be an int, not {type(status).__name__}")
    if not 200 <= status <= 999:
        raise ValueError(f"the status of a Response must be between 200 and 999, not {status}; use raw=True for others")
    if content_type is not None:
        _check_header("Content-Type", content_type)
    for name, value in _pairs(headers):
        _check_header(name, value)


def _pairs(headers: Any) -> Iterator[tuple[Any, Any]]:
    wrong = f"the headers of a Response must be a dict or a list of pairs of str, not {headers!r:.100}"
    if not isinstance(headers, (_MAPPING, *_LISTS)):
        raise TypeError(wrong)
    items: Any = headers.items() if isinstance(headers, _MAPPING) else headers
    for item in items:
        if not isinstance(item, _LISTS) or len(item) != 2:
            raise TypeError(wrong)
        yield item[0], item[1]


def _check_header(name: Any, value: Any) -> None:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(f"the header {name!r} must be two str, not {value!r}")
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise ValueError(
            f"the header {name!r}: {value!r} has a character that HTTP does not allow; use raw=True for it"
        )
