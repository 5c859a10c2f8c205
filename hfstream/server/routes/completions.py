"""OpenAI's completions, streamed or not.

Chunks carry the fields of TGI's own stream beside OpenAI's: @huggingface/inference sends its `textGenerationStream` to
this route, and passes the events on to programs that read ``token.text``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from hfstream.types import StreamResponse, Usage

from ..schemas.completions import CompletionRequest
from ..schemas.tgi import GenerateRequest
from ..service.backend import Backend
from .formats import RouteFormat
from .openai_responses import (
    DONE_EVENT,
    ResponseMeta,
    StopStringFilter,
    dump_json,
    error_json,
    finish_reason,
    parse_error_json,
    usage,
)


class _CompletionFormatter:
    """A `ResponseFormatter` whose events are chunks of a text."""

    def __init__(self, request: GenerateRequest, body: CompletionRequest, meta: ResponseMeta) -> None:
        self.request = request
        self.stream = bool(body.stream)
        self._meta = meta
        self._include_usage = body.include_usage
        self._include_logprobs = body.logprobs is not None
        self._stop_filter = StopStringFilter(body.stop)
        self._text_offset = 0
        """Characters before the next token."""

    def format_event(self, event: StreamResponse) -> Iterable[str]:
        tokens = usage(event)
        choice = self._choice(self._stop_filter.push(event), event, [event])
        # Without `include_usage` the last token's chunk has the usage, as TGI's.
        chunk = self._body([choice], None if self._include_usage else tokens)
        yield dump_json({**chunk, **event.model_dump(mode="json", exclude={"top_tokens"})})
        if self._include_usage and tokens:
            yield dump_json(self._body([], tokens))

    def format_response(self, events: Sequence[StreamResponse]) -> str:
        last = events[-1]
        text = self._stop_filter.strip(last.generated_text or "")
        return dump_json(self._body([self._choice(text, last, events)], usage(last)))

    def _body(self, choices: list[dict[str, Any]], tokens: Usage | None) -> dict[str, Any]:
        return {
            "object": "text_completion",
            **asdict(self._meta),
            "choices": choices,
            "usage": None if tokens is None else tokens.model_dump(),
        }

    def _choice(self, text: str, event: StreamResponse, events: Sequence[StreamResponse]) -> dict[str, Any]:
        logprobs = self._logprobs([event for event in events if not event.token.special])
        return {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish_reason(event)}

    def _logprobs(self, events: Sequence[StreamResponse]) -> dict[str, Any] | None:
        if not self._include_logprobs or not events:
            return None
        offsets: list[int] = []
        for event in events:
            offsets.append(self._text_offset)
            self._text_offset += len(event.token.text)
        tops = [_top_logprobs(event) for event in events]
        return {
            "tokens": [event.token.text for event in events],
            "token_logprobs": [event.token.logprob for event in events],
            "top_logprobs": tops if any(tops) else None,
            "text_offset": offsets,
        }


def _top_logprobs(event: StreamResponse) -> dict[str, float | None]:
    """The likeliest tokens by their text. Tokens that are parts of characters share one text: the likeliest is kept."""
    top: dict[str, float | None] = {}
    for token in event.top_tokens or []:
        top.setdefault(token.text, token.logprob)
    return top


async def _make_formatter(body: CompletionRequest, backend: Backend) -> _CompletionFormatter:
    request = GenerateRequest(inputs=body.single_prompt(), parameters=body.to_parameters(backend.sampling_defaults))
    return _CompletionFormatter(request, body, ResponseMeta.new("cmpl", body.model or backend.settings.model_name))


COMPLETIONS = RouteFormat(
    request_model=CompletionRequest,
    make_formatter=_make_formatter,
    format_error=error_json,
    format_parse_error=parse_error_json,
    done_event=DONE_EVENT,
    field_names=CompletionRequest.field_names,
)
