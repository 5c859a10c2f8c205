"""Ids to text: the Writer spells out one answer, token by token, and knows when the text says that it is over.

Three texts are one: the non-special tokens' texts joined, `generated_text`, and the answer that is not streamed. Each
token brings the text that it completes; a character of several tokens comes whole with the last of them, and where an
answer ends in the middle of one, all three leave it out. (TGI's `generated_text` is empty then: a fault, no contract.)

Refuses to know models and HTTP.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence

from tokenizers.decoders import DecodeStream

from hfstream.types import Details, FinishReason, StreamDetails, StreamResponse, TextGenerationResponse, Token

from ..engine.protocol import TokenOutput
from ..schemas.validation import ValidRequest
from .tokenizer import Tokenizer

_CONTEXT = 5
"""How many of the prompt's tokens an answer is read after, as in TGI: some vocabularies lose a text's first space."""


class OutputBuilder:
    """Writes one answer: ``write(step)`` for every token. The event that has a `generated_text` is the last one."""

    def __init__(self, vocabulary: Tokenizer, question: ValidRequest, eos_ids: Collection[int] = ()) -> None:
        self._vocabulary = vocabulary
        self._question = question
        self._eos_ids = eos_ids
        self._speller = IncrementalDetokenizer(vocabulary, question.prompt[-_CONTEXT:])
        self._stops = StopMatcher(question.stop)
        self._texts: list[str] = []
        self._count = 0

    def write(self, step: TokenOutput) -> StreamResponse:
        """The event of one more token."""
        self._count += 1
        text = self._vocabulary.specials.get(step.token)
        special = text is not None
        if text is None:
            text = self._speller.spell(step.token)
            if step.last:
                text += self._speller.rest()
        end = self._stops.find(text)
        if not special:
            text = text[:end]
            self._texts.append(text)
        reason = self._reason(step, stopped=end is not None)
        return StreamResponse(
            index=self._count,
            token=Token(id=step.token, text=text, logprob=_as_float32(step.logprob), special=special),
            top_tokens=[self._alone(*likely) for likely in step.top] or None,
            generated_text=None if reason is None else self._question.echoed_prompt + "".join(self._texts),
            details=self._details(reason) if reason and self._question.details else None,
        )

    def _reason(self, step: TokenOutput, *, stopped: bool) -> FinishReason | None:
        """Why the answer ends here, if it does. TGI's order: the length, the model's own end, the stop strings."""
        if not step.last:
            return FinishReason.StopSequence if stopped else None
        if step.token in self._eos_ids and self._count < self._question.max_new_tokens:
            return FinishReason.EndOfSequenceToken
        return FinishReason.Length

    def _details(self, reason: FinishReason) -> StreamDetails:
        question = self._question
        return StreamDetails(
            finish_reason=reason,
            generated_tokens=self._count,
            seed=question.sampling.seed if question.sampling.do_sample else None,
            input_length=len(question.prompt),
        )

    def _alone(self, token: int, logprob: float | None) -> Token:
        special = token in self._vocabulary.specials
        return Token(id=token, text=self._vocabulary.text_of(token), logprob=_as_float32(logprob), special=special)


def whole(events: Sequence[StreamResponse]) -> TextGenerationResponse:
    """The answer that is not streamed, from the events of the one that is."""
    last = events[-1]
    details = None
    if last.details is not None:
        tops = [event.top_tokens or [] for event in events]
        details = Details(
            finish_reason=last.details.finish_reason,
            generated_tokens=last.details.generated_tokens,
            seed=last.details.seed,
            tokens=[event.token for event in events],
            top_tokens=tops if any(tops) else None,
        )
    return TextGenerationResponse(generated_text=last.generated_text or "", details=details)


class IncrementalDetokenizer:
    """Token by token to text, special tokens left out, by the left context that `DecodeStream` keeps.

    As a stream the special ones are not there: what comes after one completes the character from before it, as it does
    where a whole answer is decoded without them.
    """

    def __init__(self, vocabulary: Tokenizer, context: Sequence[int]) -> None:
        self._vocabulary = vocabulary
        # A context that ends in U+FFFD, for the prompt does, looks unfinished, and would be repeated once it is not.
        self._ids = [] if vocabulary.decode(context).endswith("\ufffd") else list(context)
        self._unsaid = 0
        self._stream = DecodeStream(ids=self._ids, skip_special_tokens=True)

    def spell(self, token: int) -> str:
        """The text that `token` completes."""
        self._ids.append(token)
        self._unsaid += 1
        text = self._step(token)
        if text is None:
            return ""
        self._unsaid = 0
        return text

    def rest(self) -> str:
        """What is complete of the text not said yet, once no more tokens come.

        Garbage and the beginning of a character look alike in it; at the end neither is said.
        """
        if not self._unsaid:
            return ""
        said = self._vocabulary.decode(self._ids[: -self._unsaid])
        everything = self._vocabulary.decode(self._ids)
        return everything[len(said) :].rstrip("\ufffd") if everything.startswith(said) else ""

    def _step(self, token: int) -> str | None:
        try:
            return self._stream.step(self._vocabulary.tokenizer, token)
        except Exception:  # noqa: BLE001 - "Invalid prefix encountered", and tokenizers has no class for it
            # The token changed the text before it. Begin anew with what has not been said (as vLLM: #17448, #19449).
            self._stream = DecodeStream(skip_special_tokens=True)
            return self._stream.step(self._vocabulary.tokenizer, self._ids[-self._unsaid :])


class StopMatcher:
    """Looks for stop strings in a text that comes in pieces.

    TGI misses one that ends within a token. Here it is found wherever it ends, and what follows it in that token is
    cut: the answer ends with the stop string, which is part of it, so nothing has to be held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._reach = max(map(len, stops), default=1) - 1
        self._tail = ""

    def find(self, text: str) -> int | None:
        """Where in `text`, the next piece, the first stop string ends."""
        if not self._stops:
            return None
        seen = self._tail + text
        ends = [at + len(stop) for stop in self._stops if (at := seen.find(stop)) >= 0]
        if ends:
            return max(0, min(ends) - len(self._tail))
        self._tail = seen[-self._reach :] if self._reach else ""
        return None


_float32 = struct.Struct("f")


def _as_float32(value: float | None) -> float | None:
    """The number whose shortest text is the shortest that means this float32, as TGI writes it; None if not finite."""
    if value is None or value - value != 0:
        return None
    packed = _float32.pack(value)
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if _float32.pack(short) == packed:
            return short
    return float(f"{value:.9g}")
