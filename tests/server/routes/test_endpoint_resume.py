"""Resumable streams over HTTP: reconnecting, the grace, permits, and what is refused."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from hfstream.server import BackgroundServer, Settings
from hfstream.server.engine.protocol import EngineRequest
from hfstream.server.service import resumable
from tests.helpers.scripted_engine import (
    EOS,
    Script,
    ScriptedEngine,
    endless,
    eventually,
    http,
    idle,
    ids,
    metric,
    user,
)

PERMITS = 3
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
BODIES: dict[str, dict[str, Any]] = {
    "/generate_stream": {"inputs": "Hi", "parameters": {"details": True}},
    "/": {"inputs": "Hi", "stream": True},
    CHAT: {"messages": user("Hi"), "stream": True, "logprobs": True, "stream_options": {"include_usage": True}},
    COMPLETIONS: {"prompt": "Hi", "stream": True, "max_tokens": 50},
}
EACH_ROUTE = pytest.mark.parametrize("path", BODIES)
PREFER = {"prefer": "resumable"}
DROPPED = 'tgi_request_failure{err="dropped"}'


def hello(job: EngineRequest) -> Script:
    return [*ids("Hello, world! The end."), EOS]


@dataclass
class EventReader:
    """Reads the events of one connection."""

    response: httpx.Response
    events: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Ids and data."""

    def __post_init__(self) -> None:
        self._blocks = self._split()

    def _split(self) -> Iterator[str]:
        rest = ""
        for chunk in self.response.iter_text():
            *blocks, rest = (rest + chunk).split("\n\n")
            yield from blocks
        assert rest == ""

    def read(self, count: int | None = None) -> list[tuple[str, str]]:
        """The next `count` events, or all the rest."""
        start = len(self.events)
        while count is None or len(self.events) < start + count:
            block = next(self._blocks, None)
            if block is None:
                break
            if block == ":":
                continue
            lines = dict(line.split(": ", 1) for line in block.split("\n"))
            self.events.append((lines.get("id", ""), lines["data"]))
        return self.events[start:]


@contextmanager
def connect(url: str, path: str, **headers: str) -> Generator[EventReader]:
    with http.stream("POST", url + path, json=BODIES[path], headers=headers) as response:
        yield EventReader(response)


def delete(url: str, path: str, **headers: str) -> httpx.Response:
    response: httpx.Response = http.request("DELETE", url + path, headers=headers)
    return response


def after(event_id: str) -> dict[str, str]:
    return {"last-event-id": event_id}


def number(event_id: str) -> int:
    return int(event_id.rpartition(":")[2])


def normalized(data: str) -> str:
    """Without what differs from one response to the next."""
    return re.sub(r'"(created|seed)":\d+', r'"\1":0', re.sub(r"(chatcmpl|cmpl)-[0-9a-f]{32}", "ID", data))


@dataclass
class RunningServer:
    """A server and its parts."""

    url: str
    engine: ScriptedEngine
    backend: Any

    @property
    def held(self) -> int:
        """Tasks, outputs and permits that are not released."""
        return int(len(self.backend._tasks) + len(self.backend._outputs) + self.backend.limiter.running)

    @property
    def job(self) -> EngineRequest:
        return self.engine.submitted[-1]


@contextmanager
def run_server(chat_model: Path, engine: ScriptedEngine | None = None, **settings: Any) -> Generator[RunningServer]:
    engine = engine or ScriptedEngine(hello)
    options: dict[str, Any] = {"max_concurrent_requests": PERMITS, "resume_grace": 60.0, **settings}
    with BackgroundServer(Settings(model=str(chat_model), **options), engine=engine) as server:
        inner: Any = server
        yield RunningServer(server.url, engine, inner._server._service)


@pytest.fixture(scope="module")
def server(chat_model: Path) -> Iterator[RunningServer]:
    """Short responses, and a grace that is longer than any test."""
    with run_server(chat_model, max_concurrent_requests=100) as running:
        yield running


@pytest.fixture(scope="module")
def endless_server(chat_model: Path) -> Iterator[RunningServer]:
    """Responses without an end, and a short grace."""
    with run_server(
        chat_model, ScriptedEngine(endless, interval=0.002), resume_grace=0.2, sse_keepalive=0.1
    ) as running:
        yield running


# --- numbered events -------------------------------------------------------------------------------------------------


