"""The application: unknown routes, CORS, and responses while the model is not loaded."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hfstream.server import BackgroundServer, Settings, create_app
from hfstream.server.service.backend import Backend
from tests.helpers.scripted_engine import ScriptedEngine, eventually, http, user

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
OPENAI_BODIES: dict[str, dict[str, Any]] = {CHAT: {"messages": user("Hi")}, COMPLETIONS: {"prompt": "Hi"}}


@pytest.fixture(scope="module")
def url(chat_model: Path) -> Iterator[str]:
    with BackgroundServer(Settings(model=str(chat_model)), engine=ScriptedEngine()) as server:
        yield server.url


async def test_requests_get_a_503_until_the_model_is_loaded(model: Path) -> None:
    loaded = threading.Event()
    app = create_app(Settings(model=str(model)), engine=ScriptedEngine(load=loaded.wait))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        for method, path in [
            ("GET", "/health"),
            ("GET", "/info"),
            ("POST", "/generate"),
            ("POST", "/generate_stream"),
            ("POST", "/"),
        ]:
            response = await client.request(method, path)
            assert response.status_code == 503
            assert response.headers["retry-after"] == "1"
            assert response.json() == {"error": "Model is loading", "error_type": "loading"}
        assert (await client.get("/metrics")).status_code == 200
        loaded.set()
        async with asyncio.timeout(60):
            await app.state.backend.ready.wait()
        assert (await client.get("/health")).status_code == 200
        assert (await client.post("/generate", json={"inputs": "Hi"})).status_code == 200


async def test_the_error_that_stopped_loading_is_in_every_response(model: Path) -> None:
    def load() -> None:
        raise ValueError("no such weights")

    app = create_app(Settings(model=str(model)), engine=ScriptedEngine(load=load))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        await app.state.backend.ready.wait()
        for response in (await client.get("/health"), await client.post("/generate", json={"inputs": "Hi"})):
            assert response.status_code == 503
            assert response.json()["error_type"] == "broken"
            assert "no such weights" in response.json()["error"]


async def test_openai_routes_send_that_503_in_openais_format(chat_model: Path) -> None:
    loaded = threading.Event()
    app = create_app(Settings(model=str(chat_model)), engine=ScriptedEngine(load=loaded.wait))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        for path, body in OPENAI_BODIES.items():
            response = await client.post(path, json=body)
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
            assert response.json() == {
                "error": {
                    "message": "Model is loading",
                    "type": "loading",
                    "param": None,
                    "code": "loading",
                    "http_status_code": 503,
                },
                "error_type": "loading",
            }
        tokens = await client.post("/chat_tokenize", json=OPENAI_BODIES[CHAT])
        assert (tokens.status_code, tokens.json()["error"]) == (503, "Model is loading")
        loaded.set()
        async with asyncio.timeout(60):
            await app.state.backend.ready.wait()
        for path, body in OPENAI_BODIES.items():
            assert (await client.post(path, json=body)).status_code == 200


def test_unknown_paths_and_methods_get_an_empty_response(url: str) -> None:
    for method, path, status in [
        ("GET", "/nope", 404),
        ("GET", "/generate", 405),
        ("POST", "/info", 405),
    ]:
        response = http.request(method, url + path)
        assert (response.status_code, response.content) == (status, b"")


@pytest.mark.parametrize(
    ("path", "allowed"), [("/", "DELETE, GET, HEAD, POST"), ("/generate", "DELETE, POST"), ("/info", "GET, HEAD")]
)
def test_a_wrong_method_is_told_which_ones_a_path_has(url: str, path: str, allowed: str) -> None:
    assert http.request("PUT", url + path).headers["allow"] == allowed


def test_below_v1_an_unknown_path_gets_an_error_in_openais_format(url: str) -> None:
    for method, path, status in [("GET", "/v1/nope", 404), ("GET", CHAT, 405)]:
        response = http.request(method, url + path)
        assert response.status_code == status
        assert response.json()["error"]["message"] == f"There is no {method} {path}"


@pytest.mark.parametrize("path", ["//v1/chat/completions", "/v1/chat/completions/", "/v1//chat/completions//"])
def test_slashes_too_many_are_ignored(url: str, path: str) -> None:
    assert http.post(url + path, json=OPENAI_BODIES[CHAT]).status_code == 200


def test_a_compressed_body_is_refused(url: str) -> None:
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    response = http.post(url + CHAT, content=gzip.compress(b"{}"), headers=headers)
    assert response.status_code == 415
    assert "Content-Encoding" in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", CHAT, COMPLETIONS, "/v1/responses", "/tokenize"])
def test_a_fault_of_the_server_is_an_error_in_the_format_of_the_route(
    url: str, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*args: object) -> None:
        raise LookupError("a fault")

    for name in ("prepare", "tokenize"):
        monkeypatch.setattr(Backend, name, fail)
    body = OPENAI_BODIES.get(path, {"inputs": "Hi", "input": "Hi"})
    with caplog.at_level("INFO"):
        response = http.post(url + path, json={**body, "stream": True})
        # The response is sent first.
        assert eventually(lambda: any("LookupError: a fault" in str(record.exc_text) for record in caplog.records))
    assert response.status_code == 500
    answer = response.json()
    error = answer["error"] if path.startswith("/v1/") else answer
    assert (error["message"] if path.startswith("/v1/") else error["error"]).startswith("The server failed")
    assert answer["error_type"] == "internal"
    if path != "/tokenize":
        assert f"id={response.headers['x-request-id']} " in caplog.text
        assert "outcome=error" in caplog.text
