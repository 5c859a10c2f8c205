"""Whether a request can be answered: TGI's rules, in TGI's order, in TGI's words. The first broken one is told.

What TGI can and we cannot is refused in TGI's way too, never ignored. Refuses to know HTTP, and how answers are made.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from hfstream.errors import ValidationError

from ..engine.protocol import SamplingParams
from .tgi import GenerateParameters, GenerateRequest

MAX_STOP_SEQUENCES = 4
MAX_TOP_N_TOKENS = 5

_JUDGED = 1024
"""As far as TGI (since 3.1.1) looks at `max_new_tokens`: a larger one is taken where this many fit, and the answer ends
where the model's context does."""

Encode = Callable[[str], Awaitable[list[int]]]


@dataclass(frozen=True, kw_only=True)
class ValidRequest:
    """A request that can be answered, in the engine's and the writer's terms."""

    prompt: list[int]
    max_new_tokens: int
    sampling: SamplingParams
    stop: tuple[str, ...] = ()
    preamble: str = ""
    """What the whole text opens with: the prompt, if it was asked for."""
    details: bool = False


def check_manner(parameters: GenerateParameters, *, stream: bool) -> None:
    """What TGI looks at before it takes a permit."""
    best_of = parameters.best_of
    if stream and best_of not in (None, 1):
        _refuse("`best_of` != 1 is not supported when streaming tokens")
    if stream and parameters.decoder_input_details:
        _refuse("`decoder_input_details` == true is not supported when streaming tokens")
    if best_of is not None and best_of > 1:  # TGI's words for --max-best-of 1; a 0 it takes for a 1
        _refuse("`best_of` != 1 is not allowed for this endpoint")


async def validate(request: GenerateRequest, *, max_total_tokens: int, encode: Encode, full_text: bool) -> ValidRequest:
    """The question that `request` puts. `full_text`: whether this route repeats the prompt unless told otherwise.

    Raises:
        ValidationError: it cannot be answered.
    """
    parameters = request.parameters
    max_input_tokens = max_total_tokens - 1
    for broken in _broken_rules(request, max_input_tokens):
        _refuse(broken)
    prompt = await encode(request.inputs)
    if parameters.truncate is not None:
        prompt = prompt[-parameters.truncate :]
    max_new_tokens = parameters.max_new_tokens
    if max_new_tokens is None:
        max_new_tokens = max(0, max_total_tokens - len(prompt))
    judged = min(max_new_tokens, _JUDGED)
    if len(prompt) + judged > max_total_tokens:
        _refuse(
            f"`inputs` tokens + `max_new_tokens` must be <= {max_total_tokens}. "
            f"Given: {len(prompt)} `inputs` tokens and {judged} `max_new_tokens`"
        )
    max_new_tokens = min(max_new_tokens, max_total_tokens - len(prompt))
    if len(prompt) > max_input_tokens:
        _refuse(f"`inputs` must have less than {max_input_tokens} tokens. Given: {len(prompt)}")
    if not prompt:  # some tokenizers make nothing of, say, a blank
        _refuse("`inputs` cannot be empty")
    for lacking in _lacking(parameters):
        _refuse(lacking)
    asked = parameters.return_full_text
    return ValidRequest(
        prompt=prompt,
        max_new_tokens=max_new_tokens,
        sampling=_sampling(parameters),
        stop=tuple(parameters.stop),
        preamble=request.inputs if (full_text if asked is None else asked) else "",
        details=parameters.details,
    )


def _refuse(why: str) -> NoReturn:
    raise ValidationError(f"Input validation error: {why}")


def _broken_rules(request: GenerateRequest, max_input_tokens: int) -> Iterator[str]:
    """All the rules that need no tokens, in TGI's order."""
    asked = request.parameters
    if asked.temperature is not None and asked.temperature <= 0:
        yield "`temperature` must be strictly positive"
    if asked.repetition_penalty is not None and asked.repetition_penalty <= 0:
        yield "`repetition_penalty` must be strictly positive"
    if asked.frequency_penalty is not None and not -2 <= asked.frequency_penalty <= 2:
        yield "`frequency_penalty` must be >= -2.0 and <= 2.0"
    if asked.presence is not None and not -2 <= asked.presence <= 2:
        yield "`presence_penalty` must be >= -2.0 and <= 2.0"
    if asked.top_p is not None and not 0 < asked.top_p < 1:
        yield "`top_p` must be > 0.0 and < 1.0"
    if asked.typical_p is not None and not 0 < asked.typical_p < 1:
        yield "`typical_p` must be > 0.0 and < 1.0"
    if asked.top_k is not None and asked.top_k <= 0:
        yield "`top_k` must be strictly positive"
    if asked.max_new_tokens == 0:
        yield "`max_new_tokens` must be strictly positive"
    if len(asked.stop) > MAX_STOP_SEQUENCES:
        yield f"`stop` supports up to {MAX_STOP_SEQUENCES} stop sequences. Given: {len(asked.stop)}"
    if asked.top_n_tokens is not None and asked.top_n_tokens > MAX_TOP_N_TOKENS:
        yield f"`top_n_tokens` must be >= 0 and <= {MAX_TOP_N_TOKENS}. Given: {asked.top_n_tokens}"
    if not request.inputs:
        yield "`inputs` cannot be empty"
    if asked.truncate is not None and not 0 < asked.truncate <= max_input_tokens:
        yield f"`truncate` must be strictly positive and less than {max_input_tokens}. Given: {asked.truncate}"


def _lacking(asked: GenerateParameters) -> Iterator[str]:
    """What was asked for that TGI has and this backend has not."""
    if asked.grammar is not None:
        yield "grammar is not supported"
    if asked.typical_p is not None:
        yield "`typical_p` is not supported"
    if asked.watermark:
        yield "`watermark` is not supported"
    if asked.decoder_input_details:
        yield "`decoder_input_details` is not supported"
    if asked.adapter_id is not None:
        yield "`adapter_id` is not supported"
    yield from asked.lacking


def _sampling(asked: GenerateParameters) -> SamplingParams:
    sampled = asked.sampled
    return SamplingParams(
        do_sample=sampled,
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_k=asked.top_k,
        top_p=asked.top_p,
        repetition_penalty=1.0 if asked.repetition_penalty is None else asked.repetition_penalty,
        frequency_penalty=asked.frequency_penalty or 0.0,
        presence_penalty=asked.presence or 0.0,
        seed=(random.getrandbits(64) if asked.seed is None else asked.seed) if sampled else None,
        top_n_tokens=asked.top_n_tokens or 0,
    )
