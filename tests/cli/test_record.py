"""Tests of `hfstream record`, and of what it records in `hfstream mock`."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from hfstream import InferenceClient
from hfstream.testing import Fault, Recording, Response, ScriptedServer, token_events
from tests.helpers.command_line import TIMEOUT, run_hfstream, running_hfstream, stop_hfstream

pytestmark = pytest.mark.slow

EVENTS = token_events("Hello", ",", " you")


def test_a_tape_of_the_reference_server_is_replayed_byte_for_byte_and_at_its_pace(backend: str, tmp_path: Path) -> None:
    tape = str(tmp_path / "tape.jsonl")
    body = {"inputs": "How do you make cheese?", "parameters": {"max_new_tokens": 12, "details": True}}
    headers = {"Authorization": "Bearer a-secret-key"}
    with running_hfstream("record", f"{backend}/", tape, "--port", "0") as (process, _, lines):
        url = lines[-1].split()[-1]
        live = httpx.post(f"{url}/generate_stream", json=body, headers=headers, timeout=TIMEOUT)
        stderr = stop_hfstream(process)
    assert process.returncode == 0
    assert "Stopped. 1 response recorded.\nReplay with: hfstream mock " in stderr
    assert "a-secret-key" not in Path(tape).read_text() + stderr
    [recording] = Recording.load_all(tape)
    assert recording.body == live.content
    with running_hfstream("mock", tape, "--port", "0") as (_, url, _):
        started = time.monotonic()
        replayed = httpx.post(f"{url}/generate_stream", json=body, timeout=TIMEOUT)
        assert time.monotonic() - started >= recording.ended_at
    assert replayed.content == live.content
    assert replayed.headers["content-type"] == live.headers["content-type"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_what_is_being_sent_at_the_end_is_kept(name: str, tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    with (
        ScriptedServer(Response(EVENTS), Response([*EVENTS[:2], Fault.STALL])) as server,
        running_hfstream("record", f"{server.url}/v1", str(tape), "--port", "0") as (process, _, lines),
    ):
        url = lines[-1].split()[-1]
        assert url.endswith("/v1")  # the paths are those of the server
        assert httpx.post(f"{url}/x", json={}).content == b"".join(EVENTS)
        with httpx.stream("POST", f"{url}/y", json={}) as response:
            assert next(response.iter_raw()) == EVENTS[0]
            stderr = stop_hfstream(process, name)
    assert [request.path for request in server.requests] == ["/v1/x", "/v1/y"]
    first, second = Recording.load_all(tape)
    assert (first.path, first.ending, first.body) == ("/v1/x", "complete", b"".join(EVENTS))
    assert (second.path, second.ending) == ("/v1/y", "client_closed")
    assert second.body.startswith(EVENTS[0])
    assert "Stopped. 2 responses recorded." in stderr


def test_recordings_are_added_to_a_tape_only_if_that_is_asked_for(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    Recording("GET", "/", b"", 200, {}, ending="complete").save(tape)
    refused = run_hfstream("record", "http://127.0.0.1:9", str(tape))
    assert refused.returncode == 1
    assert refused.stderr == f"hfstream: {tape} exists: give another name, or --append to add to it\n"
    with (
        ScriptedServer(Response(EVENTS)) as server,
        running_hfstream("record", server.url, str(tape), "--append", "--port", "0") as (process, _, lines),
    ):
        client = InferenceClient(lines[-1].split()[-1])
        assert list(client.text_generation("Hi", stream=True)) == ["Hello", ",", " you"]
        stop_hfstream(process)
    assert [each.path for each in Recording.load_all(tape)] == ["/", "/generate_stream"]


def test_a_server_that_is_not_reached_leaves_no_tape(tmp_path: Path) -> None:
    with ScriptedServer() as server:
        unreachable = server.url
    tape = tmp_path / "tape.jsonl"
    with running_hfstream("record", unreachable, str(tape), "--port", "0") as (process, _, lines):
        assert httpx.get(lines[-1].split()[-1]).status_code == 502
        stderr = stop_hfstream(process)
    assert "GET /  not recorded: not reached" in stderr
    assert "Stopped. 0 responses recorded.\n" in stderr
    assert not tape.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ftp://x", "{tape}"], "ftp://x is not the URL of a server"),
        (["127.0.0.1:8080", "{tape}"], "127.0.0.1:8080 is not the URL of a server"),
        (["http://127.0.0.1:99999", "{tape}"], "http://127.0.0.1:99999 is not the URL of a server"),
        (["http://127.0.0.1:9", "/no/such/folder/tape.jsonl"], "cannot write /no/such/folder/tape.jsonl: No such file"),
        (["http://127.0.0.1:9", "{tape}", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1, port 8081: "),
    ],
)
def test_mistakes_are_one_line_errors(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = run_hfstream("record", *(each.format(tape=tmp_path / "tape.jsonl") for each in arguments))
    assert done.returncode == 1
    assert done.stderr.startswith(f"hfstream: {message}")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_tape_is_not_added_to(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("notes\n")
    done = run_hfstream("record", "http://127.0.0.1:9", str(path), "--append")
    assert done.returncode == 1
    assert "is not a complete recording: line 1" in done.stderr
    assert path.read_text() == "notes\n"
