"""TGI's own routes: /generate, /generate_stream and /. Responses are in TGI's native format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..schemas.tgi import CompatGenerateRequest, GenerateRequest
from ..service.backend import Backend
from ..service.output_stream import CompleteOutput, OutputEvent
from ..text.best_of import best_first
from ..text.output_builder import build_response
from .formats import PlainStream, RouteFormat
from .responses import error_json, event_json, response_json


@dataclass(frozen=True)
class _TGIFormatter(PlainStream):
    """A `ResponseFormatter` for TGI's native format."""

    request: GenerateRequest
    stream: bool

    @property
    def requests(self) -> Sequence[GenerateRequest]:
        return [self.request]

    def format_event(self, output: OutputEvent) -> Iterable[str]:
        yield event_json(output.event)

    def format_response(self, outputs: Sequence[CompleteOutput]) -> str:
        best, *others = best_first([output.events for output in outputs])
        prompt = outputs[best].prompt
        not_chosen = [outputs[each].events for each in sorted(others)]
        return response_json(build_response(outputs[best].events, not_chosen, prompt.events() if prompt else ()))


class _CompatFormatter(_TGIFormatter):
    """The format of /: a response that is not streamed is a list of one."""

    def format_response(self, outputs: Sequence[CompleteOutput]) -> str:
        return f"[{super().format_response(outputs)}]"


async def _generate(body: GenerateRequest, backend: Backend) -> _TGIFormatter:
    return _TGIFormatter(body, stream=False)


async def _generate_stream(body: GenerateRequest, backend: Backend) -> _TGIFormatter:
    return _TGIFormatter(body, stream=True)


async def _compat(body: CompatGenerateRequest, backend: Backend) -> _CompatFormatter:
    return _CompatFormatter(body, stream=body.stream)


GENERATE = RouteFormat(request_model=GenerateRequest, make_formatter=_generate, format_error=error_json)
GENERATE_STREAM = RouteFormat(request_model=GenerateRequest, make_formatter=_generate_stream, format_error=error_json)
COMPAT = RouteFormat(request_model=CompatGenerateRequest, make_formatter=_compat, format_error=error_json)
