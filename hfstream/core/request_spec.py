"""What we ask: a request, and how its answer is to be read. Refuses to know clients, retries and time."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel

from .accumulators import Accumulator
from .decoders import ResponseDecoder
from .timeouts import Deadline
from .urls import origin

__all__ = [
    "PreparedRequest",
    "RequestSpec",
    "check_parameter_names",
    "encode_json",
    "find_model_class",
    "is_model_class",
]

EventT = TypeVar("EventT")
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class RequestSpec(Generic[EventT, ItemT, ResultT]):
    """What is asked, how to read the response, and what to make of it.

    `EventT` is what the decoder returns, `ItemT` what the caller iterates over, `ResultT` the result of it all.
    """

    url: str
    make_decoder: Callable[[], ResponseDecoder[EventT]]
    make_accumulator: Callable[[], Accumulator[EventT, ItemT, ResultT]]
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    streamed: bool = False
    method: str = "POST"
    resume: bool = False
    """Whether a lost stream shall be gone on with."""
    continuation: Any = None
    """How, at a server that keeps nothing of it (`resume.Continuation`); None if that cannot be."""

    def __str__(self) -> str:
        return f"{self.method} {origin(self.url)}"

    __repr__ = __str__  # headers hold the token, the URL may hold a key, the body is the user's: none goes into a log


@dataclass(frozen=True)
class PreparedRequest:
    """One attempt's request, ready to be sent: all that a transport needs to know."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout: tuple[float | None, float | None, float | None, float | None]
    """Seconds to connect, read, write and wait for a connection, for a transport that cannot follow `deadline`."""
    deadline: Deadline
    """Moves while the response is read; whoever reads the socket asks it before each wait."""


def check_parameter_names(function: str, parameters: Iterable[str], names: Iterable[str]) -> None:
    """Raises a TypeError that suggests the right name, if one of the `parameters` is not `names`."""
    names = list(names)
    for name in parameters:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f": did you mean `{close[0]}`?" if close else ""
            raise TypeError(f"{function} has no parameter `{name}`{hint} (extra_body= sends anything)")


def encode_json(body: Mapping[str, Any]) -> bytes:
    """`body` as JSON. Nouns may stand in it, and a pydantic class wherever a JSON schema goes.

    Raises:
        TypeError: it holds what JSON cannot say.
    """
    try:
        text = json.dumps(body, default=_json_default, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError) as error:  # a set, NaN, half of a surrogate pair
        raise TypeError(f"the request cannot be sent as JSON: {error}") from error


def _json_default(value: Any) -> Any:
    if is_model_class(value):
        return value.model_json_schema()
    if isinstance(value, BaseModel):  # a message of the model's, appended to the next call
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Mapping):
        return dict(cast("Mapping[Any, Any]", value))
    raise TypeError(f"{value!r} is no JSON")


def is_model_class(value: Any) -> bool:
    """Whether this is a pydantic class, which stands for its JSON schema."""
    return isinstance(value, type) and issubclass(value, BaseModel)


def find_model_class(value: Any) -> type[BaseModel] | None:
    """The pydantic class in a `grammar` or `response_format`: all of it, or what TGI's or OpenAI's has for a schema."""
    if is_model_class(value):
        return cast("type[BaseModel]", value)
    if not isinstance(value, Mapping):
        return None
    inner = cast("Mapping[str, Any]", value)
    return next(
        (form for key in ("value", "schema", "json_schema") if (form := find_model_class(inner.get(key)))), None
    )