@EACH_ROUTE
def test_events_have_no_ids_unless_requested(server: RunningServer, path: str) -> None:
    with connect(server.url, path) as reader:
        assert "preference-applied" not in reader.response.headers
        assert {event_id for event_id, _ in reader.read()} == {""}
    assert eventually(lambda: server.held == 0)


@EACH_ROUTE
def test_numbered_events_have_the_same_data(server: RunningServer, path: str) -> None:
    with connect(server.url, path) as reader:
        expected = [normalized(data) for _, data in reader.read()]
    with connect(server.url, path, **PREFER) as reader:
        assert reader.response.headers["preference-applied"] == "resumable"
        assert reader.response.headers["content-type"].startswith("text/event-stream")
        events = reader.read()
    assert [normalized(data) for _, data in events] == expected
    streams = {event_id.partition(":")[0] for event_id, _ in events}
    assert len(streams) == 1
    assert [number(event_id) for event_id, _ in events] == list(range(1, len(events) + 1))
    with connect(server.url, path, **PREFER) as reader:
        another = reader.read()[0][0]
    assert another.partition(":")[0] not in streams


@pytest.mark.parametrize(
    ("preferences", "granted"),
    [
        (["resumable"], True),
        (["respond-async, Resumable"], True),
        (["wait=5;resumable"], True),
        (["respond-async", "resumable"], True),
        (["notresumable"], False),
        (['x="resumables"'], False),
        ([""], False),
    ],
)
def test_resumable_may_be_one_of_several_preferences(
    server: RunningServer, preferences: list[str], granted: bool
) -> None:
    headers = [("prefer", preference) for preference in preferences]
    response = http.post(server.url + "/generate_stream", json=BODIES["/generate_stream"], headers=headers)
    assert ("preference-applied" in response.headers) is granted
    assert response.text.startswith("id: ") is granted


@pytest.mark.parametrize("path", ["/generate", "/", CHAT, COMPLETIONS])
def test_a_response_that_is_not_streamed_is_not_resumable(server: RunningServer, path: str) -> None:
    body = {**BODIES.get(path, BODIES["/"]), "stream": False}
    body.pop("stream_options", None)
    response = http.post(server.url + path, json=body, headers=PREFER)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert "preference-applied" not in response.headers


# --- reconnecting ----------------------------------------------------------------------------------------------------


@EACH_ROUTE
def test_a_stream_cut_after_any_event_continues_after_it(server: RunningServer, path: str) -> None:
    with connect(server.url, path, **PREFER) as reader:
        every_event = [normalized(data) for _, data in reader.read()]
    for cut in range(1, len(every_event) + 1):
        with connect(server.url, path, **PREFER) as reader:
            events = reader.read(cut)
        with connect(server.url, path, **after(events[-1][0])) as reader:
            assert reader.response.status_code == 200
            assert reader.response.headers["preference-applied"] == "resumable"
            events += reader.read()
        assert [number(event_id) for event_id, _ in events] == list(range(1, len(every_event) + 1))
        assert [normalized(data) for _, data in events] == every_event
    assert eventually(lambda: server.held == 0)


@EACH_ROUTE
def test_a_new_connection_for_each_event(server: RunningServer, path: str) -> None:
    with connect(server.url, path, **PREFER) as reader:
        events = reader.read(1)
    while True:
        with connect(server.url, path, **after(events[-1][0])) as reader:
            more = reader.read(1)
        if not more:
            break
        events += more
    assert [number(event_id) for event_id, _ in events] == list(range(1, len(events) + 1))
    with connect(server.url, path) as reader:
        assert [normalized(data) for _, data in events] == [normalized(data) for _, data in reader.read()]
    assert eventually(lambda: server.held == 0)


@EACH_ROUTE
def test_buffered_events_can_be_read_again(server: RunningServer, path: str) -> None:
    with connect(server.url, path, **PREFER) as reader:
        every_event = reader.read()
    stream = every_event[0][0].partition(":")[0]
    for _ in range(2):
        for last in range(len(every_event) + 1):
            with connect(server.url, path, **after(f"{stream}:{last}")) as reader:
                assert reader.read() == every_event[last:]


def test_two_readers_get_all_events(chat_model: Path) -> None:
    with run_server(chat_model) as running:
        running.engine.pause()
        with connect(running.url, CHAT, **PREFER) as first:
            running.engine.unpause()
            events = first.read(2)
            with connect(running.url, CHAT, **after(events[0][0])) as second:
                assert [*events, *first.read()] == [events[0], *second.read()]
        assert eventually(lambda: running.held == 0)


