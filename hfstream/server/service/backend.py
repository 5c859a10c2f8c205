"""The backend: one engine, the tokenizer and chat template of its model, and the output streams of all requests.

It belongs to one event loop; the engine runs the model in a process, and calls back on a thread of its own. Once per
step, one call hands all of the engine's outputs over to the loop, which dispatches them to the requests' streams.

Does not depend on HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from hfstream.errors import GenerationError, ValidationError

from ..engine.engine import Engine
from ..engine.protocol import (
    EngineOptions,
    EngineProtocol,
    EngineRequest,
    InvalidGrammarError,
    ModelInfo,
    Output,
    RequestFailed,
)
from ..model_files import check_model, find_model
from ..schemas.grammar import invalid_grammar
from ..schemas.sampling_defaults import SamplingDefaults
from ..schemas.tgi import GenerateRequest
from ..schemas.validation import Limits, ValidRequest, check_parameters, validate
from ..settings import Settings
from ..text.chat_template import ChatTemplate
from ..text.output_builder import OutputBuilder
from ..text.tokenizer import TokenSpan
from ..text.tool_formats import FORMATS, HERMES, ToolCallFormat
from .admission import ConcurrencyLimiter
from .errors import EngineFailedError, NotReadyError
from .model_text import Model, ModelText, load_text
from .output_stream import Generation, OutputStream
from .request_record import RequestRecord
from .request_service import RequestService

logger: logging.Logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

INLINE_LIMIT = 4_000
"""Characters that are tokenised on the event loop: they take less than 4 ms. Longer texts go to another thread."""


TEMPLATE_SECONDS = 3.0
"""How long a chat template may take for one conversation. They take less than a millisecond."""
TOKENIZE_SECONDS = 30.0
"""How long a text may take to be tokenised. Two million characters take a second."""
GRAMMAR_SECONDS = 10.0
"""How long a grammar may wait for others to be compiled, and take itself. Most take a millisecond."""
MAX_TOKENIZED = 131_072
"""Characters of a text that the routes take which only tokenise; a prompt can be longer, and needs a permit."""
TOKENIZE_PERMITS = 4


class Backend(RequestService):
    """What all requests need and share, with a model."""

    def __init__(self, settings: Settings, engine: EngineProtocol | None = None) -> None:
        """`engine`: another engine in place of the one that runs the model.

        Raises:
            ModelFilesError: there is no model, or none that can be served.
        """
        super().__init__(settings)
        self._path = find_model(settings.model)
        if engine is None:
            check_model(self._path)
        self.tokenize_limiter: ConcurrencyLimiter = ConcurrencyLimiter(TOKENIZE_PERMITS)
        """For the routes that only tokenise: requests that generate do not wait for them."""
        self._engine = engine or Engine(
            EngineOptions(
                self._path,
                max_batch_size=settings.max_batch_size,
                dtype=settings.dtype,
                device=settings.device,
                threads=settings.threads,
                max_total_tokens=settings.max_total_tokens,
                kv_cache_memory=settings.kv_cache_memory,
            )
        )
        self._model: Model | None = None
        self._outputs: dict[EngineRequest, Generation] = {}
        self._text: Future[ModelText]

    # --- start and end -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts to load the model, and returns at once."""
        self._loop = asyncio.get_running_loop()
        self._text = load_text(self._path)
        self._engine.start(
            on_outputs=self._post_outputs,
            on_ready=self._post_ready,
            on_restart=self._post_restart,
            on_failure=self._post_failure,
        )

    async def close(self) -> None:
        """Ends all requests, and the engine."""
        await super().close()
        await asyncio.to_thread(self._engine.close, 5.0)

    # --- state -------------------------------------------------------------------------------------------------------

    @property
    def model(self) -> Model:
        """The loaded model.

        Raises:
            NotReadyError: it is still being loaded, or is loaded again.
            EngineFailedError: it could not be loaded, or the engine failed later.
        """
        if self._fatal_error is not None:
            message = f"Model could not be loaded, or its engine failed: {self._fatal_error}"
            raise EngineFailedError(message) from self._fatal_error
        if self._model is None:
            raise NotReadyError("Model is loading", retry_after=1)
        return self._model

    def ensure_ready(self) -> None:
        """Raises what `model` raises."""
        _ = self.model

    @property
    def sampling_defaults(self) -> SamplingDefaults:
        """Those of the model; none before it is loaded."""
        return SamplingDefaults() if self._model is None else self._model.sampling_defaults

    @property
    def call_format(self) -> ToolCallFormat:
        """How the model writes tool calls: by the setting, or by its chat template."""
        template = self.model.chat_template
        if self.settings.tool_call_format is not None:
            return FORMATS[self.settings.tool_call_format]
        return HERMES if template is None else template.call_format

    @property
    def max_input_tokens(self) -> int:
        """Tokens that a prompt may have. Raises what `model` raises."""
        limit = self.model.info.max_total_tokens - 1
        return limit if self.settings.max_input_tokens is None else min(limit, self.settings.max_input_tokens)

    @property
    def limits(self) -> Limits:
        """What requests may ask for. Raises what `model` raises."""
        settings, info = self.settings, self.model.info
        return Limits(
            max_total_tokens=info.max_total_tokens,
            max_input_tokens=self.max_input_tokens,
            vocab_size=info.vocab_size,
            max_stop_sequences=settings.max_stop_sequences,
            max_top_n_tokens=settings.max_top_n_tokens,
        )

    @property
    def queue_depths(self) -> tuple[int, int]:
        """The number of requests in the engine's batch, and of those that wait for a row in it."""
        running = self._engine.running
        batch = min(running, self.settings.max_batch_size)
        return batch, running - batch

    # --- requests ----------------------------------------------------------------------------------------------------

    async def render_prompt(self, render: Callable[[ChatTemplate], ResultT]) -> ResultT:
        """``render(chat_template)`` on another thread: a template is a program, and may take any time.

        Raises:
            ValidationError: the model has no template, or it takes longer than TEMPLATE_SECONDS.
        """
        template = self.model.chat_template
        if template is None:
            raise ValidationError("Template error: template not found", error_type="template_error")
        try:
            return await self.text_work.run(render, template, seconds=TEMPLATE_SECONDS)
        except TimeoutError:
            message = f"Template error: the chat template took longer than {TEMPLATE_SECONDS:g} seconds"
            raise ValidationError(message, error_type="template_error") from None

    async def tokenize(self, request: GenerateRequest, to_json: Callable[[list[TokenSpan]], str]) -> str:
        """The tokens of a request's prompt, as the model reads it, and as `to_json` writes them.

        Raises:
            ValidationError: the text is longer than MAX_TOKENIZED.
        """
        if len(request.inputs) > MAX_TOKENIZED:
            raise ValidationError(
                f"Input validation error: `inputs` must have at most {MAX_TOKENIZED} characters here. "
                f"Given: {len(request.inputs)}"
            )
        tokenize = partial(self.model.tokenizer.tokenize, special=request.add_special_tokens)
        return await self._in_thread_if_long(lambda text: to_json(tokenize(text)), request.inputs)

    async def prepare(self, request: GenerateRequest) -> ValidRequest:
        """The request, checked and tokenized.

        Raises:
            ValidationError: a rule of TGI's is broken, or something is not supported.
        """
        model, limits = self.model, self.limits
        check_parameters(request, limits)
        if request.token_ids is not None:
            return validate(request, list(request.token_ids), limits)
        encode = partial(model.tokenizer.encode, special=request.add_special_tokens)
        prompt = await self._in_thread_if_long(encode, request.inputs)
        return validate(request, prompt, limits)

    async def _in_thread_if_long(self, function: Callable[[str], ResultT], text: str) -> ResultT:
        """``function(text)``, on another thread if the text is long."""
        if len(text) <= INLINE_LIMIT:
            return function(text)
        try:
            return await self.text_work.run(function, text, seconds=TOKENIZE_SECONDS)
        except TimeoutError:
            message = f"Input validation error: `inputs` could not be tokenized within {TOKENIZE_SECONDS:g} seconds"
            raise ValidationError(message) from None

    @contextmanager
    def submit(
        self, *generations: ValidRequest, record: RequestRecord | None = None
    ) -> Generator[OutputStream, None, None]:
        """Submits the generations of a request to the engine, and cancels them when the block is left.

        Their rows in the batch are then free for other requests after the engine's present step, at the latest.
        `record`: gets the tokens' times.
        """
        model = self.model
        builders = [OutputBuilder(model.tokenizer, each, model.eos_ids) for each in generations]
        requests = [each.engine_request() for each in generations]
        output = OutputStream(builders, tokens_per_second=self.settings.tokens_per_second, record=record)
        self._streams.add(output)
        self._outputs.update(zip(requests, output.generations, strict=True))
        try:
            for request in requests:
                self._submit_to_engine(request)
            yield output
        finally:
            self._streams.discard(output)
            for request in requests:
                del self._outputs[request]
                self._engine.cancel(request)

    async def ensure_accepted(self, output: OutputStream) -> None:
        """Waits until the engine has compiled the grammar of `output`.

        Raises:
            ValidationError: the engine cannot follow it.
            InferenceError: generation failed.
        """
        try:
            await output.wait_accepted(GRAMMAR_SECONDS)
        except InvalidGrammarError as error:
            raise invalid_grammar(str(error)) from None
        except TimeoutError:
            raise invalid_grammar(f"it could not be compiled within {GRAMMAR_SECONDS:g} seconds") from None

    def _submit_to_engine(self, engine_request: EngineRequest) -> None:
        try:
            self._engine.submit(engine_request)
        except Exception as error:  # noqa: BLE001 - the engine has just stopped; `_on_failure` will follow with the reason
            self._dispatch([RequestFailed(engine_request, error)])

    # --- callbacks on the engine's thread ----------------------------------------------------------------------------

    def _post_outputs(self, results: list[Output]) -> None:
        self._call_on_loop(self._dispatch, results)

    def _post_ready(self, info: ModelInfo) -> None:
        text = self._text.result()  # an error raised here stops the engine, which reports it
        eos_ids = info.eos_ids | text.eos_ids
        model = Model(info, text.tokenizer, text.chat_template, eos_ids, text.sampling_defaults)
        self._engine.set_tokenizer(text.tokenizer.tokenizer.to_str(), eos_ids)
        self._call_on_loop(self._on_ready, model)

    def _post_restart(self, reason: BaseException) -> None:
        self._text = load_text(self._path)  # as the weights: it may be another checkpoint by now
        self._call_on_loop(self._on_restart, reason)

    def _post_failure(self, error: BaseException) -> None:
        self._call_on_loop(self._on_failure, error)

    # --- and what they call on the event loop ------------------------------------------------------------------------

    def _on_ready(self, model: Model) -> None:
        self._model = model
        self.ready.set()

    def _on_restart(self, reason: BaseException) -> None:
        """The model is not loaded any more. The requests that ran fail next, each with an output of its own."""
        if not self.stopping:
            logger.error("%s; the model is loaded again", reason)
        self._model = None

    def _on_failure(self, error: BaseException) -> None:
        if self.ready.is_set():  # otherwise the server did not start, and reports the error itself
            logger.error("the engine failed", exc_info=error)
        self._fatal_error = error
        self.ready.set()
        for output in self._streams:
            output.fail(GenerationError(f"Request failed during generation: Server error: {error}"))

    def _dispatch(self, results: Sequence[Output]) -> None:
        for result in results:
            if output := self._outputs.get(result.request):
                output.push(result)
                if output.complete:  # perhaps by a stop string or an EOS token that the engine does not know about
                    self._engine.cancel(result.request)
