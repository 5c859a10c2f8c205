"""OpenAI's completions, streamed or not.

Chunks carry the fields of TGI's own stream beside OpenAI's: @huggingface/inference sends its `textGenerationStream` to
this route, and passes the events on to programs that read ``token.text``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from hfstream.errors import ValidationError
from hfstream.types import StreamResponse, Usage

from ..schemas.completions import CompletionRequest
from ..schemas.tgi import GenerateParameters, GenerateRequest, TokenIdsRequest
from ..service.backend import Backend
from ..service.output_stream import CompleteOutput, OutputEvent
from ..text.best_of import best_first
from ..text.output_builder import PromptTokens
from .formats import PlainStream, RouteFormat
from .openai_responses import (
    DONE_EVENT,
    ResponseMeta,
    StopStringFilter,
    StreamedUsage,
    error_json,
    finish_reason,
    parse_error_json,
    usage,
)
from .responses import dump_json


class _CompletionFormatter(PlainStream):
    """A `ResponseFormatter` whose events are chunks of texts."""

    def __init__(self, requests: Sequence[GenerateRequest], body: CompletionRequest, meta: ResponseMeta) -> None:
        self.requests = requests
        self.stream = bool(body.stream)
        self._meta = meta
        self._choices_per_prompt = body.choices()
        self._generations_per_prompt = requests[0].parameters.generations
        generations = self._generations_per_prompt * len(requests)
        self._generations = [
            _Generation(body, each.inputs) for each in requests for _ in range(self._generations_per_prompt)
        ]
        self._generates_nothing = body.generates_nothing
        self._streamed_usage = StreamedUsage(generations, self._generations_per_prompt) if body.include_usage else None

    def format_event(self, output: OutputEvent) -> Iterable[str]:
        event = output.event
        choice = self._generations[output.generation].choice_of_event(output)
        # Without `include_usage` the last token's chunk has the usage of its text, as TGI's.
        own_usage = None if self._streamed_usage or event.details is None else usage(event)
        chunk = self._body([choice], own_usage)
        if not self._generates_nothing:
            chunk |= event.model_dump(mode="json", exclude={"top_tokens"})
        yield dump_json(chunk)
        if self._streamed_usage and (tokens := self._streamed_usage.push(output)):
            yield dump_json(self._body([], tokens))

    def format_response(self, outputs: Sequence[CompleteOutput]) -> str:
        choices = [
            self._generations[number].choice(index, outputs[number])
            for index, number in enumerate(self._chosen(outputs))
        ]
        last_events = [output.events[-1] for output in outputs]
        return dump_json(self._body(choices, usage(*last_events, choices=self._generations_per_prompt)))

    def _chosen(self, outputs: Sequence[CompleteOutput]) -> Iterable[int]:
        """The numbers of the generations that are returned: of each prompt the best, if there are more than asked."""
        size = self._generations_per_prompt
        for start in range(0, len(outputs), size):
            numbers: Sequence[int] = range(size)
            if size > self._choices_per_prompt:
                numbers = best_first([output.events for output in outputs[start : start + size]])
            yield from (start + number for number in numbers[: self._choices_per_prompt])

    def _body(self, choices: list[dict[str, Any]], tokens: Usage | None) -> dict[str, Any]:
        return {
            "object": "text_completion",
            **asdict(self._meta),
            "choices": choices,
            "usage": None if tokens is None else self._usage(tokens),
        }

    def _usage(self, tokens: Usage) -> dict[str, Any]:
        if self._generates_nothing:
            tokens = Usage(prompt_tokens=tokens.prompt_tokens, completion_tokens=0, total_tokens=tokens.prompt_tokens)
        return tokens.model_dump()


class _Generation:
    """The format of one text."""

    def __init__(self, body: CompletionRequest, prompt: str) -> None:
        self._echo = prompt if body.echo else ""
        self._truncated = body.truncate is not None
        self._generates_nothing = body.generates_nothing
        self._include_logprobs = body.logprobs is not None
        self._stop_filter = StopStringFilter(body.stop)
        self._text_offset = 0
        """Characters before the next token."""

    def choice(self, index: int, output: CompleteOutput) -> dict[str, Any]:
        """The complete text, as a choice."""
        text = (output.events[-1].generated_text or "").removeprefix(self._echo)
        return self._choice(index, self._echo + self._stop_filter.strip(text), output.prompt, output.events)

    def choice_of_event(self, output: OutputEvent) -> dict[str, Any]:
        """What one more token adds, as a choice."""
        text = self._stop_filter.push(output.event)
        if output.event.index == 1:
            text = self._echo + text
        return self._choice(output.generation, text, output.prompt, [output.event])

    def _choice(
        self, index: int, text: str, prompt: PromptTokens | None, events: Sequence[StreamResponse]
    ) -> dict[str, Any]:
        reason = finish_reason(events[-1])
        if self._generates_nothing:
            text, events, reason = self._echo, (), "length"
        if prompt and self._truncated:
            self._text_offset = _start_in(self._echo, prompt.events())
        logprobs = self._logprobs(
            [*(prompt.events() if prompt else ()), *(event for event in events if not event.token.special)]
        )
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, events: Sequence[StreamResponse]) -> dict[str, Any] | None:
        if not self._include_logprobs or not events:
            return None
        offsets: list[int] = []
        for event in events:
            offsets.append(self._text_offset)
            # A special token that the tokenizer has put before the prompt is not part of the text.
            if not event.token.special or self._echo.startswith(event.token.text, self._text_offset):
                self._text_offset += len(event.token.text)
        tops = [_top_logprobs(event) for event in events]
        return {
            "tokens": [event.token.text for event in events],
            "token_logprobs": [event.token.logprob for event in events],
            "top_logprobs": tops if any(tops) else None,
            "text_offset": offsets,
        }


def _start_in(prompt: str, tokens: Sequence[StreamResponse]) -> int:
    """Where the last tokens of a prompt begin in it. Special tokens before them need not be part of its text."""
    texts = [event.token.text for event in tokens]
    while texts and tokens[-len(texts)].token.special and not prompt.endswith("".join(texts)):
        del texts[0]
    return max(0, len(prompt) - len("".join(texts)))


def _top_logprobs(event: StreamResponse) -> dict[str, float | None] | None:
    """The likeliest tokens by their text. Tokens that are parts of characters share one text: the likeliest is kept."""
    top: dict[str, float | None] = {}
    for token in event.top_tokens or []:
        top.setdefault(token.text, token.logprob)
    return top or None


def _request_from_ids(ids: list[int], parameters: GenerateParameters, backend: Backend) -> TokenIdsRequest:
    """A request whose prompt is token ids.

    Raises:
        ValidationError: the model has no such token.
    """
    limits = backend.limits
    if ids and not 0 <= min(ids) <= max(ids) < limits.vocab_size:
        wrong = next(each for each in ids if not 0 <= each < limits.vocab_size)
        message = f"`prompt` must have ids of tokens, 0 to {limits.vocab_size - 1}. Given: {wrong}"
        raise ValidationError(f"Input validation error: {message}")
    # Not more than fit are converted to text, which is quick then; `Backend.prepare` refuses longer prompts.
    text = backend.model.tokenizer.decode(ids[: limits.max_total_tokens + 1], skip_special=False)
    return TokenIdsRequest(inputs=text, ids=ids, parameters=parameters)


async def _make_formatter(body: CompletionRequest, backend: Backend) -> _CompletionFormatter:
    prompts = body.prompts(max_prompts=backend.settings.max_client_batch_size)
    parameters = body.to_parameters(backend.sampling_defaults)
    requests = [
        GenerateRequest(inputs=prompt, parameters=parameters)
        if isinstance(prompt, str)
        else _request_from_ids(prompt, parameters, backend)
        for prompt in prompts
    ]
    return _CompletionFormatter(requests, body, ResponseMeta.new("cmpl", body.model or backend.settings.model_name))


COMPLETIONS = RouteFormat(
    request_model=CompletionRequest,
    make_formatter=_make_formatter,
    format_error=error_json,
    format_parse_error=parse_error_json,
    done_event=DONE_EVENT,
    field_names=CompletionRequest.field_names,
)
