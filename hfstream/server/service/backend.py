"""The backend without its wire: one engine, its vocabulary and gate, and which answer each of its words belongs to.

It lives on one event loop. The engine lives on a thread of its own; one hand-over a step brings all that it says to the
loop. Refuses to know HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

from hfstream.errors import GenerationError, IncompleteGenerationError, InferenceError, ValidationError

from ..engine.protocol import EngineProtocol, EngineRequest, ModelInfo, RequestFailed, TokenOutput
from ..engine.worker import Engine
from ..schemas.tgi import GenerateRequest
from ..schemas.validation import ValidRequest, validate
from ..settings import Settings
from ..text.chat_template import ChatTemplate
from ..text.output_builder import OutputBuilder
from ..text.tokenizer import Tokenizer, TokenSpan
from .admission import ConcurrencyLimiter
from .metrics import Metrics
from .output_stream import OutputStream
from .resumable import ResumableStreams

logger: logging.Logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_SHORT = 4_000
"""Characters that are tokenised on the spot: they take less than 4 ms, and longer texts go to another thread."""


class NotReadyError(InferenceError):
    """The model is not loaded yet. Its own `error_type`: a server that starts is not one that has too much to do."""

    status_code: int | None = 503
    error_type: str | None = "loading"
    retryable: bool = True


class EngineFailedError(InferenceError):
    """The model could not be loaded, or its engine broke down: this server will not answer any more."""

    status_code: int | None = 503
    error_type: str | None = "broken"


class Model(NamedTuple):
    """What was loaded, as far as it is not the engine's."""

    facts: ModelInfo
    vocabulary: Tokenizer
    template: ChatTemplate | None


