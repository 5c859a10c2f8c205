"""TGI's table of rules, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from hfstream.errors import ValidationError
from hfstream.server.schemas.tgi import GenerateParameters, GenerateRequest
from hfstream.server.schemas.validation import ValidRequest, check_streamable, validate


async def encode(text: str) -> list[int]:
    """One id for a letter."""
    return [ord(letter) for letter in text.replace("~", "")]


async def question(inputs: str = "hello", *, full_text: bool = False, **parameters: Any) -> ValidRequest:
    request = GenerateRequest(inputs=inputs, parameters=GenerateParameters(**parameters))
    return await validate(request, max_total_tokens=20, encode=encode, full_text=full_text)


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
    ({"grammar": {"type": "regex", "value": "a"}}, "grammar is not supported"),
    ({"typical_p": 0.5}, "`typical_p` is not supported"),
    ({"watermark": True}, "`watermark` is not supported"),
    ({"decoder_input_details": True}, "`decoder_input_details` is not supported"),
    ({"adapter_id": "a"}, "`adapter_id` is not supported"),
]


@pytest.mark.parametrize(("asked", "complaint"), RULES)
async def test_rules(asked: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        await question(**asked)
    assert str(caught.value) == f"Input validation error: {complaint}"


async def test_the_first_broken_rule_in_tgis_order_is_told() -> None:
    remaining: dict[str, Any] = {
        "temperature": 0, "repetition_penalty": 0, "frequency_penalty": 3, "top_p": 2, "typical_p": 2, "top_k": -1,
        "max_new_tokens": 0, "stop": list("abcde"), "top_n_tokens": 9, "inputs": "", "truncate": 0,
    }  # fmt: skip
    while remaining:
        with pytest.raises(ValidationError) as caught:
            await question(**remaining)
        assert f"`{next(iter(remaining))}`" in str(caught.value)
        remaining.pop(next(iter(remaining)))


@pytest.mark.parametrize(
    ("stream", "asked", "complaint"),
    [
        (True, {"best_of": 0}, "`best_of` != 1 is not supported when streaming tokens"),
        (True, {"best_of": 2}, "`best_of` != 1 is not supported when streaming tokens"),
        (
            True,
            {"decoder_input_details": True},
            "`decoder_input_details` == true is not supported when streaming tokens",
        ),
        (False, {"best_of": 2}, "`best_of` != 1 is not allowed for this endpoint"),
    ],
)
def test_rules_before_the_permit(stream: bool, asked: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        check_streamable(GenerateParameters(**asked), stream=stream)
    assert str(caught.value) == f"Input validation error: {complaint}"


def test_what_passes_before_the_permit() -> None:
    check_streamable(GenerateParameters(best_of=1), stream=True)
    check_streamable(GenerateParameters(best_of=0), stream=False)  # TGI takes it for a 1


async def test_the_edges_are_inside() -> None:
    edges: dict[str, Any] = {
        "frequency_penalty": 2,
        "top_n_tokens": 5,
        "truncate": 19,
        "stop": list("abcd"),
        "max_new_tokens": 15,
    }
    asked = await question(**edges)
    assert (asked.max_new_tokens, asked.sampling.top_n_tokens, asked.stop) == (15, 5, ("a", "b", "c", "d"))
    assert (await question(19 * "a")).max_new_tokens == 1


async def test_truncate_keeps_the_end() -> None:
    asked = await question("abcdefghijklmnopqrstuvwxyz", truncate=3)
    assert (asked.prompt, asked.max_new_tokens) == ([ord(letter) for letter in "xyz"], 17)


@pytest.mark.parametrize(
    ("asked", "sampled"),
    [
        ({}, False),
        ({"temperature": 1.0}, False),
        ({"repetition_penalty": 1.2, "frequency_penalty": 0.3, "seed": 5}, False),
        ({"do_sample": True}, True),
        ({"temperature": 0.5}, True),
        ({"do_sample": False, "temperature": 0.5}, True),
        ({"top_k": 5}, True),
        ({"top_p": 0.5}, True),
    ],
)
async def test_what_switches_sampling_on(asked: dict[str, Any], sampled: bool) -> None:
    sampling = (await question(**asked)).sampling
    assert sampling.do_sample == sampled
    assert (sampling.seed is not None) == sampled


async def test_a_seed_is_drawn_unless_it_is_given() -> None:
    drawn = {(await question(do_sample=True)).sampling.seed for _ in range(5)}
    assert len(drawn) == 5
    assert (await question(do_sample=True, seed=7)).sampling.seed == 7


@pytest.mark.parametrize(
    ("asked", "default", "opening"),
    [(None, False, ""), (None, True, "hello"), (True, False, "hello"), (False, True, "")],
)
async def test_the_prompt_is_repeated_where_it_is_asked_for(asked: bool | None, default: bool, opening: str) -> None:
    assert (await question(full_text=default, return_full_text=asked)).preamble == opening