@EACH_ROUTE
def test_a_stream_that_ends_without_a_reader_can_be_read_later(chat_model: Path, path: str) -> None:
    with run_server(chat_model) as running:
        running.engine.pause()
        with connect(running.url, path, **PREFER) as reader:
            assert eventually(lambda: running.engine.running == 1)
            running.engine.unpause()
            events = reader.read(1)
        assert eventually(lambda: running.engine.running == 0)
        with connect(running.url, path, **after(events[0][0])) as reader:
            events += reader.read()
        with connect(running.url, path) as reader:
            assert [normalized(data) for _, data in events] == [normalized(data) for _, data in reader.read()]
        assert eventually(lambda: running.held == 0)
        assert metric(running.url, "tgi_request_success") == 2
        assert metric(running.url, DROPPED) == 0


def test_a_silent_stream_sends_comments_after_a_reconnect(endless_server: RunningServer) -> None:
    with connect(endless_server.url, CHAT, **PREFER) as reader:
        events = reader.read(3)
    endless_server.engine.pause()
    start = number(events[-1][0])
    with connect(endless_server.url, CHAT, **after(events[-1][0])) as reader:
        body = reader.response.iter_raw()
        while (chunk := next(body)) != b":\n\n":  # after the events from before the silence
            assert chunk.startswith(b"id: ")
            start += 1
        assert next(body) == b":\n\n"
        endless_server.engine.unpause()
        event = next(chunk for chunk in body if chunk != b":\n\n")
    assert number(event.split(b"\n")[0].decode()) == start + 1
    assert eventually(lambda: idle(endless_server.url))


def test_an_error_is_an_event_of_a_resumed_stream(chat_model: Path) -> None:
    def fail(job: EngineRequest) -> Script:
        return [*ids("Hello, world!"), RuntimeError("out of memory")]

    with run_server(chat_model, ScriptedEngine(fail)) as running:
        for path in BODIES:
            with connect(running.url, path, **PREFER) as reader:
                events = reader.read(1)
            for _ in range(2):  # it can be read again, as any event
                with connect(running.url, path, **after(events[0][0])) as reader:
                    rest = reader.read()
                parsed = [json.loads(data) for _, data in rest if data != "[DONE]"]
                assert "out of memory" in json.dumps(parsed[-1]["error"])
                assert not any("error" in event for event in parsed[:-1])
                assert (rest[-1][1] == "[DONE]") is (path in (CHAT, COMPLETIONS))
                assert [number(event_id) for event_id, _ in rest] == list(range(2, len(rest) + 2))
        assert eventually(lambda: running.held == 0)
        assert metric(running.url, 'tgi_request_failure{err="generation"}') == len(BODIES)
        assert metric(running.url, DROPPED) == 0


# --- the end: grace, DELETE, disconnect ------------------------------------------------------------------------------


@EACH_ROUTE
@pytest.mark.slow
def test_without_a_reconnect_permit_and_row_are_free_after_the_grace(endless_server: RunningServer, path: str) -> None:
    dropped = metric(endless_server.url, DROPPED)
    with connect(endless_server.url, path, **PREFER) as reader:
        events = reader.read(3)
    assert eventually(lambda: idle(endless_server.url))
    assert endless_server.job.cancelled
    assert metric(endless_server.url, DROPPED) == dropped + 1
    assert eventually(lambda: endless_server.held == 0)
    refused = http.post(endless_server.url + path, json=BODIES[path], headers=after(events[-1][0]))
    assert refused.status_code == 404
    assert delete(endless_server.url, path, **after(events[-1][0])).status_code == 404


@pytest.mark.slow
def test_each_disconnect_starts_the_whole_grace_again(chat_model: Path) -> None:
    with run_server(chat_model, ScriptedEngine(endless, interval=0.002), resume_grace=2.0) as running:
        with connect(running.url, "/generate_stream", **PREFER) as reader:
            events = reader.read(1)
        started = time.monotonic()
        while time.monotonic() < started + 3.0:
            with connect(running.url, "/generate_stream", **after(events[-1][0])) as reader:
                assert reader.response.status_code == 200
                events += reader.read(5)
            time.sleep(0.1)
        assert [number(event_id) for event_id, _ in events] == list(range(1, len(events) + 1))
        assert len(running.engine.submitted) == 1
        assert eventually(lambda: idle(running.url))
        assert eventually(lambda: running.held == 0)


