"""TGI's own routes: /generate, /generate_stream and /."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hfstream.types import StreamResponse

from ..schemas.tgi import CompatGenerateRequest, GenerateRequest
from ..service.backend import Backend
from ..text.output_builder import build_response
from .formats import RouteFormat
from .responses import error_json, event_json, response_json


@dataclass(frozen=True)
class _TGIFormatter:
    """A `ResponseFormatter` in TGI's native format."""

    request: GenerateRequest
    streamed: bool

    def events(self, event: StreamResponse) -> Iterable[str]:
        yield event_json(event)

    def format_response(self, events: Sequence[StreamResponse]) -> str:
        return response_json(build_response(events))


class _CompatFormatter(_TGIFormatter):
    def format_response(self, events: Sequence[StreamResponse]) -> str:
        return f"[{super().format_response(events)}]"


async def _make_generate_formatter(body: GenerateRequest, backend: Backend) -> _TGIFormatter:
    return _TGIFormatter(body, streamed=False)


async def _make_stream_formatter(body: GenerateRequest, backend: Backend) -> _TGIFormatter:
    return _TGIFormatter(body, streamed=True)


async def _make_compat_formatter(body: CompatGenerateRequest, backend: Backend) -> _CompatFormatter:
    return _CompatFormatter(body, streamed=body.stream)


GENERATE = RouteFormat(request_model=GenerateRequest, make_formatter=_make_generate_formatter, error=error_json)
GENERATE_STREAM = RouteFormat(request_model=GenerateRequest, make_formatter=_make_stream_formatter, error=error_json)
COMPAT = RouteFormat(request_model=CompatGenerateRequest, make_formatter=_make_compat_formatter, error=error_json)
