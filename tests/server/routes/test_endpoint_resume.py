"""Streams that outlive their connections: who may come back, to what, for how long, and what it costs."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from hfstream.server import BackgroundServer, Settings
from hfstream.server.engine.protocol import EngineRequest
from hfstream.server.service import resumable
from hfstream.server.service.errors import ClientDisconnectedError, StreamGoneError
from hfstream.server.service.resumable import ResumableStream, ResumableStreams
from tests.helpers.scripted_engine import (
    EOS,
    Script,
    ScriptedEngine,
    eventually,
    http,
    idle,
    ids,
    metric,
    save_chat_model,
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


def say_hello(job: EngineRequest) -> Script:
    return [*ids("Hello, world! The end."), EOS]


def go_on(job: EngineRequest) -> Script:
    """Never comes to an end of its own."""
    return iter(lambda: ids("a")[0], EOS)


@dataclass
class Ear:
    """One connection, read event by event."""

    response: httpx.Response
    heard: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Ids and data."""

    def __post_init__(self) -> None:
        self._blocks = self._read()

    def _read(self) -> Iterator[str]:
        rest = ""
        for piece in self.response.iter_text():
            *blocks, rest = (rest + piece).split("\n\n")
            yield from blocks
        assert rest == ""

    def hear(self, count: int | None = None) -> list[tuple[str, str]]:
        """The next `count` events, or all that are to come."""
        start = len(self.heard)
        while count is None or len(self.heard) < start + count:
            block = next(self._blocks, None)
            if block is None:
                break
            if block == ":":
                continue
            lines = dict(line.split(": ", 1) for line in block.split("\n"))
            self.heard.append((lines.get("id", ""), lines["data"]))
        return self.heard[start:]


@contextmanager
def opened(url: str, path: str, **headers: str) -> Generator[Ear]:
    with http.stream("POST", url + path, json=BODIES[path], headers=headers) as response:
        yield Ear(response)


def delete(url: str, path: str, **headers: str) -> httpx.Response:
    response: httpx.Response = http.request("DELETE", url + path, headers=headers)
    return response


def after(event_id: str) -> dict[str, str]:
    return {"last-event-id": event_id}


def number(event_id: str) -> int:
    return int(event_id.rpartition(":")[2])


def plain(data: str) -> str:
    """Without what differs from one answer to the next."""
    return re.sub(r'"(created|seed)":\d+', r'"\1":0', re.sub(r"(chatcmpl|cmpl)-[0-9a-f]{32}", "ID", data))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("model"))


@dataclass
class ForwardContext:
    """A server, and what stands behind it."""

    url: str
    engine: ScriptedEngine
    backend: Any

    @property
    def left_over(self) -> int:
        """Answers that are still being given, or waited with."""
        return int(len(self.backend._tasks) + len(self.backend._outputs) + self.backend.limiter.running)

    @property
    def job(self) -> EngineRequest:
        return self.engine.seen[-1]


@contextmanager
def served(model: Path, engine: ScriptedEngine | None = None, **settings: Any) -> Generator[ForwardContext]:
    engine = engine or ScriptedEngine(say_hello)
    told: dict[str, Any] = {"max_concurrent_requests": PERMITS, "resume_grace": 60.0, **settings}
    with BackgroundServer(Settings(model=str(model), **told), engine=engine) as server:
        inner: Any = server
        yield ForwardContext(server.url, engine, inner._server._backend)


@pytest.fixture(scope="module")
def patient(model: Path) -> Iterator[ForwardContext]:
    """Short answers, and a grace that no test lives to see the end of."""
    with served(model, max_concurrent_requests=100) as place:
        yield place


@pytest.fixture(scope="module")
def endless(model: Path) -> Iterator[ForwardContext]:
    """Endless answers, and next to no grace."""
    with served(model, ScriptedEngine(go_on, beat=0.002), resume_grace=0.2, sse_keepalive=0.1) as place:
        yield place


# --- Numbers ---------------------------------------------------------------------------------------------------------


@EACH_ROUTE
def test_nobody_is_numbered_who_has_not_asked(patient: ForwardContext, path: str) -> None:
    with opened(patient.url, path) as ear:
        assert "preference-applied" not in ear.response.headers
        assert {event_id for event_id, _ in ear.hear()} == {""}
    assert eventually(lambda: patient.left_over == 0)


