"""`RequestSpec`: the request of one call, and how its response is read. Also helpers to build request bodies.

Does not depend on clients, retries and time.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel

from .accumulators import Accumulator
from .decoders import ResponseDecoder
from .schemas import is_schema_type, json_schema
from .timeouts import Deadline
from .urls import origin

__all__ = [
    "PreparedRequest",
    "RequestSpec",
    "check_parameter_names",
    "encode_json",
]

EventT = TypeVar("EventT")
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class RequestSpec(Generic[EventT, ItemT, ResultT]):
    """A request, and how to read its response.

    `EventT` is what the decoder returns, `ItemT` what the caller iterates over, `ResultT` the final result.
    """

    url: str
    make_decoder: Callable[[], ResponseDecoder[EventT]]
    make_accumulator: Callable[[], Accumulator[EventT, ItemT, ResultT]]
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    streamed: bool = False
    method: str = "POST"
    resume: bool = False
    """Whether a lost stream is resumed."""
    continuation: Any = None
    """How to continue at a server that did not keep the stream (`resume.Continuation`); None if that is impossible."""
    operation: str = ""
    """The client's method, of those that generate: "text_generation" or "chat_completion"."""
    model: str | None = None
    """The name of the model, if the request has one."""
    relocate: Callable[[str], RequestSpec[EventT, ItemT, ResultT]] | None = None
    """Makes the same request for another URL of the client; None if it has only one."""

    def __str__(self) -> str:
        return f"{self.method} {origin(self.url)}"

    __repr__ = __str__  # no secrets in logs: headers hold the token, the URL may hold a key, the body is private


@dataclass(frozen=True)
class PreparedRequest:
    """The request of one attempt: all that a transport needs."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout: tuple[float | None, float | None, float | None, float | None]
    """Seconds to connect, read, write and wait for a connection, for a transport that does not support `deadline`."""
    deadline: Deadline
    """Changes while the response is read: a transport looks at it before each wait."""


CALL_OPTIONS = ("stream", "details", "model", "timeout", "extra_body", "extra_headers")
"""Options of a call that are no parameters of the server, as suggestions for misspelled names."""


def check_parameter_names(function: str, parameters: Iterable[str], names: Iterable[str]) -> None:
    """Raises a TypeError, with a suggestion, if one of the `parameters` is not among `names`."""
    names = list(names)
    for name in parameters:
        if name not in names:
            close = difflib.get_close_matches(name, (*names, *CALL_OPTIONS), n=1)
            hint = f": did you mean `{close[0]}`?" if close else ""
            raise TypeError(f"{function} has no parameter `{name}`{hint} (extra_body= sends anything)")


def encode_json(body: Mapping[str, Any]) -> bytes:
    """`body` as JSON. It may contain pydantic objects, and types in place of their JSON schemas.

    Raises:
        TypeError: a value is not JSON-serializable.
    """
    try:
        text = json.dumps(body, default=_json_default, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError) as error:  # a set, NaN, a lone surrogate
        raise TypeError(f"the request cannot be sent as JSON: {error}") from error


def _json_default(value: Any) -> Any:
    if is_schema_type(value):
        return json_schema(value)
    if isinstance(value, BaseModel):  # a message of an earlier response
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Mapping):
        return dict(cast("Mapping[Any, Any]", value))
    raise TypeError(f"an object of type {type(value).__name__} is not JSON-serializable")
