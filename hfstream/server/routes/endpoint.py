"""The routes that generate: one request, from its first byte to the last byte of its response.

`_handle` reads from top to bottom in the order in which requests are refused. Errors raised before the headers are sent
become an HTTP status, errors raised after them an event. How routes differ is in their `RouteFormat`.

A stream ends with its connection, unless the client has sent ``Prefer: resumable``. Then it is a `ResumableStream`: a
task of its own produces it, and connections only read it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, aclosing, contextmanager, suppress
from functools import partial
from typing import Generic, TypeVar

from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from hfstream.errors import InferenceError, ValidationError

from ..schemas.validation import check_streamable
from ..service.backend import Backend
from ..service.errors import ClientDisconnectedError
from ..service.metrics import report
from ..service.output_stream import OutputEvent, OutputStream
from ..service.request_record import RequestRecord
from ..service.resumable import ResumableStream
from ..text.output_builder import PromptTokens
from .formats import ResponseFormatter, RouteFormat
from .request_body import parse_request
from .responses import RequestTimer, SSEResponse, compute_headers, error_response

logger: logging.Logger = logging.getLogger(__name__)

BodyT = TypeVar("BodyT", bound=BaseModel)
ResultT = TypeVar("ResultT")

INLINE_TOKENS = 200
"""Tokens of prompts that are formatted on the event loop. More, which can take a second, go to another thread."""
FORMAT_SECONDS = 30.0


class GenerateEndpoint(Generic[BodyT]):
    """A route that generates, as an ASGI application.

    It is not a function from a request to a response: ``with`` holds the permit and the row in the batch until the last
    byte is sent. A cancelled StreamingResponse would leave the generator that holds them to the garbage collector.
    """

    def __init__(self, backend: Backend, route_format: RouteFormat[BodyT]) -> None:
        self._backend = backend
        self._format = route_format

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = RequestRecord(f"{scope['method']} {scope['path']}", Headers(scope=scope))
        send = _with_request_id(send, record.id)
        sse = SSEResponse(send, self._format.done_event)
        with suppress(ClientDisconnectedError):
            try:
                await self._handle(Request(scope, receive), sse, send, record)
            except InferenceError as error:
                body = self._format.format_error(error)
                if not sse.is_open:  # `_stream` has sent it otherwise
                    await error_response(error, body)(scope, receive, send)
            except HTTPException as error:
                report(record, f"refused ({error.status_code})")
                if self._format.format_parse_error is None:
                    raise
                body = self._format.format_parse_error(error)
                await Response(body, error.status_code, media_type="application/json")(scope, receive, send)

    async def _handle(self, request: Request, sse: SSEResponse, send: Send, record: RequestRecord) -> None:
        """Refuses in TGI's order: not ready, the body, what cannot be streamed, no permit, then all other rules.

        So a malformed request costs no permit, an overloaded server never renders or tokenises, and everything is
        known to be valid before the headers are sent. Only requests with a readable body are counted in the metrics, as
        in TGI.
        """
        timer, backend = RequestTimer(), self._backend
        backend.ensure_ready()
        if "last-event-id" in request.headers or request.method == "DELETE":
            await self._resume(request, sse, send)
            return
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
                with _cancel_on_disconnect(request, output):
                    await backend.ensure_accepted(output)
            if formatter.stream and _wants_resume(request):
                resumable = backend.resumable_streams.create()
                resumable.on_abandoned = partial(output.fail, ClientDisconnectedError())
                # The permit and the engine's work move to a task that outlives this connection.
                backend.spawn(self._run_detached(output, formatter, resumable, stack.pop_all()))
                await _stream_resumable(request, sse, resumable, 0, compute_headers(inputs))
                return
            stack.enter_context(_cancel_on_disconnect(request, output))
            if formatter.stream:
                await sse.open(compute_headers(inputs))
                await self._stream(output, formatter, sse)
            else:
                outputs = await output.collect()
                tokens = sum(len(each.events) for each in outputs)
                timings = timer.headers(prompt_tokens=prompt_tokens, generated_tokens=tokens)
                headers = {**compute_headers(inputs), **timings}
                format_response = partial(formatter.format_response, outputs)
                text = await self._formatted(format_response, *(each.prompt for each in outputs))
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

    async def _event_data(self, formatter: ResponseFormatter, event: OutputEvent) -> Iterable[str]:
        if event.prompt is None:
            return formatter.format_event(event)
        return await self._formatted(lambda: [*formatter.format_event(event)], event.prompt)

    async def _formatted(self, function: Callable[[], ResultT], *prompts: PromptTokens | None) -> ResultT:
        """``function()``, on another thread if it formats long prompts."""
        if sum(len(each) for each in prompts if each is not None) <= INLINE_TOKENS:
            return function()
        return await self._backend.text_work.run(function, seconds=FORMAT_SECONDS)

    async def _resume(self, request: Request, sse: SSEResponse, send: Send) -> None:
        """Continues a stream after the event in `Last-Event-ID`; a DELETE ends that stream instead.

        The stream has its permit, or has ended: none is taken here, and the request's body is not read.
        """
        resumable, last_event_number = self._backend.resumable_streams.find(request.headers.get("last-event-id", ""))
        if request.method == "DELETE":
            resumable.abandon()
            await Response(status_code=204)(request.scope, request.receive, send)
        else:
            resumable.ensure_buffered(last_event_number)
            await _stream_resumable(request, sse, resumable, last_event_number, {})

    async def _run_detached(
        self, output: OutputStream, formatter: ResponseFormatter, resumable: ResumableStream, stack: ExitStack
    ) -> None:
        """Produces a resumable stream, with or without a connection that reads it. `stack`: what it holds meanwhile.

        `append` waits for a reader, and raises ClientDisconnectedError once the stream is abandoned. That leaves the
        stack: the permit is released, and the request counted as dropped.
        """
        with suppress(ClientDisconnectedError, InferenceError), stack:
            try:
                for data in formatter.format_start():
                    await resumable.append(data, self._format.event_name(data))
                async with aclosing(output.events()) as events:
                    async for event in events:
                        for data in await self._event_data(formatter, event) if event else ():
                            await resumable.append(data, self._format.event_name(data))
            except InferenceError as error:
                for data in self._format.failure(formatter, error):
                    await resumable.append(data, self._format.event_name(data))
                raise
        # The permit is free by now: the done event, and the buffer that can be read again, need none.
        with suppress(ClientDisconnectedError):
            if self._format.done_event is not None:
                await resumable.append(self._format.done_event)
        resumable.finish()

    async def _stream(self, output: OutputStream, formatter: ResponseFormatter, sse: SSEResponse) -> None:
        for data in formatter.format_start():
            await sse.send_event(data, self._format.event_name(data))
        try:
            async with aclosing(output.events(keepalive_interval=self._backend.settings.sse_keepalive)) as events:
                async for event in events:
                    if event is None:
                        await sse.send_keep_alive()
                    else:
                        for data in await self._event_data(formatter, event):
                            await sse.send_event(data, self._format.event_name(data))
        except InferenceError as error:
            for data in self._format.failure(formatter, error):
                await sse.send_event(data, self._format.event_name(data))
            await sse.finish()
            raise
        await sse.finish()


def _with_request_id(send: Send, request_id: str) -> Send:
    """`send`, with the header x-request-id: what the client sees is what is in the log."""

    async def send_with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
        await send(message)

    return send_with_id


def _wants_resume(request: Request) -> bool:
    """Whether "resumable" is one of the preferences in the Prefer headers (RFC 7240)."""
    preferences = ",".join(request.headers.getlist("prefer")).lower().replace(";", ",").split(",")
    return "resumable" in map(str.strip, preferences)


async def _stream_resumable(
    request: Request, sse: SSEResponse, resumable: ResumableStream, last_event_number: int, headers: dict[str, str]
) -> None:
    """Sends the events after number `last_event_number`, until the stream ends or the client disconnects."""
    with resumable.reader():
        await sse.open({**headers, "preference-applied": "resumable"})
        sending = asyncio.create_task(_send_events(sse, resumable, last_event_number))
        disconnected = asyncio.create_task(_wait_disconnect(request))
        try:
            # The disconnect is waited for as well: a silent stream would not notice it until its next event.
            await asyncio.wait({sending, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            disconnected.cancel()


async def _send_events(sse: SSEResponse, resumable: ResumableStream, last_event_number: int) -> None:
    async with aclosing(resumable.events(last_event_number)) as events:
        async for event in events:
            await (sse.send_keep_alive() if event is None else sse.send_encoded(event))
    await sse.end_body()  # the done event is one of the stream's numbered events


@contextmanager
def _cancel_on_disconnect(request: Request, output: OutputStream) -> Generator[None, None, None]:
    """Fails the output once the client disconnects, whatever is waited for at that time."""
    watcher = asyncio.create_task(_fail_on_disconnect(request, output))
    try:
        yield
    finally:
        watcher.cancel()


async def _fail_on_disconnect(request: Request, output: OutputStream) -> None:
    await _wait_disconnect(request)
    output.fail(ClientDisconnectedError())


async def _wait_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # messages of the body, of which nothing more is needed
