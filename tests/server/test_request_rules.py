"""Which pages may call the server, and which names it has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hfstream.server import BackgroundServer, Settings, create_app
from tests.helpers.scripted_engine import ScriptedEngine, http, user

CHAT = "/v1/chat/completions"
HEADERS = "authorization,content-type,x-stainless-arch,x-stainless-retry-count"


@pytest.fixture(scope="module")
def url(chat_model: Path) -> Iterator[str]:
    settings = Settings(
        model=str(chat_model), cors_allow_origin=("https://example.org",), allowed_hosts=("models.example.org",)
    )
    with BackgroundServer(settings, engine=ScriptedEngine()) as server:
        yield server.url


def preflight(url: str, origin: str) -> httpx.Response:
    headers = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": HEADERS}
    response: httpx.Response = http.options(url + CHAT, headers=headers)
    return response


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:3000", "http://127.0.0.1:8000", "http://[::1]", "https://a.localhost", "https://example.org"],
)
def test_pages_of_this_computer_and_of_allowed_origins_may_call(url: str, origin: str) -> None:
    allowed = preflight(url, origin)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == origin
    assert allowed.headers["access-control-allow-headers"].replace(" ", "") == HEADERS
    for messages, status in (user("Hi"), 200), (user(""), 200), (user("Hi") * 100, 422):
        response = http.post(url + CHAT, json={"messages": messages}, headers={"origin": origin})
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (status, origin)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost.evil.example", "null", "http://127.0.0.1.x"]
)
def test_other_pages_may_not(url: str, origin: str) -> None:
    assert preflight(url, origin).status_code == 400
    response = http.get(url + "/info", headers={"origin": origin})
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:8080", True),
        ("a.localhost", True),
        ("127.0.0.1:1", True),
        ("[::1]:8080", True),
        ("192.168.0.7", True),
        ("models.example.org:80", True),
        ("host.docker.internal:8080", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.nip.io", False),
    ],
)
def test_the_host_must_be_a_name_of_the_server(url: str, host: str, allowed: bool) -> None:
    response = http.get(url + "/info", headers={"host": host})
    assert response.status_code == (200 if allowed else 421)
    if not allowed:
        assert "allowed_hosts" in response.json()["error"]


@pytest.mark.parametrize("options", [{"host": "0.0.0.0"}, {"allowed_hosts": ("*",)}], ids=["all networks", "all names"])
def test_a_server_for_others_has_any_name(model: Path, options: dict[str, Any]) -> None:
    with BackgroundServer(Settings(model=str(model), **options), engine=ScriptedEngine()) as server:
        assert http.get(server.url + "/info", headers={"host": "evil.example"}).status_code == 200


@pytest.mark.parametrize("path", ["/llm", "/llm/", "/llm/health", "//llm//health/"])
async def test_a_path_below_the_root_path_is_found(chat_model: Path, path: str) -> None:
    app = create_app(Settings(model=str(chat_model)), engine=ScriptedEngine())
    transport = httpx.ASGITransport(app, root_path="/llm")
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://server") as client,
    ):
        assert (await client.get(path)).status_code != 404
