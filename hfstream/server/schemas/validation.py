"""Whether a request can be answered: TGI's rules, in TGI's order, with TGI's messages. The first broken one is raised.

What TGI supports and this server does not is refused in the same way, never ignored. The rules are in two functions,
because some need the number of tokens: `check_parameters` comes before the prompt is tokenised, `validate` after.

Does not depend on HTTP, tokenizers or models.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

from hfstream.errors import ValidationError

from ..engine.protocol import EngineRequest, Grammar, SamplingParams
from .grammar import parse_grammar
from .tgi import GenerateParameters, GenerateRequest

MAX_STOP_LENGTH = 1_024
"""Characters of a stop string. Each token's text is compared with it."""
MIN_SCALE, MAX_SCALE = 1e-4, 100.0
"""Temperatures and penalties beyond are taken as these: they would make all logits equal, or not finite."""

MAX_LOGIT_BIAS = 100.0

MAX_CHECKED_NEW_TOKENS = 1024
"""TGI (since 3.1.1) checks `max_new_tokens` up to this number. A larger value is accepted where this many tokens fit;
generation then ends at the end of the model's context."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request may ask for: the model's numbers, and TGI's settings."""

    max_total_tokens: int
    max_input_tokens: int
    vocab_size: int
    max_stop_sequences: int = 4
    max_top_n_tokens: int = 5


@dataclass(frozen=True, kw_only=True)
class ValidRequest:
    """A request that can be answered, in the terms of the engine and of the text builder."""

    prompt: list[int]
    """Token ids."""
    max_new_tokens: int
    sampling: SamplingParams
    stop: tuple[str, ...] = ()
    echoed_prompt: str = ""
    """The prompt, if the full text begins with it, else empty."""
    details: bool = False
    grammar: Grammar | None = None
    prompt_logprobs: bool = False
    generations: int = 1
    """How many times the prompt is continued."""

    def engine_request(self) -> EngineRequest:
        """The engine's part of it."""
        return EngineRequest(self.prompt, self.max_new_tokens, self.sampling, self.prompt_logprobs, self.grammar)

    def copies(self) -> list[ValidRequest]:
        """One request for each generation. Sampled ones have seeds of their own, one after the other."""
        seed = self.sampling.seed
        if seed is None:
            return [self] * self.generations
        seeds = ((seed + number) % 2**64 for number in range(self.generations))
        return [replace(self, sampling=replace(self.sampling, seed=each)) for each in seeds]


def check_streamable(parameters: GenerateParameters, *, stream: bool, max_best_of: int = 2) -> None:
    """The rules that TGI checks before it takes a permit.

    Raises:
        ValidationError: a parameter cannot be combined with a stream, or `best_of` is more than `max_best_of`.
    """
    best_of = parameters.best_of
    if stream and best_of not in (None, 1):
        _refuse("`best_of` != 1 is not supported when streaming tokens")
    if stream and parameters.decoder_input_details:
        _refuse("`decoder_input_details` == true is not supported when streaming tokens")
    if best_of is not None and best_of > max_best_of:
        if max_best_of == 1:
            _refuse("`best_of` != 1 is not allowed for this endpoint")
        _refuse(f"`best_of` must be > 0 and <= {max_best_of}. Given: {best_of}")


def check_parameters(request: GenerateRequest, limits: Limits) -> None:
    """The rules that need no tokens.

    Raises:
        ValidationError: a value is out of its range.
    """
    for message in _broken_rules(request, limits):
        _refuse(message)


def validate(request: GenerateRequest, prompt: list[int], limits: Limits) -> ValidRequest:
    """The request in the engine's terms; `prompt`: the token ids of its `inputs`. Expects `check_parameters` to pass.

    Raises:
        ValidationError: it has too many tokens, or none, or asks for what is not supported.
    """
    parameters = request.parameters
    if parameters.truncate is not None:
        prompt = prompt[-parameters.truncate :]
    max_new_tokens = _check_length(len(prompt), parameters.max_new_tokens, limits)
    for message in _unsupported(parameters):
        _refuse(message)
    full_text = request.returns_full_text if parameters.return_full_text is None else parameters.return_full_text
    return ValidRequest(
        prompt=prompt,
        max_new_tokens=max_new_tokens,
        sampling=_sampling_params(parameters, _logit_bias(parameters.biases, limits.vocab_size)),
        stop=tuple(parameters.stop),
        echoed_prompt=request.inputs if full_text else "",
        details=parameters.details or parameters.decoder_input_details,
        grammar=parse_grammar(parameters.grammar),
        prompt_logprobs=parameters.prompt_logprobs,
        generations=parameters.generations,
    )