@EACH_ROUTE
def test_a_waiting_stream_keeps_its_permit_until_a_DELETE(chat_model: Path, path: str) -> None:
    with run_server(chat_model, ScriptedEngine(endless, interval=0.002), max_concurrent_requests=1) as running:
        with connect(running.url, path, **PREFER) as reader:
            events = reader.read(2)
        refused = http.post(running.url + path, json=BODIES[path], headers=PREFER)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "preference-applied" not in refused.headers
        assert not running.job.cancelled
        ended = delete(running.url, path, **after(events[-1][0]))
        assert (ended.status_code, ended.content) == (204, b"")
        assert eventually(lambda: idle(running.url))
        assert eventually(lambda: running.held == 0)
        assert running.job.cancelled
        assert metric(running.url, DROPPED) == 1
        assert delete(running.url, path, **after(events[-1][0])).status_code == 404
        assert http.post(running.url + path, json=BODIES[path], headers=after(events[-1][0])).status_code == 404


def test_DELETE_ends_a_stream_for_its_readers_too(endless_server: RunningServer) -> None:
    with connect(endless_server.url, "/generate_stream", **PREFER) as reader:
        events = reader.read(2)
        assert delete(endless_server.url, "/generate_stream", **after(events[0][0])).status_code == 204
        events += reader.read()
    assert [number(event_id) for event_id, _ in events] == list(range(1, len(events) + 1))
    assert eventually(lambda: endless_server.held == 0)


def test_DELETE_between_tokens_does_not_wait_for_one(endless_server: RunningServer) -> None:
    with connect(endless_server.url, "/generate_stream", **PREFER) as reader:
        events = reader.read(2)
        endless_server.engine.pause()
    try:
        assert delete(endless_server.url, "/generate_stream", **after(events[0][0])).status_code == 204
        assert eventually(lambda: endless_server.held == 0)
    finally:
        endless_server.engine.unpause()


def test_without_the_preference_a_disconnect_ends_the_stream(chat_model: Path) -> None:
    with run_server(chat_model, ScriptedEngine(endless, interval=0.002), max_concurrent_requests=1) as running:
        with connect(running.url, "/generate_stream") as reader:
            reader.read(2)
        assert eventually(lambda: running.held == 0)
        assert running.job.cancelled


def test_a_finished_stream_holds_no_permit_while_it_is_buffered(chat_model: Path) -> None:
    with run_server(chat_model, max_concurrent_requests=1) as running:
        events: list[tuple[str, str]] = []
        for _ in range(3):
            with connect(running.url, "/generate_stream", **PREFER) as reader:
                assert reader.response.status_code == 200
                events = reader.read()
            assert eventually(lambda: running.held == 0)
        assert delete(running.url, "/generate_stream", **after(events[0][0])).status_code == 204
        assert metric(running.url, DROPPED) == 0


# --- what is refused -------------------------------------------------------------------------------------------------

MALFORMED = [
    "",
    "x",
    ":",
    ":1",
    "unknown:1",
    "{id}",
    "{id}:",
    "{id}:-1",
    "{id}:+1",
    "{id}:1.5",
    "{id}:1:2",
    "{id}:\xb2",
]


@EACH_ROUTE
@pytest.mark.parametrize("event_id", MALFORMED)
def test_an_unknown_or_malformed_event_id_is_a_404(server: RunningServer, path: str, event_id: str) -> None:
    with connect(server.url, path, **PREFER) as reader:
        stream = reader.read(1)[0][0].partition(":")[0]
    headers = {"last-event-id": event_id.format(id=stream).encode("latin-1")}
    for method in ("POST", "DELETE"):
        refused = http.request(method, server.url + path, json=BODIES[path], headers=headers)
        assert refused.status_code == 404
        assert refused.headers["content-type"] == "application/json"
        assert "no such stream" in json.dumps(refused.json()["error"])
        assert refused.json()["error_type"] == "not_found"
    with connect(server.url, path, **after(f"{stream}:1")) as reader:  # the stream itself is not affected
        assert reader.read()


@EACH_ROUTE
def test_a_stream_is_found_at_its_own_route_only(server: RunningServer, path: str) -> None:
    with connect(server.url, path, **PREFER) as reader:
        first, *others = reader.read()
    for other in {"/generate", *BODIES} - {path}:
        for method in ("POST", "DELETE"):
            refused = http.request(method, server.url + other, json={}, headers=after(first[0]))
            assert refused.status_code == 404
    with connect(server.url, path, **after(first[0])) as reader:
        assert reader.read() == others