class Backend:
    """Everything that answers need and share."""

    def __init__(self, settings: Settings, engine: EngineProtocol | None = None) -> None:
        self.settings = settings
        self.gate: ConcurrencyLimiter = ConcurrencyLimiter(settings.max_concurrent_requests)
        self.metrics: Metrics = Metrics()
        self.replays: ResumableStreams = ResumableStreams(grace=settings.resume_grace, quiet=settings.keep_alive)
        self.opened: asyncio.Event = asyncio.Event()
        """Set once the model is loaded, or is known not to be."""
        self._engine = engine or Engine(
            settings.model_path,
            max_batch_size=settings.max_batch_size,
            dtype=settings.dtype,
            device=settings.device,
            threads=settings.threads,
            max_total_tokens=settings.max_total_tokens,
        )
        self._model: Model | None = None
        self._fault: BaseException | None = None
        self._answers: dict[EngineRequest, OutputStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop

    # --- its life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to load. Returns at once."""
        self._loop = asyncio.get_running_loop()
        self._engine.start(deliver=self._deliver, ready=self._ready, failed=self._failed)

    async def close(self) -> None:
        """End what is running, and the engine's thread."""
        self.interrupt()
        self.replays.abandon()
        await asyncio.gather(*self._tasks)
        await asyncio.to_thread(self._engine.close, 5.0)

    def interrupt(self) -> None:
        """Tell every answer in progress that it ends here."""
        for answer in self._answers.values():
            answer.end(IncompleteGenerationError("Incomplete generation: the server is stopping"))
        self.replays.abandon(unread_only=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done that does not end with a request."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def interrupt_soon(self) -> None:
        """`interrupt`, from another thread or a signal handler."""
        self._call(self.interrupt)

    @property
    def fault(self) -> BaseException | None:
        """Why there will be no answers, if so."""
        return self._fault

    def check(self) -> None:
        """Raise NotReadyError or BrokenError unless there is a model to ask."""
        _ = self.model

    @property
    def model(self) -> Model:
        """What was loaded.

        Raises:
            NotReadyError: not yet.
            BrokenError: and it never will be.
        """
        if self._fault is not None:
            raise EngineFailedError(f"Model could not be loaded, or broke down: {self._fault}") from self._fault
        if self._model is None:
            raise NotReadyError("Model is loading", retry_after=1)
        return self._model

    @property
    def load(self) -> tuple[int, int]:
        """Jobs that the engine works on, and jobs that wait for a place."""
        running = self._engine.running
        batch = min(running, self.settings.max_batch_size)
        return batch, running - batch

    # --- answering -------------------------------------------------------------------------------------------------

    async def prompt(self, write: Callable[[ChatTemplate], str]) -> str:
        """What `write` makes of the model's template. On another thread: a template is a program, and somebody else's.

        Raises:
            ValidationError: the model has no template.
        """
        template = self.model.template
        if template is None:
            raise ValidationError("Template error: template not found", error_type="template_error")
        return await asyncio.to_thread(write, template)

    async def consider(self, request: GenerateRequest) -> ValidRequest:
        """The question in a request, or the ValidationError that says why it is none."""
        facts, vocabulary, _ = self.model

        async def encode(text: str) -> list[int]:
            return await _aside(partial(vocabulary.encode, special=request.add_special_tokens), text)

        return await validate(
            request, max_total_tokens=facts.max_total_tokens, encode=encode, full_text=request.full_text
        )

    async def spans(self, request: GenerateRequest) -> list[TokenSpan]:
        """The tokens of a request's prompt, as the model would read it."""
        spans = partial(self.model.vocabulary.spans, special=request.add_special_tokens)
        return await _aside(spans, request.inputs)

    @contextmanager
    def answer(self, question: ValidRequest) -> Generator[OutputStream, None, None]:
        """Have a question answered. Who leaves the block no longer wants it: its place is free in a token's time."""
        facts, vocabulary, _ = self.model
        job = EngineRequest(question.prompt, question.max_new_tokens, question.sampling)
        writer = OutputBuilder(vocabulary, question, facts.eos_ids)
        answer = self._answers[job] = OutputStream(writer, tokens_per_second=self.settings.tokens_per_second)
        try:
            self._submit(job)
            yield answer
        finally:
            del self._answers[job]
            self._engine.cancel(job)

    def _submit(self, job: EngineRequest) -> None:
        try:
            self._engine.submit(job)
        except Exception as error:  # noqa: BLE001 - it has just stopped; the news why is on its way
            self._hand_out([RequestFailed(job, error)])

    # --- what the engine's thread calls ------------------------------------------------------------------------------

    def _deliver(self, results: list[TokenOutput | RequestFailed]) -> None:
        self._call(self._hand_out, results)

    def _ready(self, facts: ModelInfo) -> None:
        path = self.settings.model_path
        # What these raise stops the engine, which says so.
        self._call(self._open, Model(facts, Tokenizer.load(path), ChatTemplate.load(path)))

    def _failed(self, error: BaseException) -> None:
        self._call(self._break, error)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed: the server has ended, and nobody listens
            self._loop.call_soon_threadsafe(function, *arguments)

    # --- and what that comes to on the loop ---------------------------------------------------------------------------

    def _open(self, model: Model) -> None:
        self._model = model
        self.opened.set()

    def _break(self, fault: BaseException) -> None:
        if self._model:  # else who waits for `opened` is told, and says it
            logger.error("the engine broke down", exc_info=fault)
        self._fault = fault
        self.opened.set()
        for answer in self._answers.values():
            answer.end(GenerationError(f"Request failed during generation: Server error: {fault}"))

    def _hand_out(self, results: Sequence[TokenOutput | RequestFailed]) -> None:
        for result in results:
            if answer := self._answers.get(result.job):
                answer.hear(result)
                if answer.complete:  # perhaps by a stop string, which the engine knows nothing of
                    self._engine.cancel(result.job)


async def _aside(function: Callable[[str], Result], text: str) -> Result:
    """``function(text)``, on another thread if the text is long."""
    return function(text) if len(text) <= _SHORT else await asyncio.to_thread(function, text)
