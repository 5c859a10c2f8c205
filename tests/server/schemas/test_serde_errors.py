"""Error messages in the words of serde, with path, line and column."""

from __future__ import annotations

import pydantic
import pytest
from pydantic import BaseModel

from hfstream.server.schemas.completions import CompletionRequest
from hfstream.server.schemas.openai import ChatRequest
from hfstream.server.schemas.serde_errors import describe_first_error, describe_syntax_error, serde_error, wrong_type
from hfstream.server.schemas.tgi import CompatGenerateRequest, GenerateRequest


def first_error(body: str, model: type[BaseModel] = GenerateRequest) -> str:
    with pytest.raises(pydantic.ValidationError) as caught:
        model.model_validate_json(body)
    assert describe_syntax_error(caught.value) is None
    return describe_first_error(caught.value, body)


def parameters(text: str) -> str:
    return f'{{"inputs":"x","parameters":{{{text}}}}}'


WRONG = [
    ("{}", "missing field `inputs` at line 1 column 2"),
    ('{"inputs":5}', "inputs: invalid type: integer `5`, expected a string at line 1 column 11"),
    ('{"inputs":null}', "inputs: invalid type: null, expected a string at line 1 column 14"),
    ('{"inputs":["a"]}', "inputs: invalid type: sequence, expected a string at line 1 column 10"),
    (
        '{"inputs":"x","parameters":null}',
        "parameters: invalid type: null, expected struct GenerateParameters at line 1 column 31",
    ),
    ('"x"', 'invalid type: string "x", expected struct GenerateRequest at line 1 column 3'),
    (
        parameters('"max_new_tokens":"5"'),
        'parameters.max_new_tokens: invalid type: string "5", expected u32 at line 1 column 48',
    ),
    (
        parameters('"max_new_tokens":-1'),
        "parameters.max_new_tokens: invalid value: integer `-1`, expected u32 at line 1 column 47",
    ),
    (
        parameters('"max_new_tokens":1.5'),
        "parameters.max_new_tokens: invalid type: floating point `1.5`, expected u32 at line 1 column 48",
    ),
    (
        parameters('"max_new_tokens":4294967296'),
        "parameters.max_new_tokens: invalid value: integer `4294967296`, expected u32 at line 1 column 55",
    ),
    (parameters('"seed":true'), "parameters.seed: invalid type: boolean `true`, expected u64 at line 1 column 39"),
    (
        parameters('"seed":18446744073709551616'),
        "parameters.seed: invalid value: integer `18446744073709551616`, expected u64 at line 1 column 55",
    ),
    (
        parameters('"temperature":"1"'),
        'parameters.temperature: invalid type: string "1", expected f32 at line 1 column 45',
    ),
    (
        parameters('"temperature":false'),
        "parameters.temperature: invalid type: boolean `false`, expected f32 at line 1 column 47",
    ),
    (
        parameters('"details":1'),
        "parameters.details: invalid type: integer `1`, expected a boolean at line 1 column 39",
    ),
    (parameters('"details":null'), "parameters.details: invalid type: null, expected a boolean at line 1 column 42"),
    (
        parameters('"do_sample":null'),
        "parameters.do_sample: invalid type: null, expected a boolean at line 1 column 44",
    ),
    (
        parameters('"watermark":null'),
        "parameters.watermark: invalid type: null, expected a boolean at line 1 column 44",
    ),
    (parameters('"stop":null'), "parameters.stop: invalid type: null, expected a sequence at line 1 column 39"),
    (parameters('"stop":"a"'), 'parameters.stop: invalid type: string "a", expected a sequence at line 1 column 38'),
    (
        parameters('"stop":["ä",\n 3]'),
        "parameters.stop[1]: invalid type: integer `3`, expected a string at line 2 column 2",
    ),
    (
        parameters('"stop":["ä",3]'),
        "parameters.stop[1]: invalid type: integer `3`, expected a string at line 1 column 42",
    ),
    (
        parameters('"other":[{"top_k":1},"}"], "top_k":{}'),
        "parameters.top_k: invalid type: map, expected i32 at line 1 column 63",
    ),
]


@pytest.mark.parametrize(("body", "message"), WRONG)
def test_an_error_is_reported_with_its_path_and_position(body: str, message: str) -> None:
    assert first_error(body) == message


def test_the_first_error_in_the_text_is_reported() -> None:
    assert "parameters.top_k: invalid type" in first_error('{"parameters":{"top_k":"1"},"inputs":2}')
    assert "inputs: invalid type" in first_error('{"inputs":2,"parameters":{"top_k":"1"}}')


@pytest.mark.parametrize(
    ("value", "description"),
    [
        (None, "null"),
        (True, "boolean `true`"),
        (-3, "integer `-3`"),
        (1.5, "floating point `1.5`"),
        ('a"ü', 'string "a\\"ü"'),
        ([1], "sequence"),
        ({"a": 1}, "map"),
    ],
)
def test_values_are_described_as_serde_describes_them(value: object, description: str) -> None:
    assert str(wrong_type(value, "u32")) == f"invalid type: {description}, expected u32"


def test_a_message_with_braces_is_kept() -> None:
    assert str(serde_error("expected `{`, found `{name}`")) == "expected `{`, found `{name}`"


def test_only_the_name_of_a_content_part_differs_from_its_class() -> None:
    """Names of objects are on the wire: they must not change when a class is renamed."""
    body = '{"messages":[{"role":"a","content":["b"]}],"stream_options":1}'
    assert first_error(body, ChatRequest).startswith(
        'messages[0].content[0]: invalid type: string "b", expected struct Part '
    )
    assert "expected struct ChatRequest " in first_error("1", ChatRequest)
    assert "expected struct CompletionRequest " in first_error("1", CompletionRequest)
    assert "expected struct CompatGenerateRequest " in first_error("1", CompatGenerateRequest)


@pytest.mark.parametrize("body", ["", "{", "hello", '{"inputs":"x"} y'])
def test_a_syntax_error_is_told_from_other_errors(body: str) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        GenerateRequest.model_validate_json(body)
    assert " at line 1 column " in str(describe_syntax_error(caught.value))