@EACH_ROUTE
def test_a_numbered_stream_says_the_same(patient: ForwardContext, path: str) -> None:
    with opened(patient.url, path) as ear:
        expected = [plain(data) for _, data in ear.hear()]
    with opened(patient.url, path, **PREFER) as ear:
        assert ear.response.headers["preference-applied"] == "resumable"
        assert ear.response.headers["content-type"].startswith("text/event-stream")
        heard = ear.hear()
    assert [plain(data) for _, data in heard] == expected
    streams = {event_id.partition(":")[0] for event_id, _ in heard}
    assert len(streams) == 1
    assert [number(event_id) for event_id, _ in heard] == list(range(1, len(heard) + 1))
    with opened(patient.url, path, **PREFER) as ear:
        another = ear.hear()[0][0]
    assert another.partition(":")[0] not in streams


@pytest.mark.parametrize(
    ("wishes", "granted"),
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
def test_a_wish_may_stand_among_others(patient: ForwardContext, wishes: list[str], granted: bool) -> None:
    headers = [("prefer", wish) for wish in wishes]
    response = http.post(patient.url + "/generate_stream", json=BODIES["/generate_stream"], headers=headers)
    assert ("preference-applied" in response.headers) is granted
    assert response.text.startswith("id: ") is granted


@pytest.mark.parametrize("path", ["/generate", "/", CHAT, COMPLETIONS])
def test_an_answer_in_one_piece_has_nothing_to_number(patient: ForwardContext, path: str) -> None:
    body = {**BODIES.get(path, BODIES["/"]), "stream": False}
    body.pop("stream_options", None)
    response = http.post(patient.url + path, json=body, headers=PREFER)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert "preference-applied" not in response.headers


# --- Coming back -----------------------------------------------------------------------------------------------------


@EACH_ROUTE
def test_a_stream_cut_after_any_event_goes_on_after_it(patient: ForwardContext, path: str) -> None:
    with opened(patient.url, path, **PREFER) as ear:
        whole = [plain(data) for _, data in ear.hear()]
    for cut in range(1, len(whole) + 1):
        with opened(patient.url, path, **PREFER) as ear:
            heard = ear.hear(cut)
        with opened(patient.url, path, **after(heard[-1][0])) as ear:
            assert ear.response.status_code == 200
            assert ear.response.headers["preference-applied"] == "resumable"
            heard += ear.hear()
        assert [number(event_id) for event_id, _ in heard] == list(range(1, len(whole) + 1))
        assert [plain(data) for _, data in heard] == whole
    assert eventually(lambda: patient.left_over == 0)


@EACH_ROUTE
def test_a_connection_for_each_event(patient: ForwardContext, path: str) -> None:
    with opened(patient.url, path, **PREFER) as ear:
        heard = ear.hear(1)
    while True:
        with opened(patient.url, path, **after(heard[-1][0])) as ear:
            more = ear.hear(1)
        if not more:
            break
        heard += more
    assert [number(event_id) for event_id, _ in heard] == list(range(1, len(heard) + 1))
    with opened(patient.url, path) as ear:
        assert [plain(data) for _, data in heard] == [plain(data) for _, data in ear.hear()]
    assert eventually(lambda: patient.left_over == 0)


@EACH_ROUTE
def test_what_was_heard_already_can_be_heard_again(patient: ForwardContext, path: str) -> None:
    with opened(patient.url, path, **PREFER) as ear:
        whole = ear.hear()
    stream = whole[0][0].partition(":")[0]
    for _ in range(2):
        for heard in range(len(whole) + 1):
            with opened(patient.url, path, **after(f"{stream}:{heard}")) as ear:
                assert ear.hear() == whole[heard:]


def test_an_id_names_its_stream_on_every_route(patient: ForwardContext) -> None:
    with opened(patient.url, CHAT, **PREFER) as ear:
        whole = ear.hear(1)
    with opened(patient.url, "/generate_stream", **after(whole[0][0])) as ear:
        whole += ear.hear()
    assert whole[-1][1] == "[DONE]"
    assert [number(event_id) for event_id, _ in whole] == list(range(1, len(whole) + 1))


def test_two_readers_hear_all_of_it(model: Path) -> None:
    with served(model) as place:
        place.engine.flow.clear()
        with opened(place.url, CHAT, **PREFER) as first:
            place.engine.flow.set()
            heard = first.hear(2)
            with opened(place.url, CHAT, **after(heard[0][0])) as second:
                assert [*heard, *first.hear()] == [heard[0], *second.hear()]
        assert eventually(lambda: place.left_over == 0)


@EACH_ROUTE
def test_an_answer_that_ends_while_nobody_listens_is_heard_later(model: Path, path: str) -> None:
    with served(model) as place:
        place.engine.flow.clear()
        with opened(place.url, path, **PREFER) as ear:
            assert eventually(lambda: place.engine.running == 1)
            place.engine.flow.set()
            heard = ear.hear(1)
        assert eventually(lambda: place.engine.running == 0)
        with opened(place.url, path, **after(heard[0][0])) as ear:
            heard += ear.hear()
        with opened(place.url, path) as ear:
            assert [plain(data) for _, data in heard] == [plain(data) for _, data in ear.hear()]
        assert eventually(lambda: place.left_over == 0)
        assert metric(place.url, "tgi_request_success") == 2
        assert metric(place.url, DROPPED) == 0


def test_silence_is_filled_with_comments_for_who_came_back(endless: ForwardContext) -> None:
    with opened(endless.url, CHAT, **PREFER) as ear:
        heard = ear.hear(3)
    endless.engine.flow.clear()
    start = number(heard[-1][0])
    with opened(endless.url, CHAT, **after(heard[-1][0])) as ear:
        pieces = ear.response.iter_raw()
        while (piece := next(pieces)) != b":\n\n":  # after what was said before the silence
            assert piece.startswith(b"id: ")
            start += 1
        assert next(pieces) == b":\n\n"
        endless.engine.flow.set()
        told = next(piece for piece in pieces if piece != b":\n\n")
    assert number(told.split(b"\n")[0].decode()) == start + 1
    assert eventually(lambda: idle(endless.url))


def test_an_error_is_an_event_of_a_stream_that_was_come_back_to(model: Path) -> None:
    def break_down(job: EngineRequest) -> Script:
        return [*ids("Hello, world!"), RuntimeError("out of memory")]

    with served(model, ScriptedEngine(break_down)) as place:
        for path in BODIES:
            with opened(place.url, path, **PREFER) as ear:
                heard = ear.hear(1)
            for _ in range(2):  # it can be heard again, as everything
                with opened(place.url, path, **after(heard[0][0])) as ear:
                    rest = ear.hear()
                told = [json.loads(data) for _, data in rest if data != "[DONE]"]
                assert "out of memory" in json.dumps(told[-1]["error"])
                assert not any("error" in event for event in told[:-1])
                assert (rest[-1][1] == "[DONE]") is (path in (CHAT, COMPLETIONS))
                assert [number(event_id) for event_id, _ in rest] == list(range(2, len(rest) + 2))
        assert eventually(lambda: place.left_over == 0)
        assert metric(place.url, 'tgi_request_failure{err="generation"}') == len(BODIES)
        assert metric(place.url, DROPPED) == 0


# --- Not coming back -------------------------------------------------------------------------------------------------


@EACH_ROUTE
def test_who_does_not_come_back_frees_permit_and_place_after_the_grace(endless: ForwardContext, path: str) -> None:
    dropped = metric(endless.url, DROPPED)
    with opened(endless.url, path, **PREFER) as ear:
        heard = ear.hear(3)
    assert eventually(lambda: idle(endless.url))
    assert endless.job.cancelled
    assert metric(endless.url, DROPPED) == dropped + 1
    assert eventually(lambda: endless.left_over == 0)
    refused = http.post(endless.url + path, json=BODIES[path], headers=after(heard[-1][0]))
    assert refused.status_code == 404
    assert delete(endless.url, path, **after(heard[-1][0])).status_code == 404


def test_who_came_back_and_leaves_again_has_the_whole_grace_again(model: Path) -> None:
    with served(model, ScriptedEngine(go_on, beat=0.002), resume_grace=1.0) as place:
        with opened(place.url, "/generate_stream", **PREFER) as ear:
            heard = ear.hear(1)
        started = time.monotonic()
        while time.monotonic() < started + 2.5:
            with opened(place.url, "/generate_stream", **after(heard[-1][0])) as ear:
                assert ear.response.status_code == 200
                heard += ear.hear(5)
            time.sleep(0.1)
        assert [number(event_id) for event_id, _ in heard] == list(range(1, len(heard) + 1))
        assert len(place.engine.seen) == 1
        assert eventually(lambda: idle(place.url))
        assert eventually(lambda: place.left_over == 0)


@EACH_ROUTE
def test_while_it_waits_it_keeps_its_permit_and_DELETE_gives_it_back(model: Path, path: str) -> None:
    with served(model, ScriptedEngine(go_on, beat=0.002), max_concurrent_requests=1) as place:
        with opened(place.url, path, **PREFER) as ear:
            heard = ear.hear(2)
        refused = http.post(place.url + path, json=BODIES[path], headers=PREFER)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "preference-applied" not in refused.headers
        assert not place.job.cancelled
        ended = delete(place.url, path, **after(heard[-1][0]))
        assert (ended.status_code, ended.content) == (204, b"")
        assert eventually(lambda: idle(place.url))
        assert eventually(lambda: place.left_over == 0)
        assert place.job.cancelled
        assert metric(place.url, DROPPED) == 1
        assert delete(place.url, path, **after(heard[-1][0])).status_code == 404
        assert http.post(place.url + path, json=BODIES[path], headers=after(heard[-1][0])).status_code == 404


def test_DELETE_ends_a_stream_for_who_is_listening_too(endless: ForwardContext) -> None:
    with opened(endless.url, "/generate_stream", **PREFER) as ear:
        heard = ear.hear(2)
        assert delete(endless.url, "/generate_stream", **after(heard[0][0])).status_code == 204
        heard += ear.hear()
    assert [number(event_id) for event_id, _ in heard] == list(range(1, len(heard) + 1))
    assert eventually(lambda: endless.left_over == 0)


def test_DELETE_between_tokens_does_not_wait_for_one(endless: ForwardContext) -> None:
    with opened(endless.url, "/generate_stream", **PREFER) as ear:
        heard = ear.hear(2)
        endless.engine.flow.clear()
    try:
        assert delete(endless.url, "/generate_stream", **after(heard[0][0])).status_code == 204
        assert eventually(lambda: endless.left_over == 0)
    finally:
        endless.engine.flow.set()


def test_without_the_wish_closing_is_the_end(model: Path) -> None:
    with served(model, ScriptedEngine(go_on, beat=0.002), max_concurrent_requests=1) as place:
        with opened(place.url, "/generate_stream") as ear:
            ear.hear(2)
        assert eventually(lambda: place.left_over == 0)
        assert place.job.cancelled


def test_one_that_ended_holds_no_permit_while_it_can_be_heard_again(model: Path) -> None:
    with served(model, max_concurrent_requests=1) as place:
        heard: list[tuple[str, str]] = []
        for _ in range(3):
            with opened(place.url, "/generate_stream", **PREFER) as ear:
                assert ear.response.status_code == 200
                heard = ear.hear()
            assert eventually(lambda: place.left_over == 0)
        assert delete(place.url, "/generate_stream", **after(heard[0][0])).status_code == 204
        assert metric(place.url, DROPPED) == 0


# --- What is refused -------------------------------------------------------------------------------------------------

MALFORMED = ["", "x", ":", ":1", "nobody:1", "{id}", "{id}:", "{id}:-1", "{id}:+1", "{id}:1.5", "{id}:1:2", "{id}:\xb2"]


@EACH_ROUTE
@pytest.mark.parametrize("event_id", MALFORMED)
def test_who_names_no_stream_is_told_so(patient: ForwardContext, path: str, event_id: str) -> None:
    with opened(patient.url, path, **PREFER) as ear:
        stream = ear.hear(1)[0][0].partition(":")[0]
    headers = {"last-event-id": event_id.format(id=stream).encode("latin-1")}
    for method in ("POST", "DELETE"):
        refused = http.request(method, patient.url + path, json=BODIES[path], headers=headers)
        assert refused.status_code == 404
        assert refused.headers["content-type"] == "application/json"
        assert "no such stream" in json.dumps(refused.json()["error"])
    with opened(patient.url, path, **after(f"{stream}:1")) as ear:  # and it is none the worse for it
        assert ear.hear()


@EACH_ROUTE
def test_DELETE_needs_an_id(patient: ForwardContext, path: str) -> None:
    assert delete(patient.url, path).status_code == 404


@EACH_ROUTE
def test_what_has_not_been_said_yet_cannot_have_been_heard(patient: ForwardContext, path: str) -> None:
    with opened(patient.url, path, **PREFER) as ear:
        whole = ear.hear()
    stream = whole[0][0].partition(":")[0]
    for heard in (len(whole) + 1, 10**18, 10**30):
        refused = http.post(patient.url + path, json=BODIES[path], headers=after(f"{stream}:{heard}"))
        assert refused.status_code == 410


@EACH_ROUTE
def test_the_key_is_asked_for_by_whoever_comes_back(model: Path, path: str) -> None:
    with served(model, ScriptedEngine(go_on, beat=0.002), api_key="Sesame") as place:
        key = {"authorization": "Bearer Sesame"}
        with opened(place.url, path, **PREFER, **key) as ear:
            heard = ear.hear(2)
        for headers in ({}, {"authorization": "Bearer Simsim"}):
            with opened(place.url, path, **after(heard[-1][0]), **headers) as ear:
                assert ear.response.status_code == 401
            assert delete(place.url, path, **after(heard[-1][0]), **headers).status_code == 401
        with opened(place.url, path, **after(heard[-1][0]), **key) as ear:
            assert number(ear.hear(1)[0][0]) == 3
        assert delete(place.url, path, **after(heard[-1][0]), **key).status_code == 204
        assert eventually(lambda: place.left_over == 0)


def test_what_is_no_question_gets_no_stream(patient: ForwardContext) -> None:
    wrong = {"inputs": "Hi", "parameters": {"max_new_tokens": -1}}
    refused = http.post(patient.url + "/generate_stream", json=wrong, headers=PREFER)
    assert refused.status_code == 422
    assert "preference-applied" not in refused.headers


def test_what_is_not_kept_any_more_is_gone(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "MAX_BUFFERED", 4)
    with served(model, ScriptedEngine(go_on)) as place:
        for path, body in BODIES.items():
            with opened(place.url, path, **PREFER) as ear:
                heard = ear.hear(30)
            stream, _, last = heard[-1][0].partition(":")
            for lost in (0, 1, int(last) - 20):
                refused = http.post(place.url + path, json=body, headers=after(f"{stream}:{lost}"))
                assert refused.status_code == 410
                assert "keeps its events from number" in json.dumps(refused.json()["error"])
            assert place.job.cancelled is False  # it can still be come back to from later on
            assert delete(place.url, path, **after(heard[-1][0])).status_code == 204
        assert eventually(lambda: place.left_over == 0)


# --- The server's end ------------------------------------------------------------------------------------------------


def test_the_server_ends_with_streams_that_are_waited_with(model: Path) -> None:
    engine = ScriptedEngine(go_on, beat=0.002)
    started = time.monotonic()
    with served(model, engine, max_concurrent_requests=20) as place:
        for path in BODIES:
            with opened(place.url, path, **PREFER) as ear:
                ear.hear(2)
        engine.flow.clear()  # no token comes that could tell them
        assert place.left_over == 3 * len(BODIES)
        backend = place.backend
    assert time.monotonic() - started < 20
    assert backend.limiter.running == len(backend._tasks) == 0


def test_who_listens_when_the_server_ends_is_told(model: Path) -> None:
    with served(model, ScriptedEngine(go_on, beat=0.002)) as place, suppress(httpx.TransportError):
        with BackgroundServer(Settings(model=str(model)), engine=ScriptedEngine(go_on, beat=0.002)) as server:
            ending: Any = server
            response = http.stream("POST", server.url + CHAT, json=BODIES[CHAT], headers=PREFER)
            with response as stream:
                ear = Ear(stream)
                ear.hear(3)
                ending._server.stop(grace=0)
                rest = ear.hear()
        assert "the server is stopping" in rest[-2][1]
        assert rest[-1][1] == "[DONE]"
        assert eventually(lambda: place.left_over == 0)


# --- The stream itself, without a wire -------------------------------------------------------------------------------


