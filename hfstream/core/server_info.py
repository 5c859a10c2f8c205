"""The requests of the other routes, which return JSON: info, health, tokenize, models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import TypeAdapter

from ..types import Model, SimpleToken
from ..types._lenient import load_json
from .decoders import JSONBodyDecoder
from .request_spec import RequestSpec, encode_json
from .single_result import SingleResult

__all__ = ["health", "info", "models", "tokenize"]

_TOKENS = TypeAdapter(list[SimpleToken])


def info(url: str, headers: Mapping[str, str]) -> RequestSpec[Any, Any, dict[str, Any]]:
    """TGI's `/info`."""
    return _json_request("GET", url, headers, _parse_object)


def health(url: str, headers: Mapping[str, str]) -> RequestSpec[Any, Any, bool]:
    """`/health`: only the response's status matters."""
    return _json_request("GET", url, headers, lambda _: True)


def tokenize(url: str, text: str, headers: Mapping[str, str]) -> RequestSpec[Any, Any, list[SimpleToken]]:
    """TGI's `/tokenize`."""
    return _json_request("POST", url, headers, _TOKENS.validate_json, encode_json({"inputs": text}))


def models(url: str, headers: Mapping[str, str]) -> RequestSpec[Any, Any, list[Model]]:
    """OpenAI's `/v1/models`."""
    return _json_request("GET", url, headers, _parse_models)


def _parse_models(body: bytes) -> list[Model]:
    payload: Any = load_json(body)
    if isinstance(payload, list):  # Together's
        payload = {"data": cast("Any", payload)}
    entries = _as_object(payload).get("data", "missing")
    if entries is None:  # an Ollama that has none
        return []
    if not isinstance(entries, list):
        raise ValueError("not a list of models")  # noqa: TRY004  JSONBodyDecoder expects a ValueError
    return [Model.validate_lenient(entry) for entry in cast("list[Any]", entries)]


def _json_request(
    method: str, url: str, headers: Mapping[str, str], parse: Callable[[bytes], Any], body: bytes | None = None
) -> RequestSpec[Any, Any, Any]:
    return RequestSpec(
        method=method,
        url=url,
        headers=headers,
        body=body,
        make_decoder=lambda: JSONBodyDecoder(lambda response_body: [parse(response_body)]),
        make_accumulator=SingleResult,
    )


def _parse_object(body: bytes) -> dict[str, Any]:
    return _as_object(json.loads(body))


def _as_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  JSONBodyDecoder expects a ValueError
    return cast("dict[str, Any]", value)
