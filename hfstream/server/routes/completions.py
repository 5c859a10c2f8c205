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
from .openai_responses import (
    LAST_WORDS,
    ResponseMeta,
    StopStringFilter,
    compact,
    error_json,
    finish_reason,
    malformed_json,
    usage,
)


class _Completion:
    """A `ResponseFormatter` whose events are pieces of a text."""

    def __init__(self, request: GenerateRequest, asked: CompletionRequest, imprint: ResponseMeta) -> None:
        self.request = request
        self.streamed = bool(asked.stream)
        self._imprint = imprint
        self._usage_wanted = asked.usage_wanted
        self._logprobs_wanted = asked.logprobs is not None
        self._withheld = StopStringFilter(asked.stop)
        self._said = 0
        """Characters; where the next token stands in the text."""

    def events(self, event: StreamResponse) -> Iterable[str]:
        account = usage(event)
        choice = self._choice(self._withheld.say(event), event, [event])
        # Who did not ask for the account gets it with the last token, as from TGI.
        chunk = self._body([choice], None if self._usage_wanted else account)
        yield compact({**chunk, **event.model_dump(mode="json", exclude={"top_tokens"})})
        if self._usage_wanted and account:
            yield compact(self._body([], account))

    def whole(self, events: Sequence[StreamResponse]) -> str:
        last = events[-1]
        return compact(
            self._body([self._choice(self._withheld.cut(last.generated_text or ""), last, events)], usage(last))
        )

    def _body(self, choices: list[dict[str, Any]], account: Usage | None) -> dict[str, Any]:
        return {
            "object": "text_completion",
            **asdict(self._imprint),
            "choices": choices,
            "usage": None if account is None else account.model_dump(),
        }

    def _choice(self, text: str, event: StreamResponse, events: Sequence[StreamResponse]) -> dict[str, Any]:
        logprobs = self._logprobs([event for event in events if not event.token.special])
        return {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish_reason(event)}

    def _logprobs(self, events: Sequence[StreamResponse]) -> dict[str, Any] | None:
        if not self._logprobs_wanted or not events:
            return None
        offsets: list[int] = []
        for event in events:
            offsets.append(self._said)
            self._said += len(event.token.text)
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


async def _completion(asked: CompletionRequest, backend: Backend) -> _Completion:
    request = GenerateRequest(inputs=asked.text(), parameters=asked.parameters())
    return _Completion(request, asked, ResponseMeta.new("cmpl", asked.model or backend.settings.model))


COMPLETIONS = RouteFormat(
    form=CompletionRequest, voice=_completion, error=error_json, malformed=malformed_json, last_words=LAST_WORDS
)
