"""TGI's own routes: /generate, /generate_stream and /."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hfstream.types import StreamResponse

from .backend import Backend
from .replies import answer_json, error_json, event_json
from .requests import CompatGenerateRequest, GenerateRequest
from .voice import Dialect
from .writer import whole


@dataclass(frozen=True)
class _Native:
    """A `Voice` that says things as they are."""

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


GENERATE = Dialect(form=GenerateRequest, voice=_generate, error=error_json)
GENERATE_STREAM = Dialect(form=GenerateRequest, voice=_generate_stream, error=error_json)
COMPAT = Dialect(form=CompatGenerateRequest, voice=_compat, error=error_json)
