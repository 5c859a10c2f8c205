"""Responses of OpenAI's `/v1/completions` as TGI's types: the chunks of a stream, and a response that is not streamed.

The conversion of chunks belongs to the accumulators, not to the decoder, because a usage may come in a chunk of its own
after the last token. No `StreamResponse` can hold it, so a decoder of `StreamResponse` would lose it, or would have to
delay the last token until then. Does not depend on how a response is received.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..types import (
    ChatCompletionLogprob,
    ChatCompletionTopLogprob,
    Details,
    FinishReason,
    StreamDetails,
    StreamResponse,
    TextGenerationResponse,
    Token,
    Usage,
)
from .accumulators import DetailsAccumulator, TextAccumulator
from .answer_errors import raise_if_failed
from .choice_states import ChoiceIndices
from .completion_texts import parse_completion_body
from .completions import CompletionChoice, CompletionChunk
from .usages import latest_usage, usage_in

__all__ = ["CompletionDetailsAccumulator", "CompletionTextAccumulator", "parse_completion"]

UNKNOWN_ID = -1
"""The id of a token of which the server sends only the text."""


class _CompletionAdapter:
    """Converts chunks to `StreamResponse`s. Only the first choice counts: TGI has no `n`."""

    def __init__(self, *, stops: Sequence[str], with_top_tokens: bool) -> None:
        self._stops = stops
        self._with_top_tokens = with_top_tokens
        self._count = 0
        self._finished = False
        self._indices = ChoiceIndices()
        self._first: int | None = None
        self.usage: Usage | None = None

    def convert(self, chunks: list[CompletionChunk]) -> list[StreamResponse]:
        """One `StreamResponse` for each token of the chunks; the last one has `details`, but no `generated_text`."""
        responses: list[StreamResponse] = []
        for chunk in chunks:
            self._add_usage(chunk)
            choice = min(chunk.choices, key=lambda choice: choice.index, default=None)
            # A usage may follow a finish, with an empty choice. With text, it was no finish.
            beside = len(chunk.choices) > 1
            if choice is not None and self._is_first(choice, beside=beside) and (choice.text or not self._finished):
                responses += self._responses(chunk, choice)
        return responses

    def _is_first(self, choice: CompletionChoice, *, beside: bool) -> bool:
        key = self._indices.key(choice.index, beside=beside)
        if self._first is None or key == 0:
            self._first = key
        return key == self._first

    def _add_usage(self, chunk: CompletionChunk) -> None:
        found = [chunk.usage]
        if chunk.__pydantic_extra__:
            found.append(usage_in(chunk.__pydantic_extra__))
        found += [usage_in(choice.__pydantic_extra__) for choice in chunk.choices if choice.__pydantic_extra__]
        for usage in found:
            self.usage = latest_usage(self.usage, usage)

    def _responses(self, chunk: CompletionChunk, choice: CompletionChoice) -> list[StreamResponse]:
        if chunk.token is None:
            tokens = _tokens(choice, with_top_tokens=self._with_top_tokens)
        else:
            # The choice's text is without the stop string, which the token may contain.
            token = chunk.token if chunk.token.special else chunk.token.model_copy(update={"text": choice.text})
            tokens = [(token, _top(choice, 0) if self._with_top_tokens else None)]
        responses: list[StreamResponse] = []
        for token, top in tokens:
            self._count += token.id != UNKNOWN_ID or not token.special
            responses.append(StreamResponse(index=self._count, token=token, top_tokens=top))
        if choice.finish_reason:
            self._finished = True
            responses[-1] = responses[-1].model_copy(update={"details": self._details(choice)})
        return responses

    def _details(self, choice: CompletionChoice) -> StreamDetails:
        return StreamDetails(
            finish_reason=_map_finish_reason(choice, self._stops),
            generated_tokens=(self.usage and self.usage.completion_tokens) or self._count,
            input_length=(self.usage and self.usage.prompt_tokens) or None,
        )


_Tokens = list[tuple[Token, list[Token] | None]]


def _tokens(choice: CompletionChoice, *, with_top_tokens: bool, complete: bool = False) -> _Tokens:
    """The tokens of a choice, each with the most likely ones at its position.

    The lists of log probabilities are used only where they agree with the text. They may have one token more, the one
    that ended generation, which is special; or, in a chunk, tokens that are incomplete characters, whose text the
    server sends with a later chunk. Then the chunk is one token with the chunk's text. In a complete response
    (`complete`) all tokens are there, so the lists are used in any case.
    """
    texts, logprobs, ids = _token_lists(choice)
    is_plain = "".join(texts) == choice.text
    is_end = bool(choice.finish_reason) and not is_plain and "".join(texts[:-1]) == choice.text
    if not texts or not (is_plain or is_end or complete):
        is_end_only = not choice.text and bool(choice.finish_reason)
        token = Token(
            id=ids[0] if len(ids) == 1 else UNKNOWN_ID,
            text=choice.text,
            logprob=logprobs[0] if len(logprobs) == 1 else None,
            special=is_end_only,
        )
        return [(token, _top(choice, 0) if with_top_tokens else None)]
    if len(ids) != len(texts):
        ids = [UNKNOWN_ID] * len(texts)
    return [
        (
            Token(
                id=token,
                text=text,
                logprob=logprobs[position] if position < len(logprobs) else None,
                special=is_end and position == len(texts) - 1,
            ),
            _top(choice, position) if with_top_tokens else None,
        )
        for position, (token, text) in enumerate(zip(ids, texts, strict=True))
    ]


def _token_lists(choice: CompletionChoice) -> tuple[list[str], list[float | None], list[int]]:
    """The texts, log probabilities and ids of the tokens of a choice; the lists may differ in length."""
    logprobs, ids = choice.logprobs, choice.token_ids or []
    if logprobs is None:
        return [], [], ids
    if entries := logprobs.content:
        ids = ids or [_id(entry) for entry in entries]
        return [entry.token for entry in entries], [entry.logprob for entry in entries], ids
    return logprobs.tokens, logprobs.token_logprobs, ids


def _id(entry: ChatCompletionLogprob | ChatCompletionTopLogprob) -> int:
    found = (entry.__pydantic_extra__ or {}).get("id")
    return found if isinstance(found, int) else UNKNOWN_ID


def _top(choice: CompletionChoice, position: int) -> list[Token] | None:
    if choice.logprobs is None:
        return None
    if entries := choice.logprobs.content:
        top = entries[position].top_logprobs
        return [Token(id=_id(entry), text=entry.token, logprob=entry.logprob) for entry in top]
    top_logprobs = choice.logprobs.top_logprobs or []
    if position >= len(top_logprobs):
        return None
    return [
        Token(id=UNKNOWN_ID, text=text, logprob=logprob) for text, logprob in (top_logprobs[position] or {}).items()
    ]


def _map_finish_reason(choice: CompletionChoice, stops: Sequence[str]) -> FinishReason | str:
    """The finish reason as TGI's.

    OpenAI's "stop" is the end-of-sequence token or a stop string. If the server does not say which, it stays "stop".
    """
    reason = choice.finish_reason or ""
    if reason in ("stop", "eos_token"):
        if isinstance(choice.stop_reason, str):
            return FinishReason.StopSequence
        if reason == "eos_token" or not stops or "stop_reason" in choice.model_fields_set:
            return FinishReason.EndOfSequenceToken
        return reason
    return FinishReason(reason) if reason in ("length", "stop_sequence") else reason


class CompletionTextAccumulator(TextAccumulator):
    """Accumulates a stream of text."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        super().__init__()
        self._adapter = _CompletionAdapter(stops=stops, with_top_tokens=False)

    @property
    def usage(self) -> Usage | None:
        return self._adapter.usage or super().usage

    def add(self, items: list[Any]) -> list[str]:
        return super().add(self._adapter.convert(items))


