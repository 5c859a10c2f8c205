"""How the body of a request is read: content type, size, errors."""

from __future__ import annotations

import pytest
import httpx
from collections.abc import *
from pathlib import Path
from typing import Any
import asyncio, threading, socket, time, json, subprocess, sys, os
from hfstream.server import BackgroundServer, Settings, create_app
from hfstream.server.engine.protocol import EngineRequest
from hfstream.version import __version__
from tests.helpers.scripted_engine import *


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/", "/tokenize"])
def test_a_malformed_body_is_answered_in_plain_text(url: str, path: str) -> None:
    def refused(status: int, opening: str, **request: Any) -> None:
        response = http.post(url + path, **request)
        assert response.status_code == status
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.text.startswith(opening)

    refused(400, "Failed to parse the request body as JSON: ", content="{", headers=JSON)
    refused(415, "Expected request with `Content-Type: application/json`", content='{"inputs":"Hi"}')
    refused(422, "Failed to deserialize the JSON body into the target type: missing field `inputs`", json={})
    refused(413, "Failed to buffer the request body: length limit exceeded", content=2_000_001 * b" ", headers=JSON)


@pytest.mark.parametrize("path", ["/generate", "/tokenize"])
def test_who_leaves_in_the_middle_of_a_body_is_let_go(url: str, path: str, caplog: pytest.LogCaptureFixture) -> None:
    host, port = httpx.URL(url).host, httpx.URL(url).port or 80
    with socket.create_connection((host, port)) as connection:
        head = "host: x\r\ncontent-type: application/json\r\ncontent-length: 99"
        connection.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n\r\n{{".encode())
        time.sleep(0.05)
    time.sleep(0.05)
    assert http.get(url + "/health").status_code == 200
    assert not caplog.records


def test_kinds_of_json(url: str) -> None:
    for kind in ("application/json; charset=utf-8", "application/vnd.x+json", "Application/JSON"):
        answer = http.post(url + "/generate", content='{"inputs":"Hi","parameters":{}}', headers={"content-type": kind})
        assert answer.status_code == 200


@pytest.mark.parametrize("path", [PATH, "/chat_tokenize"])
def test_a_malformed_body_is_answered_in_the_words_of_serde(url: str, path: str) -> None:
    json_type = {"content-type": "application/json"}
    requests: list[tuple[int, dict[str, Any]]] = [
        (400, {"content": "{", "headers": json_type}),
        (415, {"content": '{"messages":[]}'}),
        (422, {"json": {}}),
        (422, {"json": {"messages": [], "max_tokens": 1, "max_completion_tokens": 1}}),
        (422, {"json": {"messages": 3000 * user("a") + [1]}}),
        (413, {"content": 2_000_001 * b" ", "headers": json_type}),
    ]
    for status, request in requests:
        response = http.post(url + path, **request)
        assert response.status_code == status
        if path == "/chat_tokenize":
            assert response.headers["content-type"] == "text/plain; charset=utf-8"
            words = response.text
        else:  # OpenAI's client shows its user no plain text
            assert response.headers["content-type"] == "application/json"
            error = response.json()["error"]
            assert (error["type"], error["http_status_code"]) == ("invalid_request_error", status)
            words = error["message"]
        assert words.startswith(("Failed to ", "Expected request with `Content-Type: application/json`"))


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("", "EOF while parsing a value at line 1 column 0"),
        ('{"inp', "EOF while parsing a string at line 1 column 5"),
        ("hello", "expected value at line 1 column 1"),
        ('{"inputs":"x"} y', "trailing characters at line 1 column 16"),
    ],
)
def test_what_is_no_json(body: str, complaint: str) -> None:
    assert refused(body) == (400, f"Failed to parse the request body as JSON: {complaint}")


@pytest.mark.parametrize(("size", "aside"), [(100, False), (100_000, True)])
async def test_a_long_body_is_read_on_another_thread(size: int, aside: bool) -> None:
    readers: list[threading.Thread] = []

    def note(text: str) -> str:
        readers.append(threading.current_thread())
        return text

    class Form(BaseModel):
        text: Annotated[str, AfterValidator(note)]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps({"text": size * "a"}).encode(), "more_body": False}

    request = Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive)
    assert len((await parse_request(request, Form, 200_000)).text) == size
    assert (readers[0] is not threading.current_thread()) == aside
