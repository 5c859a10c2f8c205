"""The types of text generation: validation, defaults, and how they are printed."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest

import hfstream
from hfstream import Details, FinishReason, StreamDetails, StreamResponse, TextGenerationResponse, Token

TOKEN: dict[str, Any] = {"id": 193, "text": "\n", "logprob": -0.007358551, "special": False}
LAST = {
    "index": 12,
    "token": TOKEN,
    "generated_text": "It was\n",
    "details": {"finish_reason": "length", "generated_tokens": 12, "seed": None, "input_length": 7},
}


def test_a_token_prints_as_in_the_documentation() -> None:
    response = StreamResponse.model_validate({"index": 1, "token": TOKEN, "generated_text": None, "details": None})
    shown = (
        "StreamResponse(token=Token(id=193, text='\\n', logprob=-0.007358551, special=False), "
        "generated_text=None, details=None)"
    )
    assert repr(response) == str(response) == shown


def test_details_print_as_in_the_documentation() -> None:
    details = StreamResponse.model_validate(LAST).details
    shown = "StreamDetails(finish_reason=<FinishReason.Length: 'length'>, generated_tokens=12, seed=None)"
    assert repr(details) == str(details) == shown


@pytest.mark.parametrize("missing", ["index", "generated_text", "details", "top_tokens"])
def test_old_servers_leave_fields_out(missing: str) -> None:
    event = {name: value for name, value in LAST.items() if name != missing}
    assert StreamResponse.model_validate_json(json.dumps(event))[missing] is None


@pytest.mark.parametrize("event", [{}, {"token": None}, {"token": {"id": 1}}, {"token": "a"}, []])
def test_an_event_without_a_valid_token_raises(event: Any) -> None:
    with pytest.raises(pydantic.ValidationError):
        StreamResponse.model_validate_json(json.dumps(event))


def test_a_logprob_may_be_null_and_a_seed_large() -> None:
    assert Token.model_validate_json('{"id": 1, "text": "a", "logprob": null, "special": false}').logprob is None
    details = StreamDetails.model_validate_json(
        '{"finish_reason": "eos_token", "generated_tokens": 1, "seed": 18446744073709551615}'
    )
    assert details.seed == 2**64 - 1


@pytest.mark.parametrize(
    ("value", "member"),
    [
        ("length", FinishReason.Length),
        ("eos_token", FinishReason.EndOfSequenceToken),
        ("stop_sequence", FinishReason.StopSequence),
    ],
)
def test_finish_reasons_are_strings_with_TGIs_values(value: str, member: FinishReason) -> None:
    reason = StreamDetails.model_validate({"finish_reason": value, "generated_tokens": 1}).finish_reason
    assert reason is member
    assert reason == value
    assert f"{reason}" == str(reason) == value
    assert json.dumps(reason) == f'"{value}"'


@pytest.mark.parametrize("kind", [StreamDetails, Details, hfstream.BestOfSequence])
def test_an_unknown_finish_reason_stays_as_it_came(kind: type[Any]) -> None:
    fields = {"finish_reason": "tired", "generated_tokens": 1, "generated_text": ""}
    reason = kind.model_validate(fields).finish_reason
    assert reason == "tired"
    assert not isinstance(reason, FinishReason)


def test_a_complete_response_has_its_details() -> None:
    sequence = {
        "generated_text": "b", "finish_reason": "eos_token", "generated_tokens": 1, "seed": 1, "prefill": [],
        "tokens": [TOKEN],
    }  # fmt: skip
    details = {
        "finish_reason": "length", "generated_tokens": 1, "seed": 2,
        "prefill": [{"id": 1, "text": "a", "logprob": None}], "tokens": [TOKEN], "best_of_sequences": [sequence],
        "top_tokens": [[TOKEN]],
    }  # fmt: skip
    response = TextGenerationResponse.model_validate_json(json.dumps({"generated_text": "a", "details": details}))
    assert response.details is not None
    assert response.details.tokens == [Token.model_validate(TOKEN)]
    assert response.details.prefill[0] == hfstream.InputToken(id=1, text="a", logprob=None)
    assert response.details.best_of_sequences is not None
    assert response.details.best_of_sequences[0].generated_text == "b"
    assert response.details.top_tokens == [[Token.model_validate(TOKEN)]]
    assert TextGenerationResponse.model_validate({"generated_text": ""}).details is None