def _check_length(prompt_tokens: int, max_new_tokens: int | None, limits: Limits) -> int:
    """How many tokens may be generated, at most `max_new_tokens`."""
    max_total_tokens, max_input_tokens = limits.max_total_tokens, limits.max_input_tokens
    if max_new_tokens is None:
        max_new_tokens = max(0, max_total_tokens - prompt_tokens)
    checked = min(max_new_tokens, MAX_CHECKED_NEW_TOKENS)
    if prompt_tokens + checked > max_total_tokens:
        _refuse(
            f"`inputs` tokens + `max_new_tokens` must be <= {max_total_tokens}. "
            f"Given: {prompt_tokens} `inputs` tokens and {checked} `max_new_tokens`"
        )
    if prompt_tokens > max_input_tokens:
        _refuse(f"`inputs` must have less than {max_input_tokens} tokens. Given: {prompt_tokens}")
    if not prompt_tokens:  # some tokenizers make no token of, say, a space
        _refuse("`inputs` cannot be empty")
    return min(max_new_tokens, max_total_tokens - prompt_tokens)


def _refuse(message: str) -> NoReturn:
    raise ValidationError(f"Input validation error: {message}")


def _broken_rules(request: GenerateRequest, limits: Limits) -> Iterator[str]:
    """The messages of all broken rules that need no tokens, in TGI's order."""
    params, max_input_tokens = request.parameters, limits.max_input_tokens
    yield from _broken_sampling_rules(params)
    if params.max_new_tokens == 0:
        yield "`max_new_tokens` must be strictly positive"
    yield from _broken_stop_rules(params.stop, limits.max_stop_sequences)
    if params.best_of is not None and params.best_of > 1 and params.seed is not None:
        yield "`seed` must not be set when `best_of` > 1"
    top_n_limit = limits.max_top_n_tokens if params.top_n_limit is None else params.top_n_limit
    if params.top_n_tokens is not None and params.top_n_tokens > top_n_limit:
        yield f"`top_n_tokens` must be >= 0 and <= {top_n_limit}. Given: {params.top_n_tokens}"
    if not (request.inputs if request.token_ids is None else request.token_ids):
        yield "`inputs` cannot be empty"
    if params.truncate is not None and not 0 < params.truncate <= max_input_tokens:
        yield f"`truncate` must be strictly positive and less than {max_input_tokens}. Given: {params.truncate}"


def _broken_sampling_rules(params: GenerateParameters) -> Iterator[str]:
    if params.best_of is not None and params.best_of > 1 and not params.sampled:
        yield "you must use sampling when `best_of` is > 1"
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
    if params.min_p is not None and not 0 <= params.min_p <= 1:
        yield "`min_p` must be >= 0.0 and <= 1.0"
    if params.top_k is not None and params.top_k <= 0:
        yield "`top_k` must be strictly positive"


def _broken_stop_rules(stop: list[str], max_stop_sequences: int) -> Iterator[str]:
    if len(stop) > max_stop_sequences:
        yield f"`stop` supports up to {max_stop_sequences} stop sequences. Given: {len(stop)}"
    if "" in stop:
        yield "`stop` must not contain an empty string"
    if any(len(text) > MAX_STOP_LENGTH for text in stop):
        yield f"`stop` strings must have at most {MAX_STOP_LENGTH} characters"


def _unsupported(params: GenerateParameters) -> Iterator[str]:
    """The messages for what was requested that TGI supports and this server does not."""
    if params.adapter_id is not None:
        yield "`adapter_id` is not supported"
    yield from params.unsupported


def _logit_bias(biases: Mapping[str, float], vocab_size: int) -> tuple[tuple[int, float], ...]:
    """OpenAI's map with numbers for keys."""
    for token, bias in biases.items():
        if not re.fullmatch("[0-9]{1,9}", token) or int(token) >= vocab_size:
            _refuse(f"`logit_bias` must have ids of tokens, 0 to {vocab_size - 1}. Given: {token[:50]!r}")
        if not -MAX_LOGIT_BIAS <= bias <= MAX_LOGIT_BIAS:
            _refuse(f"`logit_bias` must have numbers >= -100.0 and <= 100.0. Given: {bias:g}")
    return tuple((int(token), bias) for token, bias in biases.items())


def _sampling_params(params: GenerateParameters, logit_bias: tuple[tuple[int, float], ...]) -> SamplingParams:
    sampled = params.sampled
    return SamplingParams(
        do_sample=sampled,
        temperature=1.0 if params.temperature is None else _clamp(params.temperature),
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p or 0.0,
        typical_p=params.typical_p,
        watermark=params.watermark,
        logit_bias=logit_bias,
        repetition_penalty=1.0 if params.repetition_penalty is None else _clamp(params.repetition_penalty),
        frequency_penalty=params.frequency_penalty or 0.0,
        presence_penalty=params.presence or 0.0,
        seed=(random.getrandbits(64) if params.seed is None else params.seed) if sampled else None,
        top_n_tokens=params.top_n_tokens or 0,
    )


def _clamp(scale: float) -> float:
    return min(MAX_SCALE, max(MIN_SCALE, scale))
