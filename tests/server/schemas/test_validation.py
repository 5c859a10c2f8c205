"""TGI's rules, one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hfstream.errors import ValidationError
from hfstream.server.schemas.tgi import CompatGenerateRequest, GenerateParameters, GenerateRequest
from hfstream.server.schemas.validation import Limits, ValidRequest, check_parameters, check_streamable, validate

LIMITS = Limits(max_total_tokens=20, max_input_tokens=19, vocab_size=200)


def validated(
    inputs: str = "hello", *, model: type[GenerateRequest] = GenerateRequest, **parameters: Any
) -> ValidRequest:
    """With a context of 20 tokens, and one token for each letter but "~"."""
    request = model(inputs=inputs, parameters=GenerateParameters(**parameters))
    check_parameters(request, LIMITS)
    return validate(request, [ord(letter) for letter in inputs.replace("~", "")], LIMITS)


TOO_LONG = "`inputs` tokens + `max_new_tokens` must be <= 20. "
RULES: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 0}, "`temperature` must be strictly positive"),
    ({"temperature": -1.0}, "`temperature` must be strictly positive"),
    ({"temperature": 1e-46}, "`temperature` must be strictly positive"),
    ({"repetition_penalty": 0}, "`repetition_penalty` must be strictly positive"),
    ({"frequency_penalty": 2.1}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
    ({"frequency_penalty": -2.1}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
    ({"top_p": 0}, "`top_p` must be > 0.0 and < 1.0"),
    ({"top_p": 1}, "`top_p` must be > 0.0 and < 1.0"),
    ({"typical_p": 1.0}, "`typical_p` must be > 0.0 and < 1.0"),
    ({"min_p": 1.1}, "`min_p` must be >= 0.0 and <= 1.0"),
    ({"min_p": -0.1}, "`min_p` must be >= 0.0 and <= 1.0"),
    ({"top_k": 0}, "`top_k` must be strictly positive"),
    ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
    ({"stop": list("abcde")}, "`stop` supports up to 4 stop sequences. Given: 5"),
    ({"top_n_tokens": 6}, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
    ({"inputs": ""}, "`inputs` cannot be empty"),
    ({"inputs": "~"}, "`inputs` cannot be empty"),
    ({"truncate": 0}, "`truncate` must be strictly positive and less than 19. Given: 0"),
    ({"truncate": 20}, "`truncate` must be strictly positive and less than 19. Given: 20"),
    ({"max_new_tokens": 16}, TOO_LONG + "Given: 5 `inputs` tokens and 16 `max_new_tokens`"),
    ({"inputs": 21 * "a"}, TOO_LONG + "Given: 21 `inputs` tokens and 0 `max_new_tokens`"),
    ({"inputs": 20 * "a"}, "`inputs` must have less than 19 tokens. Given: 20"),
    ({"grammar": {"type": "json"}}, "`grammar` is not valid: type `json` needs a `value`, the schema"),
    ({"adapter_id": "a"}, "`adapter_id` is not supported"),
]


@pytest.mark.parametrize(("parameters", "message"), RULES)
def test_a_broken_rule_is_raised_with_tgis_message(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        validated(**parameters)
    assert str(caught.value) == f"Input validation error: {message}"


def test_the_first_broken_rule_in_tgis_order_is_raised() -> None:
    remaining: dict[str, Any] = {
        "temperature": 0, "repetition_penalty": 0, "frequency_penalty": 3, "top_p": 2, "typical_p": 2, "min_p": 2,
        "top_k": -1, "max_new_tokens": 0, "stop": list("abcde"), "top_n_tokens": 9, "inputs": "", "truncate": 0,
    }  # fmt: skip
    while remaining:
        with pytest.raises(ValidationError) as caught:
            validated(**remaining)
        assert f"`{next(iter(remaining))}`" in str(caught.value)
        remaining.pop(next(iter(remaining)))


@pytest.mark.parametrize(
    ("stream", "parameters", "message"),
    [
        (True, {"best_of": 0}, "`best_of` != 1 is not supported when streaming tokens"),
        (True, {"best_of": 2}, "`best_of` != 1 is not supported when streaming tokens"),
        (
            True,
            {"decoder_input_details": True},
            "`decoder_input_details` == true is not supported when streaming tokens",
        ),
        (False, {"best_of": 3}, "`best_of` must be > 0 and <= 2. Given: 3"),
    ],
)
def test_rules_that_are_checked_before_the_permit(stream: bool, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        check_streamable(GenerateParameters(**parameters), stream=stream)
    assert str(caught.value) == f"Input validation error: {message}"


def test_a_setting_allows_no_best_of() -> None:
    with pytest.raises(ValidationError, match="`best_of` != 1 is not allowed for this endpoint"):
        check_streamable(GenerateParameters(best_of=2), stream=False, max_best_of=1)


def test_the_generations_of_a_prompt_have_seeds_of_their_own() -> None:
    request = validated(best_of=2, do_sample=True)
    first, second = request.copies()
    assert first == replace(request, sampling=replace(request.sampling, seed=request.sampling.seed))
    assert second.sampling.seed == ((first.sampling.seed or 0) + 1) % 2**64
    last = replace(request, sampling=replace(request.sampling, seed=2**64 - 1))
    assert [each.sampling.seed for each in last.copies()] == [2**64 - 1, 0]
    assert len(replace(validated(), generations=3).copies()) == 3


def test_a_best_of_that_passes_before_the_permit() -> None:
    check_streamable(GenerateParameters(best_of=1), stream=True)
    check_streamable(GenerateParameters(best_of=0), stream=False)  # TGI takes 0 for 1


def test_decoder_input_details_are_details() -> None:
    request = validated(decoder_input_details=True)
    assert (request.details, request.prompt_logprobs) == (True, True)
    assert request.engine_request().prompt_logprobs


def test_limits_are_inclusive() -> None:
    limits: dict[str, Any] = {
        "frequency_penalty": 2,
        "top_n_tokens": 5,
        "truncate": 19,
        "stop": list("abcd"),
        "max_new_tokens": 15,
    }
    request = validated(**limits)
    assert (request.max_new_tokens, request.sampling.top_n_tokens, request.stop) == (15, 5, ("a", "b", "c", "d"))
    assert (validated(19 * "a")).max_new_tokens == 1


def test_the_settings_are_the_limits() -> None:
    parameters = GenerateParameters(stop=list("abcdefgh"), top_n_tokens=8)
    limits = replace(LIMITS, max_stop_sequences=8, max_top_n_tokens=8)
    check_parameters(GenerateRequest(inputs="a", parameters=parameters), limits)
    with pytest.raises(ValidationError, match="supports up to 7 stop"):
        check_parameters(GenerateRequest(inputs="a", parameters=parameters), replace(limits, max_stop_sequences=7))


def test_truncate_keeps_the_last_tokens() -> None:
    request = validated("abcdefghijklmnopqrstuvwxyz", truncate=3)
    assert (request.prompt, request.max_new_tokens) == ([ord(letter) for letter in "xyz"], 17)


@pytest.mark.parametrize(
    ("parameters", "sampled"),
    [
        ({}, False),
        ({"temperature": 1.0}, False),
        ({"repetition_penalty": 1.2, "frequency_penalty": 0.3, "seed": 5}, False),
        ({"do_sample": True}, True),
        ({"temperature": 0.5}, True),
        ({"do_sample": False, "temperature": 0.5}, True),
        ({"top_k": 5}, True),
        ({"top_p": 0.5}, True),
        ({"typical_p": 0.95}, True),
        ({"min_p": 0.1}, True),
        ({"watermark": True}, False),
    ],
)
def test_which_parameters_switch_sampling_on(parameters: dict[str, Any], sampled: bool) -> None:
    sampling = validated(**parameters).sampling
    assert sampling.do_sample == sampled
    assert (sampling.seed is not None) == sampled


def test_a_seed_is_drawn_unless_one_is_given() -> None:
    drawn = {(validated(do_sample=True)).sampling.seed for _ in range(5)}
    assert len(drawn) == 5
    assert (validated(do_sample=True, seed=7)).sampling.seed == 7


@pytest.mark.parametrize(
    ("return_full_text", "model", "echoed"),
    [
        (None, GenerateRequest, ""),
        (None, CompatGenerateRequest, "hello"),
        (True, GenerateRequest, "hello"),
        (False, CompatGenerateRequest, ""),
    ],
)
def test_the_prompt_is_repeated_if_requested_or_by_the_routes_default(
    return_full_text: bool | None, model: type[GenerateRequest], echoed: str
) -> None:
    assert validated(model=model, return_full_text=return_full_text).echoed_prompt == echoed


def test_rules_that_need_no_tokens_are_checked_without_them() -> None:
    with pytest.raises(ValidationError, match="`top_k` must be strictly positive"):
        check_parameters(GenerateRequest(inputs="a", parameters=GenerateParameters(top_k=0)), LIMITS)
    check_parameters(GenerateRequest(inputs=1000 * "a"), LIMITS)
    check_parameters(GenerateRequest(inputs="a", parameters=GenerateParameters(watermark=True)), LIMITS)


@pytest.mark.parametrize(("context", "fits"), [(1100, True), (1000, False)])
def test_max_new_tokens_is_checked_up_to_1024(context: int, fits: bool) -> None:
    request = GenerateRequest(inputs="hello", parameters=GenerateParameters(max_new_tokens=100_000))
    limits = Limits(max_total_tokens=context, max_input_tokens=context - 1, vocab_size=200)
    if fits:
        assert validate(request, 5 * [1], limits).max_new_tokens == context - 5
    else:
        with pytest.raises(ValidationError, match="Given: 5 `inputs` tokens and 1024 `max_new_tokens`"):
            validate(request, 5 * [1], limits)
