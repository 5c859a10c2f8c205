"""TGI's own routes: /generate, /generate_stream and /."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hfstream.types import StreamResponse

from ..schemas.tgi import CompatGenerateRequest, GenerateRequest
from ..service.backend import Backend
from ..text.output_builder import whole
from .formats import RouteFormat
from .responses import answer_json, error_json, event_json


@dataclass(frozen=True)
class _Native:
    """A `ResponseFormatter` that says things as they are."""

    request: GenerateRequest
    streamed: bool

    def events(self, event: StreamResponse) -> Iterable[str]:
        yield event_json(event)

    def whole(self, events: Sequence[StreamResponse]) -> str:
        return answer_json(whole(events))


class _Compat(_Native):
    def whole(self, events: Sequence[StreamResponse]) -> str:
        return f"[{super().whole(events)}]"


async def _generate(asked: GenerateRequest, backend: Backend) -> _Native:
    return _Native(asked, streamed=False)


async def _generate_stream(asked: GenerateRequest, backend: Backend) -> _Native:
    return _Native(asked, streamed=True)


async def _compat(asked: CompatGenerateRequest, backend: Backend) -> _Compat:
    return _Compat(asked, streamed=asked.stream)


GENERATE = RouteFormat(form=GenerateRequest, voice=_generate, error=error_json)
GENERATE_STREAM = RouteFormat(form=GenerateRequest, voice=_generate_stream, error=error_json)
COMPAT = RouteFormat(form=CompatGenerateRequest, voice=_compat, error=error_json)
