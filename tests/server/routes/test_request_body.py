"""How the body of a request is read and parsed: content type, size limit, errors, threads."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from pydantic import AfterValidator, BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request

from hfstream.server import BackgroundServer, Settings
from hfstream.server.routes.request_body import parse_body, parse_request
from hfstream.server.schemas.tgi import GenerateRequest
from hfstream.server.service.backend import Backend
from tests.helpers.scripted_engine import ScriptedEngine, http, user

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def url(chat_model: Path) -> Iterator[str]:
    with BackgroundServer(Settings(model=str(chat_model)), engine=ScriptedEngine()) as server:
        yield server.url


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/", "/tokenize"])
def test_tgi_routes_report_a_malformed_body_as_plain_text(url: str, path: str) -> None:
    def refused(status: int, opening: str, **request: Any) -> None:
        response = http.post(url + path, **request)
        assert response.status_code == status
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.text.startswith(opening)
        assert ("x-request-id" in response.headers) == (path != "/tokenize")

    refused(400, "Failed to parse the request body as JSON: ", content="{", headers=JSON)
    refused(415, "Expected request with `Content-Type: application/json`", content='{"inputs":"Hi"}')
    refused(422, "Failed to deserialize the JSON body into the target type: missing field `inputs`", json={})
    refused(413, "Failed to buffer the request body: length limit exceeded", content=2_000_001 * b" ", headers=JSON)


@pytest.mark.parametrize("path", ["/generate", "/tokenize"])
def test_a_disconnect_in_the_middle_of_a_body_is_not_an_error(
    url: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = httpx.URL(url).host, httpx.URL(url).port or 80
    with socket.create_connection((host, port)) as connection:
        head = "host: localhost\r\ncontent-type: application/json\r\ncontent-length: 99"
        connection.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n\r\n{{".encode())
        time.sleep(0.05)
    time.sleep(0.05)
    assert http.get(url + "/health").status_code == 200
    assert not caplog.records


def test_json_content_types(url: str) -> None:
    for content_type in ("application/json; charset=utf-8", "application/vnd.x+json", "Application/JSON"):
        headers = {"content-type": content_type}
        response = http.post(url + "/generate", content='{"inputs":"Hi","parameters":{}}', headers=headers)
        assert response.status_code == 200


@pytest.mark.parametrize("path", [CHAT, "/chat_tokenize"])
def test_openai_routes_report_a_malformed_body_as_json(url: str, path: str) -> None:
    requests: list[tuple[int, dict[str, Any]]] = [
        (400, {"content": "{", "headers": JSON}),
        (415, {"content": '{"messages":[]}'}),
        (422, {"json": {}}),
        (422, {"json": {"messages": [], "max_tokens": 1, "max_completion_tokens": 1}}),
        (422, {"json": {"messages": 3000 * user("a") + [1]}}),
        (413, {"content": 2_000_001 * b" ", "headers": JSON}),
    ]
    for status, request in requests:
        response = http.post(url + path, **request)
        assert response.status_code == status
        if path == "/chat_tokenize":
            assert response.headers["content-type"] == "text/plain; charset=utf-8"
            message = response.text
        else:  # OpenAI's client does not show plain text to its user
            assert response.headers["content-type"] == "application/json"
            error = response.json()["error"]
            assert (error["type"], error["http_status_code"]) == ("invalid_request_error", status)
            message = error["message"]
        assert message.startswith(("Failed to ", "Expected request with `Content-Type: application/json`"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "EOF while parsing a value at line 1 column 0"),
        ('{"inp', "EOF while parsing a string at line 1 column 5"),
        ("hello", "expected value at line 1 column 1"),
        ('{"inputs":"x","x":NaN}', "expected value at line 1 column 19"),
        ('{"inputs":"x","x":-Infinity}', "invalid number at line 1 column 20"),
        ('{"inputs":"x"} y', "trailing characters at line 1 column 16"),
    ],
)
def test_a_body_that_is_not_json_is_a_400(body: str, message: str) -> None:
    with pytest.raises(HTTPException) as caught:
        parse_body(body.encode(), GenerateRequest)
    assert caught.value.status_code == 400
    assert caught.value.detail == f"Failed to parse the request body as JSON: {message}"


def test_words_for_numbers_that_json_does_not_have_are_text() -> None:
    assert parse_body(b'{"inputs":"NaN, Infinity"}', GenerateRequest).inputs == "NaN, Infinity"


def limited(payload_limit: int) -> Backend:
    return Backend(Settings(payload_limit=payload_limit), ScriptedEngine())


@pytest.mark.parametrize(("size", "in_thread"), [(100, False), (100_000, True)])
async def test_a_long_body_is_parsed_on_another_thread(size: int, in_thread: bool) -> None:
    parsers: list[threading.Thread] = []

    def record(text: str) -> str:
        parsers.append(threading.current_thread())
        return text

    class Body(BaseModel):
        text: Annotated[str, AfterValidator(record)]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps({"text": size * "a"}).encode(), "more_body": False}

    request = Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive)
    assert len((await parse_request(request, Body, limited(200_000))).text) == size
    assert (parsers[0] is not threading.current_thread()) == in_thread


async def test_reading_stops_at_the_limit() -> None:
    chunks = iter(range(100))

    async def receive() -> dict[str, Any]:
        next(chunks)
        return {"type": "http.request", "body": 10 * b" ", "more_body": True}

    request = Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive)
    with pytest.raises(HTTPException) as caught:
        await parse_request(request, GenerateRequest, limited(25))
    assert (caught.value.status_code, next(chunks)) == (413, 3)
