"""How routes that generate differ: a `RouteFormat` for each route, a `ResponseFormatter` for each request.

What they have in common, and the order in which things happen, is in `endpoint`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel

from hfstream.errors import InferenceError, ValidationError

from ..schemas.tgi import GenerateRequest
from ..service.backend import Backend
from ..service.output_stream import CompleteOutput, OutputEvent
from .streaming import StreamFormat

BodyT = TypeVar("BodyT", bound=BaseModel)


class PlainStream:
    """The beginning and the end of streams that have nothing but events of tokens."""

    def format_start(self) -> Iterable[str]:
        return ()

    def format_failure(self, error: InferenceError) -> Iterable[str] | None:
        return None


class ResponseFormatter(Protocol):
    """One request in TGI's terms, and the format of its response."""

    @property
    def requests(self) -> Sequence[GenerateRequest]:
        """One for each prompt. The generations are numbered in this order, those of one prompt one after the other."""
        ...

    @property
    def stream(self) -> bool:
        """Whether the response is a stream of events."""
        ...

    def format_start(self) -> Iterable[str]:
        """The data of the events before those of the first token."""
        ...

    def format_failure(self, error: InferenceError) -> Iterable[str] | None:
        """The data of the events that end a stream that fails; None: that of `RouteFormat.format_error`."""
        ...

    def format_event(self, output: OutputEvent) -> Iterable[str]:
        """The data of the Server-Sent Events for one more token. A generation's first token has index 1."""
        ...

    def format_response(self, outputs: Sequence[CompleteOutput]) -> str:
        """The body of a response that is not streamed, from the tokens of all its generations."""
        ...


@dataclass(frozen=True, kw_only=True)
class RouteFormat(StreamFormat, Generic[BodyT]):
    """Request model and response format of one route."""

    request_model: type[BodyT]
    make_formatter: Callable[[BodyT, Backend], Awaitable[ResponseFormatter]]
    """Raises an InferenceError if the request is refused for a reason that needs neither a permit nor tokens."""
    renders: bool = False
    """Whether `make_formatter` does work that takes time: then the permit is taken before it."""
    field_names: Callable[[BodyT], Mapping[str, str]] | None = None
    """The fields of a body by the names of the parameters of TGI's that they become, if these differ."""

    def failure(self, formatter: ResponseFormatter, error: InferenceError) -> Iterable[str]:
        """The data of the events that end a stream that fails."""
        events = formatter.format_failure(error)
        return [self.format_error(error)] if events is None else events

    @contextmanager
    def naming_errors(self, body: BodyT) -> Generator[None, None, None]:
        """Gives errors about parameters of TGI's the names of the fields that were sent."""
        try:
            yield
        except ValidationError as error:
            names: Mapping[str, str] = {} if self.field_names is None else self.field_names(body)
            message = re.sub("`(\\w+)`", lambda match: f"`{names.get(match[1], match[1])}`", error.message)
            if message == error.message:
                raise
            raise ValidationError(message, error_type=error.error_type) from None
