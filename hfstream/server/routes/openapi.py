"""/openapi.json: the routes as an OpenAPI document, and /docs, a page that shows it without other hosts.

Bodies are described by the classes that read them, so the document cannot differ from them. Does not depend on a
backend.
"""

from __future__ import annotations

import html
import json
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from hfstream.types import ChatCompletion, TextGenerationResponse
from hfstream.version import __version__

from ..schemas.completions import CompletionRequest
from ..schemas.openai import ChatRequest
from ..schemas.responses_api import ResponsesRequest
from ..schemas.tgi import CompatGenerateRequest, GenerateRequest

_BODIES: tuple[type[BaseModel], ...] = (
    GenerateRequest, CompatGenerateRequest, ChatRequest, CompletionRequest, ResponsesRequest,
)  # fmt: skip
_RESPONSES: tuple[type[BaseModel], ...] = (TextGenerationResponse, ChatCompletion)

_POSITIVE, _PENALTY = {"exclusiveMinimum": 0}, {"minimum": -2, "maximum": 2}
_OPEN_INTERVAL = {"exclusiveMinimum": 0, "exclusiveMaximum": 1}
_SHARE, _TOP_P = {"minimum": 0, "maximum": 1}, {"exclusiveMinimum": 0, "maximum": 1}
_OPENAI: dict[str, dict[str, Any]] = {
    "temperature": {"minimum": 0}, "top_p": _TOP_P, "min_p": _SHARE, "typical_p": _TOP_P, "top_k": {"minimum": 1},
    "frequency_penalty": _PENALTY, "presence_penalty": _PENALTY, "repetition_penalty": _POSITIVE,
    "max_tokens": {"minimum": 1}, "n": {"minimum": 1, "maximum": 128},
}  # fmt: skip
_RULES: dict[str, dict[str, dict[str, Any]]] = {
    "GenerateParameters": {
        "temperature": _POSITIVE, "repetition_penalty": _POSITIVE, "frequency_penalty": _PENALTY,
        "top_k": {"minimum": 1}, "top_p": _OPEN_INTERVAL, "min_p": _SHARE, "typical_p": _OPEN_INTERVAL,
        "max_new_tokens": {"minimum": 1}, "truncate": {"minimum": 1},
    },
    "GenerateRequest": {"inputs": {"minLength": 1}},
    "CompatGenerateRequest": {"inputs": {"minLength": 1}},
    "ChatRequest": {
        **_OPENAI, "max_completion_tokens": {"minimum": 1}, "top_logprobs": {"maximum": 20},
        "messages": {"minItems": 1},
    },
    "ResponsesRequest": {
        "temperature": {"minimum": 0}, "top_p": _TOP_P, "max_output_tokens": {"minimum": 1},
        "top_logprobs": {"maximum": 20}, "truncation": {"enum": ["disabled"]},
    },
    "CompletionRequest": {**_OPENAI, "truncate": {"minimum": 1}},
}  # fmt: skip
"""What `schemas.validation` checks beyond the types, apart from limits that are settings."""

_SECURITY: dict[str, Any] = {"security": [{}, {"key": []}]}
_ERRORS = {
    "400": "The body is not JSON.",
    "401": "The API key is missing or wrong.",
    "413": "The body is too large.",
    "415": "The body is not application/json.",
    "422": "A field has a wrong type, or a value that is out of range or not supported.",
    "424": "The generation failed.",
    "429": "All permits are taken.",
    "503": "The model is still being loaded.",
}


async def openapi(request: Request) -> Response:
    """The document, with the path under which a proxy serves this server."""
    root_path: str = request.scope.get("root_path", "")
    return JSONResponse({**document(), "servers": [{"url": root_path or "/"}]})


async def docs(request: Request) -> Response:
    """The document as a page. No scripts, and nothing from other hosts."""
    headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:"}
    return HTMLResponse(_page(), headers=headers)


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document, without servers."""
    references, definitions = models_json_schema(
        [*((body, "validation") for body in _BODIES), *((body, "serialization") for body in _RESPONSES)],
        ref_template="#/components/schemas/{model}",
    )
    schemas: dict[str, Any] = definitions["$defs"]
    for name, rules in _RULES.items():
        for field, rule in rules.items():
            _restrict(schemas[name]["properties"][field], rule)
    refs = {model.__name__: schema for (model, _), schema in references.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "hfstream", "version": __version__, "description": "Text generation, streamed or not."},
        "paths": _paths(refs),
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _restrict(schema: dict[str, Any], rule: dict[str, Any]) -> None:
    """Adds a rule to a field's schema; for a field that may be null, to its other type."""
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    for option in options:
        if not ({"maxItems", "minItems"} & rule.keys()) or option.get("type") == "array":
            option.update(rule)


