"""What all routes that generate have in common: errors, disconnects, streams and those that can be resumed.

Errors raised before the headers are sent become an HTTP status, errors raised after them an event. A stream ends with
its connection, unless the client has sent ``Prefer: resumable``. Then it is a `ResumableStream`: a task of its own
produces it, and connections only read it.

Does not depend on where an answer comes from, or on its format.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import ExitStack, aclosing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from hfstream.errors import InferenceError

from ..service.errors import ClientDisconnectedError, UnexpectedError
from ..service.metrics import report
from ..service.request_record import RequestRecord
from ..service.request_service import Output, RequestService
from ..service.resumable import ResumableStream
from .responses import SSEResponse, error_response


@dataclass(frozen=True, kw_only=True)
class StreamFormat:
    """How a route writes errors, and the end of a stream."""

    format_error: Callable[[InferenceError], str]
    """The JSON for an error: a response's body, or an event's data in a stream."""
    format_parse_error: Callable[[HTTPException], str] | None = None
    """The JSON for a body that cannot be parsed. Without it the message is sent as plain text, as TGI does."""
    done_event: str | None = None
    """Data of the event that every stream ends with."""
    names_events: bool = False
    """Whether events have names: the `type` of their JSON, which is its first field."""

    def event_name(self, data: str) -> str:
        """The name of an event; "" for one without."""
        return data.removeprefix('{"type":"').partition('"')[0] if self.names_events else ""


class EventSource(Protocol):
    """The events of one answer, in the format of its route."""

    def events(self, *, keepalive_interval: float | None = None) -> AsyncGenerator[Iterable[str] | None, None]:
        """The data of events as they come, and None after every `keepalive_interval` seconds without one.

        Raises:
            InferenceError: generation failed.
            ClientDisconnectedError: the client has left.
        """
        ...

    def failure(self, error: InferenceError) -> Iterable[str]:
        """The data of the events that end a stream that fails."""
        ...


class StreamingEndpoint(ABC):
    """A route that generates, as an ASGI application.

    It is not a function from a request to a response: ``with`` holds the permit and the row in the batch until the last
    byte is sent. A cancelled StreamingResponse would leave the generator that holds them to the garbage collector.
    """

    def __init__(self, service: RequestService, stream_format: StreamFormat) -> None:
        self._service = service
        self._stream_format = stream_format

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = RequestRecord(f"{scope['method']} {scope['path']}", Headers(scope=scope))
        send = _with_request_id(send, record.id)
        sse = SSEResponse(send, self._stream_format.done_event)
        with suppress(ClientDisconnectedError):
            try:
                request = Request(scope, receive)
                self._service.ensure_ready()
                if "last-event-id" in request.headers or request.method == "DELETE":
                    await self._resume(request, sse, send)
                else:
                    await self._handle(request, sse, send, record)
            except InferenceError as error:
                body = self._stream_format.format_error(error)
                if not sse.is_open:  # `_send_stream` has sent it otherwise
                    await error_response(error, body)(scope, receive, send)
            except HTTPException as error:
                report(record, f"refused ({error.status_code})")
                if self._stream_format.format_parse_error is None:
                    await PlainTextResponse(error.detail, error.status_code)(scope, receive, send)
                else:
                    body = self._stream_format.format_parse_error(error)
                    await Response(body, error.status_code, media_type="application/json")(scope, receive, send)
            except ClientDisconnect:
                raise
            except Exception:
                if not sse.is_open:
                    unexpected = UnexpectedError()
                    body = self._stream_format.format_error(unexpected)
                    await error_response(unexpected, body)(scope, receive, send)
                raise  # so that it is logged

    @abstractmethod
    async def _handle(self, request: Request, sse: SSEResponse, send: Send, record: RequestRecord) -> None:
        """Answers a request that begins something new."""

    async def _resume(self, request: Request, sse: SSEResponse, send: Send) -> None:
        """Continues a stream after the event in `Last-Event-ID`; a DELETE ends that stream instead.

        The stream has its permit, or has ended: none is taken here, and the request's body is not read.
        """
        event_id, streams = request.headers.get("last-event-id", ""), self._service.resumable_streams
        resumable, last_event_number = streams.find(event_id, request.scope["path"])
        if request.method == "DELETE":
            resumable.abandon()
            await Response(status_code=204)(request.scope, request.receive, send)
        else:
            resumable.ensure_buffered(last_event_number)
            await _stream_resumable(request, sse, resumable, last_event_number, {})

    async def _stream_detached(
        self,
        request: Request,
        sse: SSEResponse,
        source: EventSource,
        stack: ExitStack,
        *,
        output: Output,
        headers: dict[str, str],
    ) -> None:
        """Streams to a client that may reconnect. `stack`: what the request holds, which moves to a task of its own."""
        resumable = self._service.resumable_streams.create(request.scope["path"])
        resumable.on_abandoned = partial(output.fail, ClientDisconnectedError())
        self._service.spawn(self._run_detached(source, resumable, stack.pop_all()))
        await _stream_resumable(request, sse, resumable, 0, headers)

    async def _run_detached(self, source: EventSource, resumable: ResumableStream, stack: ExitStack) -> None:
        """Produces a resumable stream, with or without a connection that reads it. `stack`: what it holds meanwhile.

        `append` waits for a reader, and raises ClientDisconnectedError once the stream is abandoned. That leaves the
        stack: the permit is released, and the request counted as dropped.
        """
        name = self._stream_format.event_name
        with suppress(ClientDisconnectedError, InferenceError), stack:
            try:
                async with aclosing(source.events()) as events:
                    async for event in events:
                        for data in event or ():
                            await resumable.append(data, name(data))
            except InferenceError as error:
                for data in source.failure(error):
                    await resumable.append(data, name(data))
                raise
        # The permit is free by now: the done event, and the buffer that can be read again, need none.
        with suppress(ClientDisconnectedError):
            if self._stream_format.done_event is not None:
                await resumable.append(self._stream_format.done_event)
        resumable.finish()

    async def _send_stream(self, source: EventSource, sse: SSEResponse) -> None:
        name = self._stream_format.event_name
        try:
            async with aclosing(source.events(keepalive_interval=self._service.settings.sse_keepalive)) as events:
                async for event in events:
                    if event is None:
                        await sse.send_keep_alive()
                    else:
                        for data in event:
                            await sse.send_event(data, name(data))
        except InferenceError as error:
            for data in source.failure(error):
                await sse.send_event(data, name(data))
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


def wants_resume(request: Request) -> bool:
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
def cancel_on_disconnect(request: Request, output: Output) -> Generator[None, None, None]:
    """Fails the output once the client disconnects, whatever is waited for at that time."""
    watcher = asyncio.create_task(_fail_on_disconnect(request, output))
    try:
        yield
    finally:
        watcher.cancel()


async def _fail_on_disconnect(request: Request, output: Output) -> None:
    await _wait_disconnect(request)
    output.fail(ClientDisconnectedError())


async def _wait_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # messages of the body, of which nothing more is needed
