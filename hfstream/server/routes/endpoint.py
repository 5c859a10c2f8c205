"""The routes that answer: one request, from its first byte to its last.

`_handle` reads from top to bottom in the order in which requests are refused. What is raised before the headers are
sent becomes an HTTP status, what is raised after them an event. What routes differ in is in their `RouteFormat`.

A stream ends with its connection, unless its client has said that it may come back: then it is a
`ResumableStream`, which a connection only reads.
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

from ..schemas.tgi import read
from ..schemas.validation import ValidRequest, check_manner
from ..service.backend import Backend
from ..service.metrics import ClientDisconnectedError
from ..service.output_stream import OutputStream
from ..service.resumable import ResumableStream
from .formats import ResponseFormatter, RouteFormat
from .responses import RequestTimer, SSEResponse, compute_headers, error_response

Body = TypeVar("Body", bound=BaseModel)


class GenerateEndpoint(Generic[Body]):
    """A route that answers, as an ASGI application.

    Not as a function from request to response: a permit and a place in the batch are held by ``with`` until the last
    byte is sent, and a streaming response, cancelled, leaves the generator that held them to the garbage collector.
    """

    def __init__(self, backend: Backend, dialect: RouteFormat[Body]) -> None:
        self._backend = backend
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = SSEResponse(send, self._dialect.last_words)
        with suppress(ClientDisconnectedError):
            try:
                await self._handle(Request(scope, receive), stream, send)
            except InferenceError as error:
                told = self._dialect.error(error)
                if stream.opened:
                    await stream.event(told)
                    await stream.close()
                else:
                    await error_response(error, told)(scope, receive, send)
            except HTTPException as unread:
                if self._dialect.malformed is None:
                    raise
                told = self._dialect.malformed(unread)
                await Response(told, unread.status_code, media_type="application/json")(scope, receive, send)

    async def _handle(self, request: Request, stream: SSEResponse, send: Send) -> None:
        clock, backend = RequestTimer(), self._backend
        backend.check()
        if "last-event-id" in request.headers or request.method == "DELETE":
            await self._come_back(request, stream, send)
            return
        asked = await read(request, self._dialect.form, backend.settings.payload_limit)
        with ExitStack() as held:
            held.enter_context(backend.metrics.counted())
            voice = await self._dialect.voice(asked, backend)
            check_manner(voice.request.parameters, stream=voice.streamed)
            held.enter_context(backend.gate)
            question = await backend.consider(voice.request)
            clock.validated()
            answer = held.enter_context(backend.answer(question))
            if voice.streamed and _may_come_back(request):
                replay = backend.replays.new()
                replay.when_abandoned = partial(answer.end, ClientDisconnectedError())
                backend.spawn(self._perform(answer, voice, replay, held.pop_all()))
                await _relay(request, stream, replay, 0, compute_headers(voice.request.inputs))
                return
            held.enter_context(_ended_if_alone(request, answer))
            if voice.streamed:
                await self._say(answer, voice, stream)
            else:
                response = await self._collect(answer, voice, question, clock)
                await response(request.scope, request.receive, send)

    async def _come_back(self, request: Request, stream: SSEResponse, send: Send) -> None:
        """To a stream that was lost, to hear the rest; or, with DELETE, to say that nobody will."""
        replay, heard = self._backend.replays.find(request.headers.get("last-event-id", ""))
        if request.method == "DELETE":
            replay.abandon()
            await Response(status_code=204)(request.scope, request.receive, send)
        else:
            replay.check(heard)
            await _relay(request, stream, replay, heard, {})

    async def _perform(
        self, answer: OutputStream, voice: ResponseFormatter, replay: ResumableStream, held: ExitStack
    ) -> None:
        """A stream, for as long as it takes and somebody may want it; `held` is what it needs."""
        with suppress(ClientDisconnectedError, InferenceError), held:
            try:
                async with aclosing(answer.events()) as events:
                    async for event in events:
                        for data in voice.events(event) if event else ():
                            await replay.say(data)
            except InferenceError as error:
                await replay.say(self._dialect.error(error))
                raise
        with suppress(ClientDisconnectedError):
            if self._dialect.last_words is not None:
                await replay.say(self._dialect.last_words)
        replay.end()

    async def _say(self, answer: OutputStream, voice: ResponseFormatter, stream: SSEResponse) -> None:
        await stream.open(compute_headers(voice.request.inputs))
        async with aclosing(answer.events(quiet=self._backend.settings.keep_alive)) as events:
            async for event in events:
                if event is None:
                    await stream.comment()
                else:
                    for data in voice.events(event):
                        await stream.event(data)
        await stream.close()

    async def _collect(
        self, answer: OutputStream, voice: ResponseFormatter, question: ValidRequest, clock: RequestTimer
    ) -> Response:
        events = [event async for event in answer.events() if event]
        times = clock.headers(prompt_tokens=len(question.prompt), generated_tokens=len(events))
        headers = {**compute_headers(voice.request.inputs), **times}
        return Response(voice.whole(events), headers=headers, media_type="application/json")


def _may_come_back(request: Request) -> bool:
    wishes = ",".join(request.headers.getlist("prefer")).lower().replace(";", ",").split(",")
    return "resumable" in map(str.strip, wishes)


async def _relay(
    request: Request, stream: SSEResponse, replay: ResumableStream, heard: int, headers: dict[str, str]
) -> None:
    """Tells a client what a stream says after event number `heard`, while it listens."""
    with replay.reader():
        await stream.open({**headers, "preference-applied": "resumable"})
        telling = asyncio.create_task(_tell(stream, replay, heard))
        leaving = asyncio.create_task(_left(request))
        try:
            await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            telling.cancel()
            leaving.cancel()


async def _tell(stream: SSEResponse, replay: ResumableStream, heard: int) -> None:
    async with aclosing(replay.events(heard)) as events:
        async for event in events:
            await (stream.comment() if event is None else stream.write(event))
    await stream.end()


@contextmanager
def _ended_if_alone(request: Request, answer: OutputStream) -> Generator[None, None, None]:
    """End the answer once its client has gone, whatever it is waiting for."""
    watcher = asyncio.create_task(_watch(request, answer))
    try:
        yield
    finally:
        watcher.cancel()


async def _watch(request: Request, answer: OutputStream) -> None:
    await _left(request)
    answer.end(ClientDisconnectedError())


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # the rest of a body that nobody reads
