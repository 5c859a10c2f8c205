"""The requests of the other routes, and how their JSON is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hfstream.core import server_info
from hfstream.core.request_spec import RequestSpec
from hfstream.errors import UnexpectedResponseError
from hfstream.types import Model, SimpleToken

HEADERS = {"Authorization": "Bearer secret"}


def result(spec: RequestSpec[Any, Any, Any], body: bytes) -> Any:
    decoder, accumulator = spec.make_decoder(), spec.make_accumulator()
    accumulator.add(decoder.feed(body))
    accumulator.add(decoder.finish())
    return accumulator.result()


def test_info_and_health_and_models_are_GET_without_a_body() -> None:
    for make in (server_info.info, server_info.health, server_info.models):
        spec = make("http://h/route", HEADERS)
        assert (spec.method, spec.url, spec.headers, spec.body) == ("GET", "http://h/route", HEADERS, None)
        assert not spec.streamed


def test_tokenize_posts_the_text() -> None:
    spec = server_info.tokenize("http://h/tokenize", "é", HEADERS)
    assert (spec.method, spec.body) == ("POST", '{"inputs":"é"}'.encode())
    body = json.dumps([{"id": 1, "text": "é", "start": 0, "stop": 2}]).encode()
    assert result(spec, body) == [SimpleToken(id=1, text="é", start=0, stop=2)]


def test_info_is_a_dict() -> None:
    assert result(server_info.info("http://h/info", {}), b'{"model_id": "m"}') == {"model_id": "m"}


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b"<html>", b""])
def test_info_that_is_not_a_JSON_object_raises(body: bytes) -> None:
    with pytest.raises(UnexpectedResponseError, match="not the JSON that was expected"):
        result(server_info.info("http://h/info", {}), body)


@pytest.mark.parametrize("body", [b"", b"ok", b"{}"])
def test_the_body_of_health_is_ignored(body: bytes) -> None:
    assert result(server_info.health("http://h/health", {}), body) is True


@pytest.mark.parametrize("body", [b'{"data": [{"id": "m"}]}', b' [{"id": "m"}]'])
def test_models_are_a_list_or_an_object_with_one(body: bytes) -> None:
    assert result(server_info.models("http://h/v1/models", {}), body) == [Model(id="m")]
