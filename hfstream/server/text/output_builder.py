"""Ids to text: the Writer spells out one answer, token by token, and knows when the text says that it is over.

Three texts are one: the non-special tokens' texts joined, `generated_text`, and the answer that is not streamed. Each
token brings the text that it completes; a character of several tokens comes whole with the last of them, and where an
answer ends in the middle of one, all three leave it out. (TGI's `generated_text` is empty then: a fault, no contract.)

Refuses to know models and HTTP.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence

from hfstream.types import Details, FinishReason, StreamDetails, StreamResponse, TextGenerationResponse, Token

from ..engine.protocol import TokenOutput
from ..schemas.validation import ValidRequest
from .detokenizer import IncrementalDetokenizer
from .stop_matcher import StopMatcher
from .tokenizer import Tokenizer

_CONTEXT = 5
"""How many of the prompt's tokens an answer is read after, as in TGI: some vocabularies lose a text's first space."""


class OutputBuilder:
    """Writes one answer: ``write(step)`` for every token. The event that has a `generated_text` is the last one."""

    def __init__(self, tokenizer: Tokenizer, request: ValidRequest, eos_ids: Collection[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._request = request
        self._eos_ids = eos_ids
        self._detokenizer = IncrementalDetokenizer(tokenizer, request.prompt[-_CONTEXT:])
        self._stops = StopMatcher(request.stop)
        self._texts: list[str] = []
        self._count = 0

    def append(self, output: TokenOutput) -> StreamResponse:
        """The event of one more token."""
        self._count += 1
        text = self._tokenizer.specials.get(output.token)
        special = text is not None
        if text is None:
            text = self._detokenizer.decode(output.token)
            if output.last:
                text += self._detokenizer.flush()
        end = self._stops.find(text)
        if not special:
            text = text[:end]
            self._texts.append(text)
        reason = self._reason(output, stopped=end is not None)
        return StreamResponse(
            index=self._count,
            token=Token(id=output.token, text=text, logprob=_as_float32(output.logprob), special=special),
            top_tokens=[self._top_token(*likely) for likely in output.top] or None,
            generated_text=None if reason is None else self._request.echoed_prompt + "".join(self._texts),
            details=self._details(reason) if reason and self._request.details else None,
        )

    def _reason(self, output: TokenOutput, *, stopped: bool) -> FinishReason | None:
        """Why the answer ends here, if it does. TGI's order: the length, the model's own end, the stop strings."""
        if not output.last:
            return FinishReason.StopSequence if stopped else None
        if output.token in self._eos_ids and self._count < self._request.max_new_tokens:
            return FinishReason.EndOfSequenceToken
        return FinishReason.Length

    def _details(self, reason: FinishReason) -> StreamDetails:
        request = self._request
        return StreamDetails(
            finish_reason=reason,
            generated_tokens=self._count,
            seed=request.sampling.seed if request.sampling.do_sample else None,
            input_length=len(request.prompt),
        )

    def _top_token(self, token: int, logprob: float | None) -> Token:
        special = token in self._tokenizer.specials
        return Token(id=token, text=self._tokenizer.decode_token(token), logprob=_as_float32(logprob), special=special)


def build_response(events: Sequence[StreamResponse]) -> TextGenerationResponse:
    """The answer that is not streamed, from the events of the one that is."""
    last = events[-1]
    details = None
    if last.details is not None:
        top_tokens = [event.top_tokens or [] for event in events]
        details = Details(
            finish_reason=last.details.finish_reason,
            generated_tokens=last.details.generated_tokens,
            seed=last.details.seed,
            tokens=[event.token for event in events],
            top_tokens=top_tokens if any(top_tokens) else None,
        )
    return TextGenerationResponse(generated_text=last.generated_text or "", details=details)


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
