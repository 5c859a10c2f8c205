"""What all responses share: one engine, its tokenizer, the concurrency limit, and which output is of which request.

It lives on one event loop. The engine lives on a thread of its own; one call per step hands all of its outputs to the
loop. Does not depend on HTTP.
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
from ..schemas.validation import ValidRequest, check_rules, validate
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

INLINE_LIMIT = 4_000
"""Characters that are tokenized on the event loop: they take less than 4 ms. Longer texts go to another thread."""


class NotReadyError(InferenceError):
    """The model is not loaded yet. Its own `error_type`: a server that starts is not an overloaded one."""

    status_code: int | None = 503
    error_type: str | None = "loading"
    retryable: bool = True


class EngineFailedError(InferenceError):
    """The model could not be loaded, or its engine failed: this server will not answer any more."""

    status_code: int | None = 503
    error_type: str | None = "broken"


class Model(NamedTuple):
    """What was loaded, as far as it is not the engine's."""

    info: ModelInfo
    tokenizer: Tokenizer
    template: ChatTemplate | None


class Backend:
    """Everything that responses need and share."""

    def __init__(self, settings: Settings, engine: EngineProtocol | None = None) -> None:
        self.settings = settings
        self.limiter: ConcurrencyLimiter = ConcurrencyLimiter(settings.max_concurrent_requests)
        self.metrics: Metrics = Metrics()
        self.resumable_streams: ResumableStreams = ResumableStreams(
            grace=settings.resume_grace, keepalive_interval=settings.sse_keepalive
        )
        self.ready: asyncio.Event = asyncio.Event()
        """Set once the model is loaded, or has failed to load."""
        self._engine = engine or Engine(
            settings.model_path,
            max_batch_size=settings.max_batch_size,
            dtype=settings.dtype,
            device=settings.device,
            threads=settings.threads,
            max_total_tokens=settings.max_total_tokens,
        )
        self._model: Model | None = None
        self._fatal_error: BaseException | None = None
        self._outputs: dict[EngineRequest, OutputStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop

    # --- Start and end ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to load the model. Returns at once."""
        self._loop = asyncio.get_running_loop()
        self._engine.start(
            on_outputs=self._outputs_from_engine, on_ready=self._ready_from_engine, on_failure=self._failure_from_engine
        )

    async def close(self) -> None:
        """Ends what is running, and the engine's thread."""
        self.abort_all()
        self.resumable_streams.abandon()
        await asyncio.gather(*self._tasks)
        await asyncio.to_thread(self._engine.close, 5.0)

    def abort_all(self) -> None:
        """Ends every response in progress with an error."""
        for output in self._outputs.values():
            output.fail(IncompleteGenerationError("Incomplete generation: the server is stopping"))
        self.resumable_streams.abandon(unread_only=True)

    def abort_all_threadsafe(self) -> None:
        """`abort_all`, from another thread or a signal handler."""
        self._call_on_loop(self.abort_all)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs something that does not end with a request; `close` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def fatal_error(self) -> BaseException | None:
        """Why no request can be answered any more; None while some can."""
        return self._fatal_error

    def ensure_ready(self) -> None:
        """Raises NotReadyError or EngineFailedError unless a model is loaded."""
        _ = self.model

    @property
    def model(self) -> Model:
        """What was loaded.

        Raises:
            NotReadyError: nothing so far.
            EngineFailedError: and nothing will be.
        """
        if self._fatal_error is not None:
            raise EngineFailedError(
                f"Model could not be loaded, or broke down: {self._fatal_error}"
            ) from self._fatal_error
        if self._model is None:
            raise NotReadyError("Model is loading", retry_after=1)
        return self._model

    @property
    def queue_depths(self) -> tuple[int, int]:
        """Requests that the engine works on, and requests that wait for a row."""
        running = self._engine.running
        batch = min(running, self.settings.max_batch_size)
        return batch, running - batch

    # --- Requests ---------------------------------------------------------------------------------------------------

    async def render_prompt(self, render: Callable[[ChatTemplate], str]) -> str:
        """What `render` makes of the model's template, on another thread: a template is a program of its author's.

        Raises:
            ValidationError: the model has no template.
        """
        template = self.model.template
        if template is None:
            raise ValidationError("Template error: template not found", error_type="template_error")
        return await asyncio.to_thread(render, template)

    async def prepare(self, request: GenerateRequest) -> ValidRequest:
        """The request as the engine can run it.

        Raises:
            ValidationError: it breaks a rule.
        """
        info, tokenizer, _ = self.model
        check_rules(request, max_total_tokens=info.max_total_tokens)
        encode = partial(tokenizer.encode, special=request.add_special_tokens)
        prompt = await _in_thread_if_long(encode, request.inputs)
        return validate(request, prompt, max_total_tokens=info.max_total_tokens)

    async def tokenize(self, request: GenerateRequest) -> list[TokenSpan]:
        """The tokens of a request's prompt, as the model would read it."""
        tokenize = partial(self.model.tokenizer.tokenize, special=request.add_special_tokens)
        return await _in_thread_if_long(tokenize, request.inputs)

    @contextmanager
    def submit(self, request: ValidRequest) -> Generator[OutputStream, None, None]:
        """Has a request run while the block lasts. After the block its row is free within one step of the engine."""
        info, tokenizer, _ = self.model
        engine_request = EngineRequest(request.prompt, request.max_new_tokens, request.sampling)
        builder = OutputBuilder(tokenizer, request, info.eos_ids)
        output = OutputStream(builder, tokens_per_second=self.settings.tokens_per_second)
        self._outputs[engine_request] = output
        try:
            self._submit(engine_request)
            yield output
        finally:
            del self._outputs[engine_request]
            self._engine.cancel(engine_request)

    def _submit(self, request: EngineRequest) -> None:
        try:
            self._engine.submit(request)
        except Exception as error:  # noqa: BLE001 - it has just stopped; the reason is on its way to this loop
            self._dispatch([RequestFailed(request, error)])

    # --- Called on the engine's thread ------------------------------------------------------------------------------

    def _outputs_from_engine(self, outputs: list[TokenOutput | RequestFailed]) -> None:
        self._call_on_loop(self._dispatch, outputs)

    def _ready_from_engine(self, info: ModelInfo) -> None:
        path = self.settings.model_path
        # What these raise stops the engine, which reports it.
        self._call_on_loop(self._on_ready, Model(info, Tokenizer.load(path), ChatTemplate.load(path)))

    def _failure_from_engine(self, error: BaseException) -> None:
        self._call_on_loop(self._on_failure, error)

    def _call_on_loop(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed: the server has ended
            self._loop.call_soon_threadsafe(function, *arguments)

    # --- Called on the loop -----------------------------------------------------------------------------------------

    def _on_ready(self, model: Model) -> None:
        self._model = model
        self.ready.set()

    def _on_failure(self, error: BaseException) -> None:
        if self._model:  # before that, whoever waits for `ready` reports it
            logger.error("the engine failed", exc_info=error)
        self._fatal_error = error
        self.ready.set()
        for output in self._outputs.values():
            output.fail(GenerationError(f"Request failed during generation: Server error: {error}"))

    def _dispatch(self, outputs: Sequence[TokenOutput | RequestFailed]) -> None:
        for output in outputs:
            if stream := self._outputs.get(output.request):
                stream.push(output)
                if stream.complete:  # perhaps by a stop string, of which the engine knows nothing
                    self._engine.cancel(output.request)


async def _in_thread_if_long(function: Callable[[str], Result], text: str) -> Result:
    """``function(text)``, on another thread if the text is long."""
    return function(text) if len(text) <= INLINE_LIMIT else await asyncio.to_thread(function, text)
