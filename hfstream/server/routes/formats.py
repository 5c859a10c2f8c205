"""How the routes that generate differ: a `RouteFormat` for each route, a `ResponseFormatter` for each request.

`endpoint` has what they share. Does not depend on the order in which things happen.
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
    """One request: what it asks in TGI's terms, and how its response is written."""

    @property
    def request(self) -> GenerateRequest: ...

    @property
    def streamed(self) -> bool: ...

    def events(self, event: StreamResponse) -> Iterable[str]:
        """The data of the events for one more token; the first token has index 1."""
        ...

    def format_response(self, events: Sequence[StreamResponse]) -> str:
        """The body of a response without streaming, from the events of all tokens."""
        ...


@dataclass(frozen=True, kw_only=True)
class RouteFormat(Generic[Body]):
    """Request model and response format of one route."""

    request_model: type[Body]
    make_formatter: Callable[[Body, Backend], Awaitable[ResponseFormatter]]
    """Makes a request's formatter; raises the InferenceErrors that need neither a permit nor tokens."""
    error: Callable[[InferenceError], str]
    """The JSON of an error, as a body or as an event."""
    format_parse_error: Callable[[HTTPException], str] | None = None
    """The JSON of a body that cannot be parsed; None answers with plain text, as TGI does."""
    done_event: str | None = None
    """Data of the event that ends every stream."""