def _paths(refs: dict[str, Any]) -> dict[str, Any]:
    text, chat = refs["TextGenerationResponse"], refs["ChatCompletion"]
    texts, spans, anything = {"type": "array", "items": text}, {"type": "array", "items": {"type": "object"}}, _object()
    message = {"$ref": "#/components/schemas/Message"}
    chat_only = _object("messages", messages={"type": "array", "items": message, "minItems": 1})
    return {
        "/generate": _generate("The complete response of a prompt.", refs["GenerateRequest"], text, stream=False),
        "/generate_stream": _generate("One event per token.", refs["GenerateRequest"], None),
        "/": {
            **_generate("Either of these.", refs["CompatGenerateRequest"], texts),
            **_get("The health check.", None),
        },
        "/v1/chat/completions": _generate("A chat.", refs["ChatRequest"], chat),
        "/v1/completions": _generate("The continuation of a text.", refs["CompletionRequest"], anything),
        "/v1/responses": _generate("OpenAI's Responses API.", refs["ResponsesRequest"], anything),
        "/tokenize": _post("The tokens of a prompt.", _object("inputs", inputs={"type": "string"}), spans),
        "/chat_tokenize": _post("A chat as the model reads it.", chat_only, anything),
        "/v1/models": _get("The served model, as a list.", {"type": "object"}),
        "/info": _get("The model and its limits.", {"type": "object"}),
        "/health": _get("Whether the model is loaded.", None),
    }


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _generate(
    summary: str, body: dict[str, Any], json_schema: dict[str, Any] | None, *, stream: bool = True
) -> dict[str, Any]:
    """A route that generates; `stream`: whether it answers with events, or can."""
    last_event = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}
    responses = {
        "204": {"description": "It has ended."},
        **{status: {"description": text} for status, text in _ERRORS.items() if status in ("401", "503")},
        "404": {"description": "There is no such stream, or its time is over."},
    }
    end = {"summary": "Ends a resumable stream.", "parameters": [last_event], "responses": responses, **_SECURITY}
    return {**_post(summary, body, json_schema, stream=stream), "delete": end}


def _post(
    summary: str, body: dict[str, Any], json_schema: dict[str, Any] | None, *, stream: bool = False
) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if json_schema is not None:
        content["application/json"] = {"schema": json_schema}
    if stream:
        content["text/event-stream"] = {}  # OpenAPI 3.1 has no schema for single events
    responses = {"200": {"description": "The response.", "content": content}}
    responses |= {status: {"description": text} for status, text in _ERRORS.items()}
    request = {"required": True, "content": {"application/json": {"schema": body}}}
    return {"post": {"summary": summary, "requestBody": request, "responses": responses, **_SECURITY}}


def _get(summary: str, schema: dict[str, Any] | None) -> dict[str, Any]:
    response: dict[str, Any] = {"description": "The response."}
    if schema is not None:
        response["content"] = {"application/json": {"schema": schema}}
    return {"get": {"summary": summary, "responses": {"200": response, "503": {"description": _ERRORS["503"]}}}}


@cache
def _page() -> str:
    shown = document()
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        "<title>hfstream: API</title><link rel=icon href='data:,'>",
        "<style>body{max-width:60rem;margin:2rem auto;padding:0 1rem;font:1rem/1.5 system-ui;color-scheme:light dark}",
        "pre{overflow-x:auto;padding:.75rem;border:1px solid #8886;border-radius:.5rem}summary{cursor:pointer}</style>",
        f"<h1>hfstream {__version__}</h1><p>The same as a document: <a href=openapi.json>openapi.json</a>.",
    ]
    for path, methods in shown["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {path}</code></h2><p>{html.escape(operation['summary'])}")
            parts.append(_details("request and responses", operation))
    parts.append("<h2>Schemas</h2>")
    parts += [_details(name, schema) for name, schema in shown["components"]["schemas"].items()]
    return "\n".join(parts)


def _details(title: str, value: Any) -> str:
    text = html.escape(json.dumps(value, indent=2))
    return f"<details><summary>{html.escape(title)}</summary><pre>{text}</pre></details>"
