"""Whether a request can be answered: TGI's rules, in TGI's order, in TGI's words. The first broken one is told.

What TGI can and we cannot is refused in TGI's way too, never ignored. Refuses to know HTTP, and how answers are made.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from hfstream.errors import ValidationError

from ..engine.protocol import SamplingParams
from .tgi import GenerateParameters, GenerateRequest

MAX_STOP_SEQUENCES = 4
MAX_TOP_N_TOKENS = 5

MAX_CHECKED_NEW_TOKENS = 1024
"""As far as TGI (since 3.1.1) looks at `max_new_tokens`: a larger one is taken where this many fit, and the answer ends
where the model's context does."""


@dataclass(frozen=True, kw_only=True)
class ValidRequest:
    """A request that can be answered, in the engine's and the writer's terms."""

    prompt: list[int]
    max_new_tokens: int
    sampling: SamplingParams
    stop: tuple[str, ...] = ()
    echoed_prompt: str = ""
    """What the whole text opens with: the prompt, if it was params for."""
    details: bool = False


def check_streamable(parameters: GenerateParameters, *, stream: bool) -> None:
    """What TGI looks at before it takes a permit."""
    best_of = parameters.best_of
    if stream and best_of not in (None, 1):
        _refuse("`best_of` != 1 is not supported when streaming tokens")
    if stream and parameters.decoder_input_details:
        _refuse("`decoder_input_details` == true is not supported when streaming tokens")
    if best_of is not None and best_of > 1:  # TGI's words for --max-best-of 1; a 0 it takes for a 1
        _refuse("`best_of` != 1 is not allowed for this endpoint")


def check_rules(request: GenerateRequest, *, max_total_tokens: int) -> None:
    """The rules that need no tokens.

    Raises:
        ValidationError: the first rule that is broken.
    """
    for broken in _broken_rules(request, max_total_tokens - 1):
        _refuse(broken)


def validate(request: GenerateRequest, prompt: list[int], *, max_total_tokens: int) -> ValidRequest:
    """The request as the engine can run it; `prompt`: the token ids of its text. After `check_rules`.

    Raises:
        ValidationError: it is too long, or asks for what this server does not have.
    """
    parameters = request.parameters
    max_input_tokens = max_total_tokens - 1
    if parameters.truncate is not None:
        prompt = prompt[-parameters.truncate :]
    max_new_tokens = parameters.max_new_tokens
    if max_new_tokens is None:
        max_new_tokens = max(0, max_total_tokens - len(prompt))
    checked = min(max_new_tokens, MAX_CHECKED_NEW_TOKENS)
    if len(prompt) + checked > max_total_tokens:
        _refuse(
            f"`inputs` tokens + `max_new_tokens` must be <= {max_total_tokens}. "
            f"Given: {len(prompt)} `inputs` tokens and {checked} `max_new_tokens`"
        )
    max_new_tokens = min(max_new_tokens, max_total_tokens - len(prompt))
    if len(prompt) > max_input_tokens:
        _refuse(f"`inputs` must have less than {max_input_tokens} tokens. Given: {len(prompt)}")
    if not prompt:  # some tokenizers make no token of, say, a blank
        _refuse("`inputs` cannot be empty")
    for unsupported in _unsupported(parameters):
        _refuse(unsupported)
    echo = request.full_text if parameters.return_full_text is None else parameters.return_full_text
    return ValidRequest(
        prompt=prompt,
        max_new_tokens=max_new_tokens,
        sampling=_sampling_params(parameters),
        stop=tuple(parameters.stop),
        echoed_prompt=request.inputs if echo else "",
        details=parameters.details,
    )


def _refuse(why: str) -> NoReturn:
    raise ValidationError(f"Input validation error: {why}")


def _broken_rules(request: GenerateRequest, max_input_tokens: int) -> Iterator[str]:
    """All the rules that need no tokens, in TGI's order."""
    params = request.parameters
    if params.temperature is not None and params.temperature <= 0:
        yield "`temperature` must be strictly positive"
    if params.repetition_penalty is not None and params.repetition_penalty <= 0:
        yield "`repetition_penalty` must be strictly positive"
    if params.frequency_penalty is not None and not -2 <= params.frequency_penalty <= 2:
        yield "`frequency_penalty` must be >= -2.0 and <= 2.0"
    if params.presence is not None and not -2 <= params.presence <= 2:
        yield "`presence_penalty` must be >= -2.0 and <= 2.0"
    if params.top_p is not None and not 0 < params.top_p < 1:
        yield "`top_p` must be > 0.0 and < 1.0"
    if params.typical_p is not None and not 0 < params.typical_p < 1:
        yield "`typical_p` must be > 0.0 and < 1.0"
    if params.top_k is not None and params.top_k <= 0:
        yield "`top_k` must be strictly positive"
    if params.max_new_tokens == 0:
        yield "`max_new_tokens` must be strictly positive"
    if len(params.stop) > MAX_STOP_SEQUENCES:
        yield f"`stop` supports up to {MAX_STOP_SEQUENCES} stop sequences. Given: {len(params.stop)}"
    if params.top_n_tokens is not None and params.top_n_tokens > MAX_TOP_N_TOKENS:
        yield f"`top_n_tokens` must be >= 0 and <= {MAX_TOP_N_TOKENS}. Given: {params.top_n_tokens}"
    if not request.inputs:
        yield "`inputs` cannot be empty"
    if params.truncate is not None and not 0 < params.truncate <= max_input_tokens:
        yield f"`truncate` must be strictly positive and less than {max_input_tokens}. Given: {params.truncate}"


def _unsupported(params: GenerateParameters) -> Iterator[str]:
    """What was params for that TGI has and this backend has not."""
    if params.grammar is not None:
        yield "grammar is not supported"
    if params.typical_p is not None:
        yield "`typical_p` is not supported"
    if params.watermark:
        yield "`watermark` is not supported"
    if params.decoder_input_details:
        yield "`decoder_input_details` is not supported"
    if params.adapter_id is not None:
        yield "`adapter_id` is not supported"
    yield from params.unsupported_reasons


def _sampling_params(params: GenerateParameters) -> SamplingParams:
    sampled = params.sampled
    return SamplingParams(
        do_sample=sampled,
        temperature=1.0 if params.temperature is None else params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        repetition_penalty=1.0 if params.repetition_penalty is None else params.repetition_penalty,
        frequency_penalty=params.frequency_penalty or 0.0,
        presence_penalty=params.presence or 0.0,
        seed=(random.getrandbits(64) if params.seed is None else params.seed) if sampled else None,
        top_n_tokens=params.top_n_tokens or 0,
    )
