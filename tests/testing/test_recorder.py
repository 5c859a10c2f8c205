"""Tests of `Recorder` and `Recording`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from hfstream import InferenceConnectionError, InferenceError, OverloadedError
from hfstream.testing import Chunk, Fault, Recorder, Recording, Response, ScriptedServer, Step, faults
from tests.helpers.variants import Clients, Variant
from tests.testing.common import EVENTS, TEXTS


async def test_a_recording_has_every_chunk_with_its_time(variant: Variant, clients: Clients, tmp_path: Path) -> None:
    steps: list[Step] = [EVENTS[0], 0.1, EVENTS[1] + EVENTS[2], 0.1, EVENTS[3]]
    response = Response(steps, headers={"X-Request-Id": "r1", "Set-Cookie": "secret=1"}, delay=0.1)
    with ScriptedServer(response) as server, Recorder(server.url) as recorder:
        client = clients(recorder.url + "?key=secret", token="secret")
        stream = await variant.open(client)
        assert await variant.rest(stream) == TEXTS
        assert stream.headers["x-request-id"] == "r1"
        assert server.requests[0].headers["authorization"] == "Bearer secret"
    [recording] = recorder.recordings
    assert (recording.method, recording.path, recording.status) == ("POST", "/generate_stream", 200)
    assert b'"inputs":"Hi"' in recording.request
    assert recording.ending == "complete"
    assert [chunk.data for chunk in recording.chunks] == [EVENTS[0], EVENTS[1] + EVENTS[2], EVENTS[3]]
    times = [recording.head_at, *(chunk.at for chunk in recording.chunks), recording.ended_at]
    assert times == sorted(times)
    assert [at > earliest for at, earliest in zip(times, [0.09, 0.09, 0.19, 0.29, 0.29], strict=True)] == [True] * 5
    path = tmp_path / "recording.jsonl"
    recording.save(path)
    assert Recording.load(path) == recording
    assert "secret" not in path.read_text("utf-8")
    assert "Gott" in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("length", "speed", "minimum"), [(0.3, 1.0, 0.3), (0.3, 2.0, 0.15), (300, None, 0), (300, 1000, 0.3)]
)
@pytest.mark.slow
async def test_a_recording_is_replayed_at_any_speed(
    variant: Variant, clients: Clients, length: float, speed: float | None, minimum: float
) -> None:
    chunks = [Chunk(length * (0.3 + 0.2 * number), event) for number, event in enumerate(EVENTS)]
    headers = {"content-type": "text/event-stream", "x-request-id": "r1"}
    recording = Recording("POST", "/", b"", 200, headers, 0.3 * length, chunks, "complete", length)
    with ScriptedServer(recording.response(speed)) as server:
        client = clients(server.url, timeout=None)
        for _ in range(2):  # a replay can be repeated
            started = time.monotonic()
            stream = await variant.open(client)
            assert await variant.rest(stream) == TEXTS
            assert stream.headers["x-request-id"] == "r1"
            assert minimum <= time.monotonic() - started < 60


async def test_binary_chunks_survive_save_and_load(tmp_path: Path) -> None:
    chunks = [Chunk(0.0, bytes(range(256))), Chunk(0.5, "\u2028".encode()), Chunk(0.5, b"")]
    recording = Recording("POST", "/x", b"\xff", 200, {}, 0.0, chunks, "complete", 0.5)
    recording.save(tmp_path / "bytes.jsonl")
    assert Recording.load(tmp_path / "bytes.jsonl") == recording
    lines = (tmp_path / "bytes.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 5
    (tmp_path / "partial.jsonl").write_text("\n".join(lines[:-1]), "utf-8")
    with pytest.raises(ValueError, match=r"partial\.jsonl is not a complete recording"):
        Recording.load(tmp_path / "partial.jsonl")


def test_what_has_no_response_is_not_replayed() -> None:
    with pytest.raises(ValueError, match="no response to POST /x was recorded"):
        Recording("POST", "/x", b"").response()


async def test_a_lost_connection_is_recorded_and_replayed(variant: Variant, clients: Clients, tmp_path: Path) -> None:
    with ScriptedServer(faults.drop(EVENTS, after=2)) as server, Recorder(server.url) as recorder:
        for url in (recorder.url, None):
            responses = [recording.response(None) for recording in recorder.recordings[:1]]
            with ScriptedServer(*responses) as replay:
                with pytest.raises(InferenceConnectionError) as caught:
                    await variant.rest(await variant.open(clients(url or replay.url, retry=None)))
                assert caught.value.partial_text == "".join(TEXTS[:2])
        assert recorder.recordings[0].ending == "lost"


async def test_closing_the_connection_to_the_recorder_closes_the_one_to_the_server(
    variant: Variant, clients: Clients
) -> None:
    pause_and_event: list[Step] = [0.02, EVENTS[1]]
    steps = [EVENTS[0], *pause_and_event * 500, Fault.STALL]
    with ScriptedServer(Response(steps)) as server, Recorder(server.url) as recorder:
        stream = await variant.open(clients(recorder.url))
        assert await variant.next(stream) == TEXTS[0]
        await variant.close(stream)
        assert server.wait_until_running(0)
        assert recorder.recordings[0].ending == "client_closed"


async def test_the_recorder_forwards_errors(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(faults.overloaded(3)) as server, Recorder(server.url) as recorder:
        with pytest.raises(OverloadedError) as caught:
            await variant.open(clients(recorder.url, retry=None))
        assert caught.value.retry_after == 3
        assert recorder.recordings[0].status == 429
        server.close()
        with pytest.raises(InferenceError, match="cannot reach its server") as unreachable:
            await variant.open(clients(recorder.url, retry=None))
        assert unreachable.value.status_code == 502


async def test_a_recording_of_the_reference_server_replays_the_same_stream(
    variant: Variant, clients: Clients, reference_backend: Any, tmp_path: Path
) -> None:
    with Recorder(reference_backend.url) as recorder:
        live = await variant.rest(await variant.open(clients(recorder.url), max_new_tokens=12, details=True))
        recorder.recordings[0].save(tmp_path / "cheese.jsonl")
    with ScriptedServer(Recording.load(tmp_path / "cheese.jsonl").response(None)) as server:
        assert await variant.rest(await variant.open(clients(server.url), max_new_tokens=12, details=True)) == live
    assert len(live) == 12
