"""The routes that generate, at a server in front of others: one request, from its first byte to its last event.

A stream's headers are sent once its first content is there, or after the time without an event that a keep-alive is due
for: so most failures of the other server become an HTTP status.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from hfstream.errors import BadRequestError, InferenceError, ValidationError

from ..routes import openai_responses, responses
from ..routes.request_body import parse_request
from ..routes.responses import SSEResponse
from ..routes.streaming import StreamFormat, StreamingEndpoint, cancel_on_disconnect, wants_resume
from ..schemas.tgi import CompatGenerateRequest, GenerateRequest
from ..service.request_record import RequestRecord
from .calls import Call, ChatBody, ChatCall, CompletionBody, CompletionCall
from .output import UpstreamOutput
from .service import UpstreamService
from .text_call import TextCall

BodyT = TypeVar("BodyT", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class UpstreamFormat(StreamFormat, Generic[BodyT]):
    """Request model and errors of one route."""

    request_model: type[BodyT]
    make_call: Callable[[BodyT], Call]
    is_tgi: bool = False
    """Whether a request that is refused gets TGI's 422, whatever the other server's status is."""


class UpstreamEndpoint(StreamingEndpoint, Generic[BodyT]):
    """A route whose answers come from other servers."""

    def __init__(self, service: UpstreamService, route_format: UpstreamFormat[BodyT]) -> None:
        super().__init__(service, route_format)
        self._upstream = service
        self._format = route_format

    async def _handle(self, request: Request, sse: SSEResponse, send: Send, record: RequestRecord) -> None:
        service = self._upstream
        body = await parse_request(request, self._format.request_model, service)
        with ExitStack() as stack:
            stack.enter_context(service.metrics.counted(record))
            stack.enter_context(service.limiter.permits(1))
            if self._format.is_tgi:
                stack.enter_context(_tgi_refusals())
            call = self._format.make_call(body)
            record.mark_validated(prompt_tokens=0, max_new_tokens=0)
            output = stack.enter_context(service.submit(call, record))
            if not call.stream:
                with cancel_on_disconnect(request, output):
                    text = "".join([data async for event in output.events() for data in event or ()])
                response = Response(text, media_type="application/json")
                await response(request.scope, request.receive, send)
                return
            with cancel_on_disconnect(request, output):
                await output.wait_begun(service.settings.sse_keepalive)
            source = _Source(output, self._format)
            if wants_resume(request):
                await self._stream_detached(request, sse, source, stack, output=output, headers={})
                return
            stack.enter_context(cancel_on_disconnect(request, output))
            await sse.open({})
            await self._send_stream(source, sse)


class _Source:
    """An `EventSource`: the output of another server, with errors in the format of the route."""

    def __init__(self, output: UpstreamOutput, stream_format: StreamFormat) -> None:
        self._output = output
        self._format = stream_format

    def events(self, *, keepalive_interval: float | None = None) -> AsyncGenerator[Iterable[str] | None, None]:
        return self._output.events(keepalive_interval=keepalive_interval)

    def failure(self, error: InferenceError) -> Iterable[str]:
        return [self._format.format_error(error)]


@contextmanager
def _tgi_refusals() -> Any:
    """TGI has one status for a request that is refused; OpenAI's servers have several."""
    try:
        yield
    except BadRequestError as error:
        raise ValidationError(error.message) from error


def _chat(body: ChatBody) -> Call:
    return ChatCall(body)


def _completion(body: CompletionBody) -> Call:
    return CompletionCall(body)


def _generate(body: GenerateRequest) -> Call:
    return TextCall(body, stream=False)


def _generate_stream(body: GenerateRequest) -> Call:
    return TextCall(body, stream=True)


def _compat(body: CompatGenerateRequest) -> Call:
    return TextCall(body, stream=body.stream, in_list=True)


CHAT = UpstreamFormat(
    request_model=ChatBody,
    make_call=_chat,
    format_error=openai_responses.error_json,
    format_parse_error=openai_responses.parse_error_json,
    done_event=openai_responses.DONE_EVENT,
)
COMPLETIONS = UpstreamFormat(
    request_model=CompletionBody,
    make_call=_completion,
    format_error=openai_responses.error_json,
    format_parse_error=openai_responses.parse_error_json,
    done_event=openai_responses.DONE_EVENT,
)
GENERATE = UpstreamFormat(
    request_model=GenerateRequest, make_call=_generate, format_error=responses.error_json, is_tgi=True
)
GENERATE_STREAM = UpstreamFormat(
    request_model=GenerateRequest, make_call=_generate_stream, format_error=responses.error_json, is_tgi=True
)
COMPAT = UpstreamFormat(
    request_model=CompatGenerateRequest, make_call=_compat, format_error=responses.error_json, is_tgi=True
)
