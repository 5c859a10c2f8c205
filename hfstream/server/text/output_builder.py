"""Builds the events of a response from generated tokens: their texts, the generated text, and why it ends.

Three texts are equal: the joined texts of the non-special tokens, the stream's `generated_text`, and that of the
response that is not streamed. Each event has the text that its token completes; a character of several tokens belongs
to the last of them. If the output ends within a character, all three leave it out. (TGI's `generated_text` is empty
then, which is a bug and not part of the API.)

Does not depend on models, HTTP or request schemas.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from hfstream.types import (
    BestOfSequence,
    Details,
    FinishReason,
    InputToken,
    StreamDetails,
    StreamResponse,
    TextGenerationResponse,
    Token,
)

from ..engine.protocol import PromptLogprob, SamplingParams, TokenOutput
from .detokenizer import IncrementalDetokenizer
from .stop_matcher import StopMatcher
from .tokenizer import Tokenizer

_CONTEXT = 5
"""How many of the prompt's tokens the output is decoded after, as in TGI: some tokenizers drop a text's first space."""


class OutputRequest(Protocol):
    """What the events depend on of a request (`schemas.validation.ValidRequest`)."""

    @property
    def prompt(self) -> Sequence[int]: ...

    @property
    def max_new_tokens(self) -> int: ...

    @property
    def sampling(self) -> SamplingParams: ...

    @property
    def stop(self) -> Sequence[str]: ...

    @property
    def echoed_prompt(self) -> str:
        """What `generated_text` starts with: the prompt's text, if requested."""
        ...

    @property
    def details(self) -> bool: ...


class OutputBuilder:
    """Builds the events of one response. The event that has a `generated_text` is the last one."""

    def __init__(self, tokenizer: Tokenizer, request: OutputRequest, eos_ids: Collection[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._request = request
        self._eos_ids = eos_ids
        self._detokenizer = IncrementalDetokenizer(tokenizer, request.prompt[-_CONTEXT:])
        self._stops = StopMatcher(request.stop)
        self._texts: list[str] = []
        self._count = 0
        self.finish_reason: FinishReason | None = None
        """Why the output has ended; None before the last token."""
        self.prompt: PromptTokens | None = None
        """The prompt's tokens with their log-probabilities, if those were requested. There with the first token."""

    def append(self, output: TokenOutput) -> StreamResponse:
        """The event of the next token."""
        self._count += 1
        if output.prompt:
            self.prompt = PromptTokens(self._tokenizer, self._request.prompt, output.prompt)
        text = self._tokenizer.specials.get(output.token)
        special = text is not None
        if text is None:
            text = self._detokenizer.decode(output.token)
            if output.last:
                text += self._detokenizer.flush()
        end = self._stops.find(text)
        if not special:  # a special token can be a stop string, but is not part of the text
            text = text[:end]
            self._texts.append(text)
        reason = self.finish_reason = self._reason(output, stopped=end is not None)
        return StreamResponse(
            index=self._count,
            token=Token(id=output.token, text=text, logprob=_as_float32(output.logprob), special=special),
            top_tokens=_top_tokens(self._tokenizer, output.top),
            generated_text=None if reason is None else self._request.echoed_prompt + "".join(self._texts),
            details=self._details(reason) if reason and self._request.details else None,
        )

    def _reason(self, output: TokenOutput, *, stopped: bool) -> FinishReason | None:
        """Why the output ends here, if it does. TGI's order: length, EOS token, stop string."""
        if output.token in self._eos_ids and self._count < self._request.max_new_tokens:
            return FinishReason.EndOfSequenceToken  # the engine does not know all of these tokens
        if not output.last:
            return FinishReason.StopSequence if stopped else None
        return FinishReason.Length

    def _details(self, reason: FinishReason) -> StreamDetails:
        request = self._request
        return StreamDetails(
            finish_reason=reason,
            generated_tokens=self._count,
            seed=request.sampling.seed if request.sampling.do_sample else None,
            input_length=len(request.prompt),
        )


class PromptTokens:
    """The tokens of a prompt with their log-probabilities. Events are made on demand: each takes 10 µs or more."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], logprobs: Sequence[PromptLogprob]) -> None:
        """`logprobs`: one for each token of `prompt`."""
        self._tokenizer, self._prompt, self._logprobs = tokenizer, prompt, logprobs

    def __len__(self) -> int:
        """How many tokens the events have, the likeliest ones included."""
        return sum(1 + len(each.top) for each in self._logprobs)

    def events(self) -> list[StreamResponse]:
        """The tokens as events. Their joined texts are the prompt's text, as for generated ones."""
        detokenizer = IncrementalDetokenizer(self._tokenizer, ())
        events: list[StreamResponse] = []
        for id_, (logprob, top) in zip(self._prompt, self._logprobs, strict=True):
            special = self._tokenizer.specials.get(id_)
            text = detokenizer.decode(id_) if special is None else special
            token = Token(id=id_, text=text, logprob=_as_float32(logprob), special=special is not None)
            events.append(StreamResponse(token=token, top_tokens=_top_tokens(self._tokenizer, top)))
        return events


def _top_tokens(tokenizer: Tokenizer, top: Sequence[tuple[int, float | None]]) -> list[Token] | None:
    specials, decode = tokenizer.specials, tokenizer.decode_token
    tokens = (
        Token(id=token, text=decode(token), logprob=_as_float32(logprob), special=token in specials)
        for token, logprob in top
    )
    return list(tokens) or None


def build_response(
    events: Sequence[StreamResponse],
    others: Sequence[Sequence[StreamResponse]] = (),
    prompt: Sequence[StreamResponse] = (),
) -> TextGenerationResponse:
    """The response that is not streamed, from the events of the one that is.

    `others`: the generations that `best_of` did not choose; `prompt`: the prompt's tokens, if they are reported.
    """
    prefill = [InputToken(id=each.token.id, text=each.token.text, logprob=each.token.logprob) for each in prompt]
    last = events[-1]
    details = None
    if last.details is not None:
        details = Details(**_details(events), prefill=prefill)
        if others:
            sequences = [
                BestOfSequence(generated_text=other[-1].generated_text or "", **_details(other), prefill=prefill)
                for other in others
            ]
            details = details.model_copy(update={"best_of_sequences": sequences})
    return TextGenerationResponse(generated_text=last.generated_text or "", details=details)


def _details(events: Sequence[StreamResponse]) -> dict[str, Any]:
    details = events[-1].details or StreamDetails()
    top_tokens = [event.top_tokens or [] for event in events]
    return {
        "finish_reason": details.finish_reason,
        "generated_tokens": details.generated_tokens,
        "seed": details.seed,
        "tokens": [event.token for event in events],
        "top_tokens": top_tokens if any(top_tokens) else None,
    }


_float32 = struct.Struct("f")


def _as_float32(value: float | None) -> float | None:
    """The double that is written with the fewest digits that identify this float32, as TGI writes it.

    None if `value` is not finite, because JSON has neither NaN nor infinities. A C float has 6 to 9 significant digits.
    """
    if value is None or not math.isfinite(value):
        return None
    packed = _float32.pack(value)
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if _float32.pack(short) == packed:
            return short
    return float(f"{value:.9g}")
