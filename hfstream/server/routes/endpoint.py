"""The routes that generate: one request, from its first byte to the last byte of its response.

`_handle` reads from top to bottom in the order in which requests are refused: what needs no permit comes before the
permit is taken, so that an overloaded server refuses cheaply, and tokenizing, which is work, comes after. What is
raised before the headers are sent becomes an HTTP status, what is raised after them an event. How routes differ is in
their `RouteFormat`.

A stream ends with its connection, unless its client asked for a resumable one: then it is a `ResumableStream`, which
connections only read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import ExitStack, aclosing, contextmanager, suppress
from functools import partial
from typing import Generic, TypeVar

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hfstream.errors import InferenceError

from ..schemas.validation import ValidRequest, check_streamable
from ..service.backend import Backend
from ..service.metrics import ClientDisconnectedError
from ..service.output_stream import OutputStream
from ..service.resumable import ResumableStream
from .formats import ResponseFormatter, RouteFormat
from .request_body import parse_request
from .responses import RequestTimer, SSEResponse, compute_headers, error_response

Body = TypeVar("Body", bound=BaseModel)


class GenerateEndpoint(Generic[Body]):
    """A route that generates, as an ASGI application.

    Not as a function from request to response: a permit and a place in the batch are held by ``with`` until the last
    byte is sent, and a streaming response, cancelled, leaves the generator that held them to the garbage collector.
    """

    def __init__(self, backend: Backend, route_format: RouteFormat[Body]) -> None:
        self._backend = backend
        self._format = route_format

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = SSEResponse(send, self._format.done_event)
        with suppress(ClientDisconnectedError):
            try:
                await self._handle(Request(scope, receive), stream, send)
            except InferenceError as error:
                body = self._format.error(error)
                if stream.opened:
                    await stream.event(body)
                    await stream.close()
                else:
                    await error_response(error, body)(scope, receive, send)
            except HTTPException as error:
                if self._format.format_parse_error is None:
                    raise
                body = self._format.format_parse_error(error)
                await Response(body, error.status_code, media_type="application/json")(scope, receive, send)

    async def _handle(self, request: Request, stream: SSEResponse, send: Send) -> None:
        timer, backend = RequestTimer(), self._backend
        backend.ensure_ready()
        if "last-event-id" in request.headers or request.method == "DELETE":
            await self._resume(request, stream, send)
            return
        body = await parse_request(request, self._format.request_model, backend.settings.payload_limit)
        with ExitStack() as stack:
            stack.enter_context(backend.metrics.counted())
            formatter = await self._format.make_formatter(body, backend)
            check_streamable(formatter.request.parameters, stream=formatter.streamed)
            stack.enter_context(backend.limiter)
            valid_request = await backend.prepare(formatter.request)
            timer.mark_validated()
            output = stack.enter_context(backend.submit(valid_request))
            if formatter.streamed and _wants_resume(request):
                resumable = backend.resumable_streams.new()
                resumable.on_abandoned = partial(output.fail, ClientDisconnectedError())
                # The task takes over what the stack holds: permit, row and metrics live as long as the stream, which
                # may be longer than this connection.
                backend.spawn(self._run_detached(output, formatter, resumable, stack.pop_all()))
                await _stream_resumable(request, stream, resumable, 0, compute_headers(formatter.request.inputs))
                return
            stack.enter_context(_cancel_on_disconnect(request, output))
            if formatter.streamed:
                await self._stream(output, formatter, stream)
            else:
                response = await self._collect(output, formatter, valid_request, timer)
                await response(request.scope, request.receive, send)

    async def _resume(self, request: Request, stream: SSEResponse, send: Send) -> None:
        """Sends the rest of a resumable stream; with DELETE, ends it."""
        resumable, last_event_number = self._backend.resumable_streams.find(request.headers.get("last-event-id", ""))
        if request.method == "DELETE":
            resumable.abandon()
            await Response(status_code=204)(request.scope, request.receive, send)
        else:
            resumable.ensure_buffered(last_event_number)
            await _stream_resumable(request, stream, resumable, last_event_number, {})

    async def _run_detached(
        self, output: OutputStream, formatter: ResponseFormatter, resumable: ResumableStream, stack: ExitStack
    ) -> None:
        """Fills a resumable stream until its end, or until it is abandoned; `stack` holds what it needs."""
        with suppress(ClientDisconnectedError, InferenceError), stack:
            try:
                async with aclosing(output.events()) as events:
                    async for event in events:
                        for data in formatter.events(event) if event else ():
                            await resumable.append(data)
            except InferenceError as error:
                await resumable.append(self._format.error(error))
                raise
        with suppress(ClientDisconnectedError):
            if self._format.done_event is not None:
                await resumable.append(self._format.done_event)
        resumable.end()

    async def _stream(self, output: OutputStream, formatter: ResponseFormatter, stream: SSEResponse) -> None:
        await stream.open(compute_headers(formatter.request.inputs))
        async with aclosing(output.events(keepalive_interval=self._backend.settings.sse_keepalive)) as events:
            async for event in events:
                if event is None:
                    await stream.comment()
                else:
                    for data in formatter.events(event):
                        await stream.event(data)
        await stream.close()

    async def _collect(
        self, output: OutputStream, formatter: ResponseFormatter, valid_request: ValidRequest, timer: RequestTimer
    ) -> Response:
        events = [event async for event in output.events() if event]
        times = timer.headers(prompt_tokens=len(valid_request.prompt), generated_tokens=len(events))
        headers = {**compute_headers(formatter.request.inputs), **times}
        return Response(formatter.format_response(events), headers=headers, media_type="application/json")


def _wants_resume(request: Request) -> bool:
    preferences = ",".join(request.headers.getlist("prefer")).lower().replace(";", ",").split(",")
    return "resumable" in map(str.strip, preferences)


async def _stream_resumable(
    request: Request, stream: SSEResponse, resumable: ResumableStream, last_event_number: int, headers: dict[str, str]
) -> None:
    """Sends the events after number `last_event_number` for as long as the client is connected."""
    with resumable.reader():
        await stream.open({**headers, "preference-applied": "resumable"})
        sending = asyncio.create_task(_send_events(stream, resumable, last_event_number))
        disconnect = asyncio.create_task(_wait_disconnect(request))
        try:
            await asyncio.wait({sending, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            disconnect.cancel()


async def _send_events(stream: SSEResponse, resumable: ResumableStream, last_event_number: int) -> None:
    async with aclosing(resumable.events(last_event_number)) as events:
        async for event in events:
            await (stream.comment() if event is None else stream.write(event))
    await stream.end()


@contextmanager
def _cancel_on_disconnect(request: Request, output: OutputStream) -> Generator[None, None, None]:
    """Ends the output once its client has disconnected, whatever it is waiting for."""
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
        pass  # the rest of a body that is not needed
