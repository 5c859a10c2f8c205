"""The routes that generate with this server's own model: one request, from its first byte to its last token.

`_handle` reads from top to bottom in the order in which requests are refused. How routes differ is in their
`RouteFormat`; what they share with those of a server in front of others is in `streaming`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import ExitStack, aclosing
from functools import partial
from typing import Generic, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from hfstream.errors import InferenceError, ValidationError

from ..schemas.validation import check_streamable
from ..service.backend import Backend
from ..service.output_stream import OutputEvent, OutputStream
from ..service.request_record import RequestRecord
from ..service.text_work import TextWork
from ..text.output_builder import PromptTokens
from .formats import ResponseFormatter, RouteFormat
from .request_body import parse_request
from .responses import RequestTimer, SSEResponse, compute_headers
from .streaming import StreamingEndpoint, cancel_on_disconnect, wants_resume

logger: logging.Logger = logging.getLogger(__name__)

BodyT = TypeVar("BodyT", bound=BaseModel)
ResultT = TypeVar("ResultT")

INLINE_TOKENS = 200
"""Tokens of prompts that are formatted on the event loop. More, which can take a second, go to another thread."""
FORMAT_SECONDS = 30.0


class GenerateEndpoint(StreamingEndpoint, Generic[BodyT]):
    """A route that generates with the backend's model."""

    def __init__(self, backend: Backend, route_format: RouteFormat[BodyT]) -> None:
        super().__init__(backend, route_format)
        self._backend = backend
        self._format = route_format

    async def _handle(self, request: Request, sse: SSEResponse, send: Send, record: RequestRecord) -> None:
        """Refuses in TGI's order: not ready, the body, what cannot be streamed, no permit, then all other rules.

        So a malformed request costs no permit, an overloaded server never renders or tokenises, and everything is
        known to be valid before the headers are sent. Only requests with a readable body are counted in the metrics, as
        in TGI.
        """
        timer, backend = RequestTimer(), self._backend
        body = await parse_request(request, self._format.request_model, backend)
        # What is entered is left in reverse: the engine's work is cancelled first, then the permit is free, and the
        # request is counted last, by the error that passes through, if any.
        with ExitStack() as stack:
            stack.enter_context(backend.metrics.counted(record))
            stack.enter_context(self._format.naming_errors(body))
            permits = 1 if self._format.renders else 0  # rendering is work, which needs a permit
            stack.enter_context(backend.limiter.permits(permits))
            formatter = await self._format.make_formatter(body, backend)
            stack.enter_context(backend.limiter.permits(self._count_generations(formatter) - permits))
            valid = [await backend.prepare(each) for each in formatter.requests]
            prompt_tokens = sum(len(each.prompt) for each in valid)
            timer.mark_validated()
            record.mark_validated(prompt_tokens=prompt_tokens, max_new_tokens=valid[0].max_new_tokens)
            inputs = "".join(each.inputs for each in formatter.requests)
            logger.debug("prompt of id=%s: %r", record.id, inputs)
            generations = (copy for each in valid for copy in each.copies())
            output = stack.enter_context(backend.submit(*generations, record=record))
            if any(each.grammar for each in valid):
                with cancel_on_disconnect(request, output):
                    await backend.ensure_accepted(output)
            source = _FormattedOutput(output, formatter, self._format, backend.text_work)
            if formatter.stream and wants_resume(request):
                # The permit and the engine's work move to a task that outlives this connection.
                headers = compute_headers(inputs)
                await self._stream_detached(request, sse, source, stack, output=output, headers=headers)
                return
            stack.enter_context(cancel_on_disconnect(request, output))
            if formatter.stream:
                await sse.open(compute_headers(inputs))
                await self._send_stream(source, sse)
            else:
                outputs = await output.collect()
                tokens = sum(len(each.events) for each in outputs)
                timings = timer.headers(prompt_tokens=prompt_tokens, generated_tokens=tokens)
                headers = {**compute_headers(inputs), **timings}
                format_response = partial(formatter.format_response, outputs)
                text = await _formatted(backend.text_work, format_response, *(each.prompt for each in outputs))
                response = Response(text, headers=headers, media_type="application/json")
                await response(request.scope, request.receive, send)

    def _count_generations(self, formatter: ResponseFormatter) -> int:
        """How many generations a request has; each needs a permit.

        Raises:
            ValidationError: they are more than there are permits, or cannot be streamed.
        """
        settings = self._backend.settings
        for request in formatter.requests:
            check_streamable(request.parameters, stream=formatter.stream, max_best_of=settings.max_best_of)
        count = sum(request.parameters.generations for request in formatter.requests)
        if count > settings.max_concurrent_requests:
            raise ValidationError(
                "Input validation error: all prompts and choices together must be "
                f"<= {settings.max_concurrent_requests}. Given: {count}"
            )
        return count


class _FormattedOutput:
    """An `EventSource`: the output of the model, in the format of the route."""

    def __init__(
        self, output: OutputStream, formatter: ResponseFormatter, route_format: RouteFormat[BodyT], text_work: TextWork
    ) -> None:
        self._output = output
        self._formatter = formatter
        self._format = route_format
        self._text_work = text_work

    async def events(self, *, keepalive_interval: float | None = None) -> AsyncGenerator[Iterable[str] | None, None]:
        yield self._formatter.format_start()
        async with aclosing(self._output.events(keepalive_interval=keepalive_interval)) as outputs:
            async for output in outputs:
                yield None if output is None else await self._data(output)

    def failure(self, error: InferenceError) -> Iterable[str]:
        return self._format.failure(self._formatter, error)

    async def _data(self, output: OutputEvent) -> Iterable[str]:
        if output.prompt is None:
            return self._formatter.format_event(output)
        return await _formatted(self._text_work, lambda: [*self._formatter.format_event(output)], output.prompt)


async def _formatted(text_work: TextWork, function: Callable[[], ResultT], *prompts: PromptTokens | None) -> ResultT:
    """``function()``, on another thread if it formats long prompts."""
    if sum(len(each) for each in prompts if each is not None) <= INLINE_TOKENS:
        return function()
    return await text_work.run(function, seconds=FORMAT_SECONDS)