class CompletionDetailsAccumulator(DetailsAccumulator):
    """Accumulates a stream of `StreamResponse`."""

    def __init__(self, stops: Sequence[str] = (), *, with_top_tokens: bool = False, response_model: Any = None) -> None:
        super().__init__(response_model)
        self._adapter = _CompletionAdapter(stops=stops, with_top_tokens=with_top_tokens)

    @property
    def usage(self) -> Usage | None:
        return self._adapter.usage or super().usage

    @property
    def details(self) -> StreamDetails | None:
        details, usage = super().details, self._adapter.usage
        if details is None or usage is None:
            return details
        counts = {"generated_tokens": usage.completion_tokens, "input_length": usage.prompt_tokens}
        return details.model_copy(update={name: count for name, count in counts.items() if count})

    def add(self, items: list[Any]) -> list[StreamResponse]:
        responses = self._adapter.convert(items)
        if responses and responses[-1].details:
            new = "".join(response.token.text for response in responses if not response.token.special)
            responses[-1] = responses[-1].model_copy(update={"generated_text": self.text + new})
        return super().add(responses)


def parse_completion(
    body: bytes, stops: Sequence[str], *, details: bool, with_top_tokens: bool
) -> TextGenerationResponse:
    """A response that is not streamed, as TGI's type.

    Raises:
        ValueError: the body is not a completion, or has no choices.
    """
    completion = parse_completion_body(body)
    choice = min(completion.choices, key=lambda choice: choice.index, default=None)
    raise_if_failed(completion, choice.text if choice else "")
    if choice is None:
        raise ValueError("a completion without choices")
    if not details:
        return TextGenerationResponse(generated_text=choice.text)
    tokens = (
        _tokens(choice, with_top_tokens=with_top_tokens, complete=True)
        if choice.logprobs and (choice.logprobs.tokens or choice.logprobs.content)
        else []
    )
    completion_details = Details(
        finish_reason=_map_finish_reason(choice, stops),
        generated_tokens=completion.usage.completion_tokens if completion.usage else len(tokens),
        tokens=[token for token, _ in tokens],
        top_tokens=[top or [] for _, top in tokens] if with_top_tokens else None,
    )
    return TextGenerationResponse(generated_text=choice.text, details=completion_details)
