"""What all types have in common: unknown fields, access by name, immutability, equality."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pydantic
import pytest

from hfstream import Details, StreamResponse, Token

TOKEN: dict[str, Any] = {"id": 193, "text": "\n", "logprob": -0.007358551, "special": False}


LAST = {
    "index": 12,
    "token": TOKEN,
    "generated_text": "It was\n",
    "details": {"finish_reason": "length", "generated_tokens": 12, "seed": None, "input_length": 7},
}


def test_unknown_fields_can_be_read_by_attribute_and_by_index() -> None:
    token = Token.model_validate({**TOKEN, "model_id": "m", "bytes": [10]})
    assert token["model_id"] == token.model_id == "m"  # type: ignore[attr-defined]
    assert token["bytes"] == [10]
    assert token.model_dump()["bytes"] == [10]


@pytest.mark.parametrize("name", ["json", "copy", "get", "schema"])
def test_unknown_fields_named_like_a_method_are_kept_too(name: str) -> None:
    assert Token.model_validate({**TOKEN, name: 5})[name] == 5


def test_objects_can_be_read_like_dicts() -> None:
    token = Token.model_validate(TOKEN)
    assert {name: token[name] for name in TOKEN} == TOKEN
    assert "text" in token
    assert "txt" not in token
    assert token.get("text") == "\n"
    assert token.get("txt", 5) == 5
    for name in ("txt", "model_dump", "get"):
        with pytest.raises(KeyError):
            token[name]


def test_objects_are_read_as_huggingface_hubs_dictionaries_are() -> None:
    response = StreamResponse.model_validate(LAST | {"more": [1]})
    names = [*StreamResponse.model_fields, "more"]
    assert list(response) == list(response.keys()) == list({**response}) == names
    assert dict(response) == {**response} == dict(response.items()) == {name: response[name] for name in names}
    assert list(response.values()) == [response[name] for name in names]
    assert json.loads(json.dumps(response, default=dict)) == response.model_dump(mode="json")
    assert json.loads(json.dumps({**response}, default=dict)) == response.model_dump(mode="json")
    assert bool(response)


@pytest.mark.parametrize("name", ["keys", "values", "items"])
def test_a_field_named_like_a_method_of_dictionaries_is_read_by_its_name(name: str) -> None:
    token = Token.model_validate({**TOKEN, name: 5})
    assert token[name] == dict(token)[name] == json.loads(json.dumps(token, default=dict))[name] == 5


def test_objects_are_immutable() -> None:
    token = Token.model_validate({**TOKEN, "more": 1})
    for name in ("text", "more", "new"):
        with pytest.raises(pydantic.ValidationError):
            setattr(token, name, 2)


def test_objects_are_equal_by_value_and_can_be_pickled_and_copied() -> None:
    response = StreamResponse.model_validate(LAST | {"more": [1]})
    assert response == StreamResponse.model_validate(LAST | {"more": [1]})
    assert response != StreamResponse.model_validate(LAST)
    for copied in (pickle.loads(pickle.dumps(response)), copy.copy(response), copy.deepcopy(response)):
        assert copied == response
        assert copied["more"] == [1]


def test_lists_left_out_are_not_shared() -> None:
    fields = {"finish_reason": "length", "generated_tokens": 0}
    first, second = Details.model_validate(fields), Details.model_validate(fields)
    first.tokens.append(Token.model_validate(TOKEN))
    assert second.tokens == []
