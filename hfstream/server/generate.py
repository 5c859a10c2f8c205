"""The routes that answer: one request, from its first byte to its last.

`_handle` reads from top to bottom in the order in which requests are refused. What is raised before the headers are
sent becomes an HTTP status, what is raised after them an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import aclosing, contextmanager, suppress

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hfstream.errors import InferenceError
from hfstream.types import TextGenerationResponse

from .answer import Answer
from .backend import Backend
from .metrics import DroppedError
from .replies import Clock, EventStream, answer_json, compute_headers
from .requests import CompatGenerateRequest, GenerateRequest, read
from .validation import Question, check_manner
from .writer import whole


class Generate:
    """POST /generate and /generate_stream, as an ASGI application.

    Not as a function from request to response: a permit and a place in the batch are held by ``with`` until the last
    byte is sent, and a streaming response, cancelled, leaves the generator that held them to the garbage collector.
    """

    _form: type[GenerateRequest] = GenerateRequest
    _full_text = False
    """Whether an answer repeats the prompt unless told otherwise."""

    def __init__(self, backend: Backend, *, stream: bool = False) -> None:
        self._backend = backend
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = EventStream(send)
        with suppress(DroppedError):
            try:
                await self._handle(Request(scope, receive), stream, send)
            except InferenceError as error:
                if not stream.opened:
                    raise
                await stream.error(error)
                await stream.close()

    async def _handle(self, request: Request, stream: EventStream, send: Send) -> None:
        clock, backend = Clock(), self._backend
        backend.check()
        asked = await read(request, self._form, backend.settings.payload_limit)
        streamed = self._streamed(asked)
        with backend.metrics.counted():
            check_manner(asked.parameters, stream=streamed)
            with backend.gate:
                question = await backend.consider(asked, full_text=self._full_text)
                clock.validated()
                with backend.answer(question) as answer, _ended_if_alone(request, answer):
                    if streamed:
                        await self._say(answer, compute_headers(asked.inputs), stream)
                    else:
                        response = await self._collect(answer, question, compute_headers(asked.inputs), clock)
                        await response(request.scope, request.receive, send)

    async def _say(self, answer: Answer, headers: dict[str, str], stream: EventStream) -> None:
        await stream.open(headers)
        async with aclosing(answer.events(quiet=self._backend.settings.keep_alive)) as events:
            async for event in events:
                await stream.event(event)
        await stream.close()

    async def _collect(self, answer: Answer, question: Question, headers: dict[str, str], clock: Clock) -> Response:
        events = [event async for event in answer.events() if event]
        times = clock.headers(prompt_tokens=len(question.prompt), generated_tokens=len(events))
        return Response(self._body(whole(events)), headers={**headers, **times}, media_type="application/json")

    def _streamed(self, asked: GenerateRequest) -> bool:
        return self._stream

    def _body(self, answer: TextGenerationResponse) -> str:
        return answer_json(answer)


class CompatGenerate(Generate):
    """POST /, streamed or not. It repeats the prompt, as TGI's does for a model whose pipeline is text-generation."""

    _form = CompatGenerateRequest
    _full_text = True

    def _streamed(self, asked: GenerateRequest) -> bool:
        return isinstance(asked, CompatGenerateRequest) and asked.stream

    def _body(self, answer: TextGenerationResponse) -> str:
        return f"[{answer_json(answer)}]"


@contextmanager
def _ended_if_alone(request: Request, answer: Answer) -> Generator[None, None, None]:
    """End the answer once its client has gone, whatever it is waiting for."""
    watcher = asyncio.create_task(_watch(request, answer))
    try:
        yield
    finally:
        watcher.cancel()


async def _watch(request: Request, answer: Answer) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # the body has been read; nothing else comes
    answer.end(DroppedError())
