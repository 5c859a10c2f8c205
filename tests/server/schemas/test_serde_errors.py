"""Bodies: read as serde reads them, refused as axum refuses them."""

from __future__ import annotations

import json
import threading
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request

from hfstream.server.routes.request_body import parse_body, parse_request
from hfstream.server.schemas.tgi import CompatGenerateRequest, GenerateParameters, GenerateRequest


def refused(body: str, form: type[GenerateRequest] = GenerateRequest) -> tuple[int, str]:
    with pytest.raises(HTTPException) as caught:
        parse_body(body.encode(), form)
    return caught.value.status_code, caught.value.detail


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


@pytest.mark.parametrize(("body", "complaint"), WRONG)
def test_a_wrong_type_is_told_with_its_place(body: str, complaint: str) -> None:
    assert refused(body) == (422, f"Failed to deserialize the JSON body into the target type: {complaint}")


def test_the_first_thing_wrong_in_the_text_is_told() -> None:
    assert "parameters.top_k: invalid type" in refused('{"parameters":{"top_k":"1"},"inputs":2}')[1]
    assert "inputs: invalid type" in refused('{"inputs":2,"parameters":{"top_k":"1"}}')[1]


