"""The route of OpenAI's completions, streamed or whole.

Its chunks carry the fields of TGI's own stream beside OpenAI's: @huggingface/inference reads its `textGenerationStream`
here, and hands what comes to programs that look for ``token.text``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from hfstream.types import StreamResponse, Usage

from ..schemas.openai import CompletionRequest
from ..schemas.tgi import GenerateRequest
from ..service.backend import Backend
from .formats import RouteFormat
from .openai_common import (
    DONE_EVENT,
    ResponseMeta,
    StopStringFilter,
    dump_json,
    error_json,
    finish_reason,
    parse_error_json,
    usage_of,
)


class _CompletionFormatter:
    """A `ResponseFormatter` whose events are pieces of a text."""

    def __init__(self, request: GenerateRequest, body: CompletionRequest, meta: ResponseMeta) -> None:
        self.request = request
        self.streamed = bool(body.stream)
        self._meta = meta
        self._with_usage = body.with_usage
        self._with_logprobs = body.logprobs is not None
        self._stop_filter = StopStringFilter(body.stop)
        self._text_length = 0
        """Characters; where the next token stands in the text."""

    def events(self, event: StreamResponse) -> Iterable[str]:
        usage = usage_of(event)
        choice = self._choice(self._stop_filter.push(event), event, [event])
        # Who did not ask for the account gets it with the last token, as from TGI.
        chunk = self._body([choice], None if self._with_usage else usage)
        yield dump_json({**chunk, **event.model_dump(mode="json", exclude={"top_tokens"})})
        if self._with_usage and usage:
            yield dump_json(self._body([], usage))

    def format_response(self, events: Sequence[StreamResponse]) -> str:
        last = events[-1]
        return dump_json(
            self._body([self._choice(self._stop_filter.strip(last.generated_text or ""), last, events)], usage_of(last))
        )

    def _body(self, choices: list[dict[str, Any]], usage: Usage | None) -> dict[str, Any]:
        return {
            "object": "text_completion",
            **asdict(self._meta),
            "choices": choices,
            "usage": None if usage is None else usage.model_dump(),
        }

    def _choice(self, text: str, event: StreamResponse, events: Sequence[StreamResponse]) -> dict[str, Any]:
        logprobs = self._logprobs([event for event in events if not event.token.special])
        return {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish_reason(event)}

    def _logprobs(self, events: Sequence[StreamResponse]) -> dict[str, Any] | None:
        if not self._with_logprobs or not events:
            return None
        offsets: list[int] = []
        for event in events:
            offsets.append(self._text_length)
            self._text_length += len(event.token.text)
        tops = [_top(event) for event in events]
        return {
            "tokens": [event.token.text for event in events],
            "token_logprobs": [event.token.logprob for event in events],
            "top_logprobs": tops if any(tops) else None,
            "text_offset": offsets,
        }


def _top(event: StreamResponse) -> dict[str, float | None]:
    """The likeliest tokens at this place. Several that are pieces of characters look alike: the likeliest is told."""
    likely: dict[str, float | None] = {}
    for token in event.top_tokens or []:
        likely.setdefault(token.text, token.logprob)
    return likely


async def _make_completion_formatter(body: CompletionRequest, backend: Backend) -> _CompletionFormatter:
    request = GenerateRequest(inputs=body.text(), parameters=body.parameters())
    return _CompletionFormatter(request, body, ResponseMeta.new("cmpl", body.model or backend.settings.model))


COMPLETIONS = RouteFormat(
    request_model=CompletionRequest,
    make_formatter=_make_completion_formatter,
    error=error_json,
    format_parse_error=parse_error_json,
    done_event=DONE_EVENT,
)
