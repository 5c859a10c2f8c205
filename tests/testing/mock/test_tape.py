"""Answers from a tape: byte for byte, at the recorded pace; and what a tape does not have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from hfstream import InferenceClient, InferenceConnectionError
from hfstream.testing import Chunk, MockServer, Recording, RulesError, token_events
from tests.testing.common import EVENTS, TEXTS

Start = Callable[..., MockServer]
HEADERS = {"content-type": "text/event-stream", "x-request-id": "theirs"}


def recording(body: Any, events: list[bytes] = EVENTS, path: str = "/generate_stream", **fields: Any) -> Recording:
    chunks = [Chunk(0.01 * number, event) for number, event in enumerate(events, 1)]
    end: dict[str, Any] = {"ending": "complete", "ended_at": 0.1} | fields
    return Recording("POST", path, json.dumps(body).encode(), 200, HEADERS, 0.005, chunks, **end)


def save(path: Path, *recordings: Recording) -> Path:
    for number, each in enumerate(recordings):
        each.save(path, append=number > 0)
    return path


def test_a_tape_with_several_recordings_is_read(tmp_path: Path) -> None:
    recordings = [recording({"inputs": "a"}), recording({"inputs": "b"}, ending="lost")]
    path = save(tmp_path / "tape.jsonl", *recordings)
    assert Recording.load_all(path) == recordings
    with pytest.raises(ValueError, match="has 2 recordings: read them with"):
        Recording.load(path)


def test_each_request_gets_what_was_recorded_for_it(mock_server: Start, tmp_path: Path) -> None:
    again = token_events("again")
    path = save(
        tmp_path / "tape.jsonl",
        recording({"inputs": "a", "parameters": {"seed": 1}}),
        recording({"inputs": "a", "parameters": {"seed": 1}}, again),
        recording({"inputs": "lost", "parameters": {"details": True}}, EVENTS[:2], ending="lost"),
    )
    server = mock_server(path, speed=float("inf"))
    same_in_other_order = b'{"parameters":{"seed":1}, "inputs":"a"}'
    responses = [httpx.post(f"{server.url}/generate_stream?key=1", content=same_in_other_order) for _ in range(3)]
    assert [response.content for response in responses] == [b"".join(EVENTS), *[b"".join(again)] * 2]
    assert responses[0].headers["x-request-id"] == "theirs"
    assert "access-control-allow-origin" not in responses[0].headers
    assert server.unused == ["recording 3"]
    with pytest.raises(InferenceConnectionError) as caught:
        list(InferenceClient(server.url, retry=None).text_generation("lost", stream=True))
    assert caught.value.partial_text == "".join(TEXTS[:2])


def test_the_recorded_pace_is_kept(mock_server: Start, tmp_path: Path) -> None:
    path = save(tmp_path / "tape.jsonl", recording({"inputs": "x"}, ended_at=0.3))
    stream = InferenceClient(mock_server(path, match="path").url).text_generation("other", stream=True)
    assert list(stream) == TEXTS
    assert stream.metrics.duration >= 0.01 * len(EVENTS)


def test_what_the_tape_does_not_have_is_named(mock_server: Start, tmp_path: Path) -> None:
    chat = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    path = save(tmp_path / "tape.jsonl", recording(chat, path="/v1/chat/completions"), recording("x", path="/other"))
    server = mock_server(path)
    messages = [{"role": "user", "content": "b"}]
    response = httpx.post(f"{server.url}/v1/chat/completions", json=chat | {"messages": messages, "stream": True})
    assert response.status_code == 404
    assert response.json()["error"]["message"] == (
        "the tape has no response to POST /v1/chat/completions with this body; "
        "the most similar recorded one differs in `messages[0].content`, `stream`"
    )
    assert httpx.post(f"{server.url}/other", content=b"\xff").json()["error"].endswith("one differs in the body")
    assert httpx.get(f"{server.url}/v1/models").json()["error"] == (
        "the tape has no response to GET /v1/models; it has POST /v1/chat/completions, POST /other"
    )
    assert httpx.get(f"{server.url}/health").status_code == 200
    asked = [(each.source, each.asked) for each in server.requests]
    assert asked[0] == (None, 'user "b", model m, streamed')
    assert [source for source, _ in asked[1:]] == [None, None, "status"]


BROKEN = {
    "no end": lambda text: text.rpartition('{"at"')[0],
    "no JSON": lambda text: text.replace('{"at": 0.02', "{at: 0.02"),
    "no data": lambda text: text.replace('"text": "data', '"txt": "data'),
    "another end": lambda text: text + text.splitlines()[0] + "\n",
}  # fmt: skip


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_a_damaged_tape_is_refused(damage: Callable[[str], str], tmp_path: Path) -> None:
    path = save(tmp_path / "tape.jsonl", recording({"inputs": "a"}))
    path.write_text(damage(path.read_text()))
    with pytest.raises(RulesError, match=r"tape\.jsonl is not a complete recording"):
        MockServer.from_file(path)


def test_a_tape_without_a_response_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "tape.jsonl", Recording("POST", "/", b""))
    with pytest.raises(RulesError, match="has no response"):
        MockServer.from_file(tmp_path / "tape.jsonl")
