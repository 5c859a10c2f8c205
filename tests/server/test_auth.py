"""The API key: which routes need it, and what is accepted as one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hfstream.errors import AuthenticationError
from hfstream.errors.response_bodies import from_response
from hfstream.server import BackgroundServer, Settings
from hfstream.server.auth import BearerAuth
from tests.helpers.scripted_engine import ScriptedEngine, http, user

OPENAI_BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": user("Hi")},
    "/v1/completions": {"prompt": "Hi"},
}


@pytest.fixture(scope="module")
def url(chat_model: Path) -> Iterator[str]:
    with BackgroundServer(Settings(model=str(chat_model), api_key="Sesame"), engine=ScriptedEngine()) as server:
        yield server.url


@pytest.mark.parametrize("path", ["/", "/generate", "/generate_stream", "/tokenize", "/chat_tokenize"])
@pytest.mark.parametrize("sent", [None, "Bearer open", "Bearer", "Sesame", "Basic Sesame", "Bearer Sésame"])
def test_a_request_without_the_key_gets_an_empty_401(url: str, path: str, sent: str | None) -> None:
    headers = {} if sent is None else {"authorization": sent.encode("latin-1")}
    response = http.post(url + path, content=b"not even JSON", headers=headers)
    assert (response.status_code, response.content) == (401, b"")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/", "/generate", "/generate_stream", "/tokenize"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_request_with_the_key_is_answered(url: str, path: str, scheme: str) -> None:
    headers = {"authorization": f"{scheme} Sesame"}
    assert http.post(url + path, json={"inputs": "Hi"}, headers=headers).status_code == 200


@pytest.mark.parametrize("path", OPENAI_BODIES)
def test_openai_routes_need_the_key_too(url: str, path: str) -> None:
    refused = http.post(url + path, json=OPENAI_BODIES[path])
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert refused.json()["error"]["code"] == "invalid_api_key"
    error = from_response(401, refused.headers, refused.content)
    assert isinstance(error, AuthenticationError)
    accepted = http.post(url + path, json=OPENAI_BODIES[path], headers={"authorization": "Bearer Sesame"})
    assert accepted.status_code == 200


@pytest.mark.parametrize("path", ["/", "/health", "/ping", "/info", "/metrics", "/v1/models"])
def test_status_routes_need_no_key(url: str, path: str) -> None:
    assert http.get(url + path).status_code == 200


def test_chat_tokenize_needs_the_key(url: str) -> None:
    body = {"messages": user("Hi")}
    assert http.post(url + "/chat_tokenize", json=body).status_code == 401
    accepted = http.post(url + "/chat_tokenize", json=body, headers={"authorization": "Bearer Sesame"})
    assert accepted.status_code == 200


async def test_without_a_key_every_request_passes() -> None:
    passed: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["path"])

    await BearerAuth(app, None)({"type": "http", "path": "/x", "headers": []}, None, None)  # type: ignore[arg-type]
    assert passed == ["/x"]
