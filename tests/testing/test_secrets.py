"""No credential of a request is in its recording."""

from __future__ import annotations

import base64
from pathlib import Path

import httpx
import pytest

from hfstream.testing import Fault, Recorder, Request, Response, ScriptedServer
from hfstream.testing.secrets import credentials, mask, mask_chunks, url_credentials

SECRET = "sk-very-secret-123"
BASIC = base64.b64encode(f"user:{SECRET}".encode()).decode()

WAYS = {
    "a bearer token": ({"Authorization": f"Bearer {SECRET}"}, ""),
    "basic authentication": ({"Authorization": f"Basic {BASIC}"}, ""),
    "an API key": ({"X-API-Key": SECRET}, ""),
    "Azure's key": ({"api-key": SECRET}, ""),
    "a cookie": ({"Cookie": f"a=1; session={SECRET}"}, ""),
    "Azure's other key": ({"Ocp-Apim-Subscription-Key": SECRET}, ""),
    "AWS's token": ({"X-Amz-Security-Token": SECRET}, ""),
    "a function's key": ({"x-functions-key": SECRET}, ""),
    "a token": ({"x-access-token": SECRET}, ""),
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


@pytest.mark.parametrize(
    ("sent", "repeated"),
    [
        ("?api_key=ab%2Bcd%2fef12", ["ab%2Bcd%2fef12", "ab+cd/ef12", "ab%2Bcd%2Fef12"]),
        ("?token=a%22b%5Ccdef", ['a"b\\cdef', r"a\"b\\cdef", "a%22b%5Ccdef"]),
        ("?key=caf%C3%A9-caf%C3%A9", ["café-café", r"caf\u00e9-caf\u00e9"]),
    ],
)
def test_a_key_is_masked_in_all_its_forms(sent: str, repeated: list[str]) -> None:
    secrets = credentials(Request("GET", f"/{sent}", {}, b""))
    for text in repeated:
        assert mask(text.encode(), secrets) == b"*" * len(text.encode())


def test_bytes_of_a_header_are_masked_as_they_are() -> None:
    key = "clé-secrète".encode()
    secrets = credentials(Request("GET", "/", {"x-api-key": key.decode("latin-1")}, b""))
    assert mask(b"key " + key, secrets) == b"key " + b"*" * len(key)


def test_credentials_of_the_server_s_URL_and_in_paths_are_masked() -> None:
    def repeat(request: Request) -> Response:
        return Response(f"{request.headers['authorization']} pa55word {request.path}")

    with ScriptedServer(repeat) as server, Recorder(server.url.replace("//", "//bob:pa55word@")) as recorder:
        answer = httpx.get(f"{recorder.url}/{SECRET}/x?key={SECRET}").text
        assert answer.startswith("Basic ")
        [recording] = recorder.recordings
    assert recording.path == f"/{'*' * len(SECRET)}/x"
    assert set(recording.body.decode().partition("/")[0]) == {"*", " "}
    assert SECRET.encode() not in recording.body
    assert url_credentials(server.url) == []


def test_a_recording_is_saved_only_when_it_has_ended(tmp_path: Path) -> None:
    with (
        ScriptedServer(Response([SECRET, Fault.STALL])) as server,
        Recorder(server.url) as recorder,
        httpx.stream("GET", recorder.url, headers={"X-API-Key": SECRET}) as response,
    ):
        assert next(response.iter_text()) == SECRET
        with pytest.raises(ValueError, match="has not ended"):
            recorder.recordings[0].save(tmp_path / "tape.jsonl")
    recorder.recordings[0].save(tmp_path / "tape.jsonl")
    assert SECRET not in (tmp_path / "tape.jsonl").read_text()


def test_what_is_short_is_no_credential() -> None:
    request = Request("GET", "/?key=abc", {"authorization": "Bearer -", "cookie": "a=b; c"}, b"")
    assert credentials(request) == [b"Bearer -"]
    assert credentials(Request("GET", "/", {"authorization": "Basic !"}, b"")) == [b"Basic !"]
    assert credentials(Request("GET", "/", {}, b"")) == []


def test_a_body_without_secrets_stays_the_same() -> None:
    chunks = [b"a", b"b"]
    assert mask_chunks(chunks, [b"secret"]) is chunks