@EACH_ROUTE
def test_DELETE_needs_an_id(server: RunningServer, path: str) -> None:
    assert delete(server.url, path).status_code == 404


@EACH_ROUTE
def test_an_event_number_that_does_not_exist_yet_is_a_410(server: RunningServer, path: str) -> None:
    with connect(server.url, path, **PREFER) as reader:
        every_event = reader.read()
    stream = every_event[0][0].partition(":")[0]
    for last in (len(every_event) + 1, 10**18, 10**30):
        refused = http.post(server.url + path, json=BODIES[path], headers=after(f"{stream}:{last}"))
        assert refused.status_code == 410


@EACH_ROUTE
def test_reconnecting_needs_the_key(chat_model: Path, path: str) -> None:
    with run_server(chat_model, ScriptedEngine(endless, interval=0.002), api_key="Sesame") as running:
        key = {"authorization": "Bearer Sesame"}
        with connect(running.url, path, **PREFER, **key) as reader:
            events = reader.read(2)
        for headers in ({}, {"authorization": "Bearer Simsim"}):
            with connect(running.url, path, **after(events[-1][0]), **headers) as reader:
                assert reader.response.status_code == 401
            assert delete(running.url, path, **after(events[-1][0]), **headers).status_code == 401
        with connect(running.url, path, **after(events[-1][0]), **key) as reader:
            assert number(reader.read(1)[0][0]) == 3
        assert delete(running.url, path, **after(events[-1][0]), **key).status_code == 204
        assert eventually(lambda: running.held == 0)


def test_an_invalid_request_gets_no_stream(server: RunningServer) -> None:
    wrong = {"inputs": "Hi", "parameters": {"max_new_tokens": -1}}
    refused = http.post(server.url + "/generate_stream", json=wrong, headers=PREFER)
    assert refused.status_code == 422
    assert "preference-applied" not in refused.headers


@pytest.mark.slow
def test_events_that_left_the_buffer_are_a_410(chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "MAX_BUFFERED", 4)
    engine = ScriptedEngine(endless, interval=0.01)
    with run_server(chat_model, engine) as running:
        for path, body in BODIES.items():
            with connect(running.url, path, **PREFER) as reader:
                events = reader.read(30)
                engine.pause()  # before the limit on tokens: a request at its end would be another case
            stream, _, last = events[-1][0].partition(":")
            for lost in (0, 1, int(last) - 20):
                refused = http.post(running.url + path, json=body, headers=after(f"{stream}:{lost}"))
                assert refused.status_code == 410
                assert "keeps its events from number" in json.dumps(refused.json()["error"])
            assert running.job.cancelled is False  # later events can still be asked for
            assert delete(running.url, path, **after(events[-1][0])).status_code == 204
            engine.unpause()
        assert eventually(lambda: running.held == 0)


# --- the server's shutdown -------------------------------------------------------------------------------------------


def test_the_server_stops_although_streams_wait_for_a_reconnect(chat_model: Path) -> None:
    engine = ScriptedEngine(endless, interval=0.002)
    started = time.monotonic()
    with run_server(chat_model, engine, max_concurrent_requests=20, resume_grace=300.0) as running:
        for path in BODIES:
            with connect(running.url, path, **PREFER) as reader:
                reader.read(2)
        engine.pause()  # so that no token wakes the streams
        assert running.held == 3 * len(BODIES)
        backend = running.backend
    assert time.monotonic() - started < 60  # the grace is longer
    assert backend.limiter.running == len(backend._tasks) == 0


def test_a_reader_gets_an_error_when_the_server_stops(chat_model: Path) -> None:
    with run_server(chat_model, ScriptedEngine(endless, interval=0.002)) as running, suppress(httpx.TransportError):
        with BackgroundServer(
            Settings(model=str(chat_model)), engine=ScriptedEngine(endless, interval=0.002)
        ) as server:
            ending: Any = server
            response = http.stream("POST", server.url + CHAT, json=BODIES[CHAT], headers=PREFER)
            with response as stream:
                reader = EventReader(stream)
                reader.read(3)
                ending._server.stop(grace=0)
                rest = reader.read()
        assert "the server is stopping" in rest[-2][1]
        assert rest[-1][1] == "[DONE]"
        assert eventually(lambda: running.held == 0)
