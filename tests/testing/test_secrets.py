"""No credential of a request is in its recording."""

from __future__ import annotations

import base64
from pathlib import Path

import httpx
import pytest

from hfstream.testing import Recorder, Request, Response, ScriptedServer
from hfstream.testing.secrets import credentials, mask_chunks

SECRET = "sk-very-secret-123"
BASIC = base64.b64encode(f"user:{SECRET}".encode()).decode()

WAYS = {
    "a bearer token": ({"Authorization": f"Bearer {SECRET}"}, ""),
    "basic authentication": ({"Authorization": f"Basic {BASIC}"}, ""),
    "an API key": ({"X-API-Key": SECRET}, ""),
    "Azure's key": ({"api-key": SECRET}, ""),
    "a cookie": ({"Cookie": f"a=1; session={SECRET}"}, ""),
    "a parameter": ({}, f"?key={SECRET}&alt=sse"),
}


@pytest.mark.parametrize(("headers", "query"), WAYS.values(), ids=WAYS)
def test_a_credential_that_a_server_repeats_is_not_recorded(
    headers: dict[str, str], query: str, tmp_path: Path
) -> None:
    chunks = [f"wrong key: {SECRET[:7]}".encode(), f"{SECRET[7:]} {BASIC}, go away".encode()]
    repeated = {"X-Debug": f"key {SECRET}", "OpenAI-Organization": "org-1", "Set-Cookie": f"session={SECRET}"}
    with ScriptedServer(Response(chunks, 401, headers=repeated)) as server, Recorder(server.url) as recorder:
        response = httpx.post(f"{recorder.url}/generate{query}", headers=headers, content=f'{{"key": "{SECRET}"}}')
        assert SECRET in response.text  # the client gets all of it
        assert SECRET in server.requests[0].body.decode()
        [recording] = recorder.recordings
    recording.save(tmp_path / "tape.jsonl")
    saved = (tmp_path / "tape.jsonl").read_text()
    assert SECRET not in saved
    assert SECRET.encode() not in recording.body + recording.request
    assert [len(chunk.data) for chunk in recording.chunks] == [len(chunk) for chunk in chunks]
    assert recording.headers["x-debug"] == f"key {'*' * len(SECRET)}"
    assert not {"set-cookie", "openai-organization"} & recording.headers.keys()


def test_what_is_short_is_no_credential() -> None:
    request = Request("GET", "/?key=abc", {"authorization": "Bearer -", "cookie": "a=b; c"}, b"")
    assert credentials(request) == [b"Bearer -"]
    assert credentials(Request("GET", "/", {"authorization": "Basic !"}, b"")) == [b"Basic !"]
    assert credentials(Request("GET", "/", {}, b"")) == []


def test_a_body_without_secrets_stays_the_same() -> None:
    chunks = [b"a", b"b"]
    assert mask_chunks(chunks, [b"secret"]) is chunks
