"""/openapi.json and /docs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from hfstream.server import create_app
from hfstream.server.routes.openapi import document
from tests.helpers.scripted_engine import ScriptedEngine


def test_every_route_that_the_document_names_exists_and_the_other_way_round() -> None:
    routes: Any = create_app(engine=ScriptedEngine()).routes
    named = {(path, method.upper()) for path, methods in document()["paths"].items() for method in methods}
    existing = {(route.path, method) for route in routes for method in route.methods}
    assert named <= existing
    left_out = {"/demo", "/docs", "/openapi.json", "/metrics", "/ping", "/v1/models/{name:path}"}
    assert {path for path, _ in existing} - {path for path, _ in named} == left_out


def test_all_references_resolve() -> None:
    names = set(re.findall(r"'#/components/schemas/(\w+)'", str(document())))
    assert names
    assert names <= set(document()["components"]["schemas"])


@pytest.mark.parametrize(
    ("schema", "field", "rule"),
    [
        ("GenerateParameters", "temperature", {"type": "number", "exclusiveMinimum": 0}),
        ("GenerateParameters", "top_k", {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}),
        ("ChatRequest", "temperature", {"type": "number", "minimum": 0}),
    ],
)
def test_fields_have_their_limits(schema: str, field: str, rule: dict[str, Any]) -> None:
    assert rule in document()["components"]["schemas"][schema]["properties"][field]["anyOf"]


def test_the_page_needs_no_other_host() -> None:
    client = TestClient(create_app(engine=ScriptedEngine()))
    page = client.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "//" not in re.sub(r"<pre>.*?</pre>", "", page.text, flags=re.DOTALL)
    assert "POST /v1/chat/completions" in page.text
    assert client.get("/openapi.json").json()["servers"] == [{"url": "/"}]
