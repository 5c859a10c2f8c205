"""Routes that generate: the order of refusals, permits and rows, disconnects, keep-alives. On TGI's own routes."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hfstream.server import BackgroundServer, Settings
from hfstream.server.engine.protocol import EngineRequest
from tests.helpers.scripted_engine import (
    Script,
    ScriptedEngine,
    endless,
    events,
    eventually,
    http,
    idle,
    ids,
    metric,
    post,
    raw_request,
)

PERMITS = 3


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    def script(job: EngineRequest) -> Script:
        return [*ids("ab"), RuntimeError("broken")] if list(job.prompt) == ids("break") else endless(job)

    return ScriptedEngine(script, interval=0.01)


@pytest.fixture(scope="module")
def small_server(model: Path, engine: ScriptedEngine) -> Iterator[str]:
    settings = Settings(model=str(model), max_concurrent_requests=PERMITS, max_batch_size=2, sse_keepalive=0.1)
    with BackgroundServer(settings, engine=engine) as server:
        yield server.url


@pytest.fixture
def url(small_server: str, engine: ScriptedEngine) -> Iterator[str]:
    engine.unpause()
    assert eventually(lambda: idle(small_server))
    yield small_server
    engine.unpause()


def make_body(stream: bool, **parameters: Any) -> dict[str, Any]:
    return {"inputs": "Hi", "parameters": parameters, "stream": stream}


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/"])
def test_a_request_without_a_permit_gets_a_429_and_the_others_are_answered(
    url: str, engine: ScriptedEngine, path: str
) -> None:
    engine.pause()
    taken = [raw_request(url, "/generate_stream", make_body(True, max_new_tokens=3)) for _ in range(PERMITS)]
    assert eventually(lambda: metric(url, "hfstream_permits_taken") == PERMITS)
    assert eventually(lambda: (metric(url, "tgi_batch_current_size"), metric(url, "tgi_queue_size")) == (2, 1))
    overloads = metric(url, 'tgi_request_failure{err="overloaded"}')
    refused = http.post(url + path, json=make_body(True))  # waiting for a permit would never end: the engine is paused
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["content-type"] == "application/json"
    assert refused.text == '{"error":"Model is overloaded","error_type":"overloaded"}'
    assert metric(url, 'tgi_request_failure{err="overloaded"}') == overloads + 1
    engine.unpause()
    assert eventually(lambda: idle(url))
    assert post(url, "/generate", max_new_tokens=2).json() == {"generated_text": "aa"}
    for connection in taken:
        connection.close()


def test_which_refusals_need_no_permit(url: str, engine: ScriptedEngine) -> None:
    """TGI's order: the body, then what a stream cannot have, then the permit, then all other rules."""
    engine.pause()
    taken = [raw_request(url, "/generate_stream", make_body(True)) for _ in range(PERMITS)]
    assert eventually(lambda: metric(url, "hfstream_permits_taken") == PERMITS)
    assert http.post(url + "/generate", json={"inputs": 1}).status_code == 422
    assert "best_of" in http.post(url + "/generate_stream", json=make_body(True, best_of=2)).json()["error"]
    assert http.post(url + "/generate", json=make_body(False, top_k=0)).status_code == 429
    assert http.post(url + "/tokenize", json=make_body(False)).status_code == 200
    for connection in taken:
        connection.close()
    assert eventually(lambda: idle(url))


def test_the_permit_is_free_after_every_kind_of_end(url: str) -> None:
    for _ in range(PERMITS + 1):  # one more than there are: a single leak would show
        assert post(url, "/generate", max_new_tokens=2).status_code == 200
        assert post(url, "/generate_stream", max_new_tokens=2).status_code == 200
        assert post(url, "/generate", max_new_tokens=0).status_code == 422
        assert post(url, "/generate", "break").status_code == 424
        assert '"error_type":"generation"' in post(url, "/generate_stream", "break").text
        assert post(url, "/generate", stop=["aa"]).json() == {"generated_text": "aa"}
        assert idle(url)


def close(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def half_close(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("disconnect", [close, reset, half_close])
@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
@pytest.mark.parametrize("generating", [True, False], ids=["between tokens", "before the first token"])
def test_a_disconnect_frees_the_permit_and_the_row(
    url: str, engine: ScriptedEngine, generating: bool, path: str, disconnect: Callable[[socket.socket], None]
) -> None:
    if not generating:
        engine.pause()
    dropped = metric(url, 'tgi_request_failure{err="dropped"}')
    connections = [raw_request(url, path, make_body(True)) for _ in range(PERMITS)]
    assert eventually(lambda: metric(url, "hfstream_permits_taken") == PERMITS)
    if generating and path == "/generate_stream":
        assert all(connection.recv(10) for connection in connections)
    for connection in connections:
        disconnect(connection)
    assert eventually(lambda: idle(url))
    assert all(job.cancelled for job in engine.submitted[-PERMITS:]), "none ran to its end"
    assert metric(url, 'tgi_request_failure{err="dropped"}') == dropped + PERMITS
    for connection in connections:
        connection.close()


def test_a_silent_stream_sends_comments(url: str, engine: ScriptedEngine) -> None:
    engine.pause()
    with http.stream("POST", url + "/generate_stream", json=make_body(True, max_new_tokens=2)) as response:
        chunks = response.iter_raw()
        assert [next(chunks), next(chunks), next(chunks)] == 3 * [b":\n\n"]
        engine.unpause()
        body = b"".join(chunks)
    assert len(events(body)) == 2
