"""What a model answers, before a route's format is chosen. Does not depend on formats, or on HTTP."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from .model_requests import MAX_LIKELIEST, ModelRequest
from .rules import Rule, ToolCall, split_text

__all__ = ["LOGPROB", "Answer", "AnswerFormat", "make_answer"]

LOGPROB = -0.5
"""The log probability of every token, and -1 for each further place among the likeliest."""


@dataclass(frozen=True)
class Answer:
    """An answer to one request."""

    number: int
    """The request's number, which the ids in the answer are made of."""
    model: str
    tokens: Sequence[str]
    reasoning: Sequence[str]
    tool_calls: Sequence[ToolCall]
    finish_reason: str
    """OpenAI's, or ``"stop_sequence"``."""
    prompt_tokens: int
    completion_tokens: int

    @property
    def text(self) -> str:
        """All tokens, joined."""
        return "".join(self.tokens)

    def likeliest(self, index: int, count: int) -> Iterator[tuple[str, float]]:
        """Up to `count` tokens for one place, with their log probabilities: its own, then others of the answer."""
        own = self.tokens[index]
        others = (token for token in self._distinct if token != own)
        for place, token in enumerate(itertools.islice((own, *others), count)):
            yield token, LOGPROB - place

    @cached_property
    def _distinct(self) -> Sequence[str]:
        return list(dict.fromkeys(self.tokens))[: MAX_LIKELIEST + 1]


class AnswerFormat(Protocol):
    """An answer in the format of its route."""

    def events(self) -> list[bytes]:
        """The events of a stream."""
        ...

    def body(self) -> object:
        """The JSON value of a response that is not streamed."""
        ...


def make_answer(rule: Rule, request: ModelRequest, number: int, model: str) -> Answer:
    """The answer of a rule. `model`: the name for requests that name none."""
    tokens, reasoning = rule.tokens(), rule.reasoning or ()
    prompt_tokens, completion_tokens = rule.usage.prompt_tokens, rule.usage.completion_tokens
    if completion_tokens is None:
        calls = sum(len(split_text(call.arguments_json())) + 1 for call in rule.tool_calls)
        completion_tokens = len(tokens) + len(reasoning) + calls
    return Answer(
        number,
        request.model or model,
        tokens,
        reasoning,
        rule.tool_calls,
        rule.finish_reason or ("tool_calls" if rule.tool_calls else "stop"),
        len(split_text(request.prompt)) if prompt_tokens is None else prompt_tokens,
        completion_tokens,
    )
