"""Permits and places: how many are answered at once, and how both come free."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hfstream.errors import OverloadedError
from hfstream.server import BackgroundServer, Settings
from hfstream.server.engine.protocol import EngineRequest
from hfstream.server.service.admission import ConcurrencyLimiter
from tests.helpers.scripted_engine import (
    EOS,
    Script,
    ScriptedEngine,
    events,
    eventually,
    http,
    idle,
    ids,
    metric,
    post,
    raw_request,
    save_tokenizer,
)

PERMITS = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    def script(job: EngineRequest) -> Script:
        return [*ids("ab"), RuntimeError("broken")] if list(job.prompt) == ids("break") else go_on(job)

    return ScriptedEngine(script, beat=0.01)


@pytest.fixture(scope="module")
def busy(model: Path, engine: ScriptedEngine) -> Iterator[str]:
    settings = Settings(model=str(model), max_concurrent_requests=PERMITS, max_batch_size=2, sse_keepalive=0.1)
    with BackgroundServer(settings, engine=engine) as server:
        yield server.url


@pytest.fixture
def url(busy: str, engine: ScriptedEngine) -> Iterator[str]:
    engine.flow.set()
    assert eventually(lambda: idle(busy))
    yield busy
    engine.flow.set()


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/"])
def test_one_too_many_is_refused_at_once_and_the_others_are_answered(
    url: str, engine: ScriptedEngine, path: str
) -> None:
    engine.flow.clear()
    taken = [raw_request(url, "/generate_stream", request(True, max_new_tokens=3)) for _ in range(PERMITS)]
    assert eventually(lambda: metric(url, "hfstream_permits_taken") == PERMITS)
    assert (metric(url, "tgi_batch_current_size"), metric(url, "tgi_queue_size")) == (2, 1)
    overloads = metric(url, 'tgi_request_failure{err="overloaded"}')
    start = time.monotonic()
    refused = http.post(url + path, json=request(True))
    assert time.monotonic() - start < 0.5
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["content-type"] == "application/json"
    assert refused.text == '{"error":"Model is overloaded","error_type":"overloaded"}'
    assert metric(url, 'tgi_request_failure{err="overloaded"}') == overloads + 1
    engine.flow.set()
    assert eventually(lambda: idle(url))
    assert post(url, "/generate", max_new_tokens=2).json() == {"generated_text": "aa"}
    for connection in taken:
        connection.close()


def test_what_is_told_before_and_what_after_the_permit(url: str, engine: ScriptedEngine) -> None:
    """TGI's order: the body, then what a stream cannot have, then the permit, then all other rules."""
    engine.flow.clear()
    taken = [raw_request(url, "/generate_stream", request(True)) for _ in range(PERMITS)]
    assert eventually(lambda: metric(url, "hfstream_permits_taken") == PERMITS)
    assert http.post(url + "/generate", json={"inputs": 1}).status_code == 422
    assert "best_of" in http.post(url + "/generate_stream", json=request(True, best_of=2)).json()["error"]
    assert http.post(url + "/generate", json=request(False, top_k=0)).status_code == 429
    assert http.post(url + "/tokenize", json=request(False)).status_code == 200
    for connection in taken:
        connection.close()
    assert eventually(lambda: idle(url))


def test_permits_come_free_after_every_kind_of_end(url: str) -> None:
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


@pytest.mark.parametrize("leave", [close, reset, half_close])
@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
@pytest.mark.parametrize("flowing", [True, False], ids=["between tokens", "before the first token"])
def test_who_leaves_frees_permit_and_place(
    url: str, engine: ScriptedEngine, flowing: bool, path: str, leave: Callable[[socket.socket], None]
) -> None:
    if not flowing:
        engine.flow.clear()
    dropped = metric(url, 'tgi_request_failure{err="dropped"}')
    connections = [raw_request(url, path, request(True)) for _ in range(PERMITS)]
    assert eventually(lambda: metric(url, "hfstream_permits_taken") == PERMITS)
    if flowing and path == "/generate_stream":
        assert all(connection.recv(10) for connection in connections)
    start = time.monotonic()
    for connection in connections:
        leave(connection)
    assert eventually(lambda: idle(url))
    assert time.monotonic() - start < 1  # a full answer would take the rest of 98 beats of 10 ms
    assert all(job.cancelled for job in engine.seen[-PERMITS:])
    assert metric(url, 'tgi_request_failure{err="dropped"}') == dropped + PERMITS
    for connection in connections:
        connection.close()


def test_silence_is_filled_with_comments(url: str, engine: ScriptedEngine) -> None:
    engine.flow.clear()
    with http.stream("POST", url + "/generate_stream", json=request(True, max_new_tokens=2)) as response:
        chunks = response.iter_raw()
        assert [next(chunks), next(chunks), next(chunks)] == 3 * [b":\n\n"]
        engine.flow.set()
        body = b"".join(chunks)
    assert len(events(body)) == 2


