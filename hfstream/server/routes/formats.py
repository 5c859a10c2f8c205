"""What the routes that answer differ in: a `RouteFormat` for each route, a `ResponseFormatter` for each request.

`generate` has what they share. Refuses to know the order in which things happen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel
from starlette.exceptions import HTTPException

from hfstream.errors import InferenceError
from hfstream.types import StreamResponse

from ..schemas.tgi import GenerateRequest
from ..service.backend import Backend

Body = TypeVar("Body", bound=BaseModel)


class ResponseFormatter(Protocol):
    """One request: what it asks in TGI's terms, and how its answer is written."""

    @property
    def request(self) -> GenerateRequest: ...

    @property
    def streamed(self) -> bool: ...

    def events(self, event: StreamResponse) -> Iterable[str]:
        """The data of the events that tell of one more token, the first of which has index 1."""
        ...

    def whole(self, events: Sequence[StreamResponse]) -> str:
        """The body that tells of all the tokens at once."""
        ...


@dataclass(frozen=True, kw_only=True)
class RouteFormat(Generic[Body]):
    """How a route is spoken to, and how it speaks."""

    form: type[Body]
    voice: Callable[[Body, Backend], Awaitable[ResponseFormatter]]
    """From a body to its voice, or to the InferenceError that needs neither a permit nor tokens."""
    error: Callable[[InferenceError], str]
    """The JSON that tells of an error, as a body or in a stream."""
    malformed: Callable[[HTTPException], str] | None = None
    """The JSON that tells why a body cannot be read; without it that is told as plain text, as TGI does."""
    last_words: str | None = None
    """Data of the event that every stream ends with."""
