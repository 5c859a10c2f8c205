"""The bodies of TGI's own routes."""

from __future__ import annotations

import pydantic
import pytest

from hfstream.server.schemas.tgi import CompatGenerateRequest, GenerateParameters, GenerateRequest


def read(body: str) -> GenerateRequest:
    return GenerateRequest.model_validate_json(body)


def test_optional_fields_may_be_null_and_unknown_fields_are_ignored() -> None:
    optional = [name for name, field in GenerateParameters.model_fields.items() if field.default is None]
    assert len(optional) == 15
    fields = ",".join(f'"{name}":null' for name in optional) + ',"unknown":[1]'
    assert read(f'{{"inputs":"x","parameters":{{{fields}}}}}').parameters == GenerateParameters()


def test_without_parameters_a_request_is_sampled_and_with_empty_ones_it_is_not() -> None:
    assert read('{"inputs":"x"}').parameters.sampled
    assert not read('{"inputs":"x","parameters":{}}').parameters.sampled
    assert read('{"inputs":"x"}').parameters.do_sample
    assert not read('{"inputs":"x","parameters":{}}').parameters.do_sample


def test_only_the_compatible_route_reads_stream() -> None:
    assert CompatGenerateRequest.model_validate_json('{"inputs":"x","stream":true}').stream
    with pytest.raises(pydantic.ValidationError):
        CompatGenerateRequest.model_validate_json('{"inputs":"x","stream":null}')
    read('{"inputs":"x","stream":null}')
