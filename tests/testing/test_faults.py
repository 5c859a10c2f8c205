"""The testing kit, and what clients make of its faults: a good place to see what each of them does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from hfstream import (
    IncompleteStreamError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    OverloadedError,
    RetryPolicy,
    Timeouts,
    UnexpectedResponseError,
)
from hfstream.testing import (
    ChaosProxy,
    Chunk,
    Fault,
    FaultRates,
    Recorder,
    Recording,
    Response,
    ScriptedServer,
    Step,
    chat_events,
    faults,
    token_events,
)
from tests.helpers.variants import Clients, Variant

TEXTS = ["Grüß", " Gott", faults.UNICODE_LINE_SEPARATORS, "👩‍🚀"]
WHOLE = "".join(TEXTS)
EVENTS = token_events(*TEXTS)
CHAT = chat_events(*TEXTS)
SOON = Timeouts(first_token=60, between_tokens=1.0)
"""For a server that stalls, and for no other: a busy machine may be silent too, for a moment."""


# Faults --------------------------------------------------------------------------------------------------------------

ODD_BUT_RIGHT = [
    faults.byte_order_mark,
    faults.cr_only,
    faults.crlf,
    faults.keep_alives,
    faults.rechunk,
    faults.retry_frames,
    faults.split_utf8,
]


@pytest.mark.parametrize("odd", ODD_BUT_RIGHT, ids=lambda odd: odd.__name__)
async def test_what_only_looks_odd_is_a_whole_answer(variant: Variant, clients: Clients, odd: Any) -> None:
    with ScriptedServer(odd(EVENTS), odd(CHAT)) as server:
        client = clients(server.url, retry=None)
        assert await variant.rest(await variant.open(client)) == TEXTS
        assert (await variant.final(await variant.open_chat(client))).choices[0].message.content == WHOLE


async def test_a_pace_is_kept(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(faults.paced(EVENTS, 0.05)) as server:
        stream = await variant.open(clients(server.url))
        assert await variant.rest(stream) == TEXTS
        assert stream.metrics.duration >= 0.2


async def test_a_head_can_be_late(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(EVENTS, delay=0.2)) as server:
        stream = await variant.open(clients(server.url))
        assert stream.metrics.time_to_first_token >= 0.2
        await variant.close(stream)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.drop, InferenceConnectionError),
        (faults.reset, InferenceConnectionError),
        (faults.stall, InferenceTimeoutError),
        (faults.early_end, IncompleteStreamError),
    ],
)
@pytest.mark.parametrize("after", [1, 3])
async def test_who_breaks_off_leaves_the_tokens_before(
    variant: Variant, clients: Clients, fault: Any, kind: type[InferenceError], after: int
) -> None:
    with ScriptedServer(fault(EVENTS, after=after), fault(CHAT, after=after + 1)) as server:
        client = clients(server.url, timeout=SOON if fault is faults.stall else 60)
        streams = await variant.open(client), await variant.open_chat(client)
        errors = await asyncio.gather(*map(variant.rest, streams), return_exceptions=True)
        for error in errors:
            assert isinstance(error, kind)
            assert error.partial_text == "".join(TEXTS[:after])


@pytest.mark.parametrize(
    ("answer", "retry_after"),
    [
        (faults.overloaded(), 1),
        (faults.overloaded(0.5), 0.5),
        (faults.overloaded(None), None),
        (faults.overloaded_in_stream(), None),
        (faults.overloaded_in_stream(chat=True), None),
    ],
)
async def test_overload_has_three_forms(
    variant: Variant, clients: Clients, answer: Response, retry_after: float | None
) -> None:
    with ScriptedServer(answer) as server:
        client = clients(server.url, retry=None)
        for ask in (variant.open, variant.open_chat):
            with pytest.raises(OverloadedError, match="Model is overloaded") as caught:
                await ask(client)
            assert (caught.value.status_code, caught.value.retry_after) == (429, retry_after)


async def test_refusals_are_followed_by_the_answer(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(
        faults.overloaded(0), faults.overloaded_in_stream(), faults.empty(), Response(EVENTS)
    ) as server:
        stream = await variant.open(clients(server.url, retry=RetryPolicy(4, max_wait=0.01)))
        assert await variant.rest(stream) == TEXTS
        assert len(server.requests) == len(stream.attempts) == 4


async def test_a_page_and_nothing_are_no_answers(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(faults.html(), faults.empty()) as server:
        client = clients(server.url, retry=None)
        with pytest.raises(UnexpectedResponseError, match="Sign in"):
            await variant.open(client)
        with pytest.raises(IncompleteStreamError):
            await variant.open(client)


def test_no_chunk_has_a_whole_character_of_several_bytes() -> None:
    body = list(faults.split_utf8(EVENTS).body)
    assert b"".join(piece for piece in body if isinstance(piece, bytes)) == b"".join(EVENTS)
    for piece in body:
        assert isinstance(piece, bytes)
        assert piece.decode("utf-8", "ignore").isascii()
    with pytest.raises(ValueError, match="nothing to split"):
        faults.split_utf8([b"data: plain\n\n"])


# The recorder --------------------------------------------------------------------------------------------------------


async def test_a_recording_says_what_was_said_when(variant: Variant, clients: Clients, tmp_path: Path) -> None:
    steps: list[Step] = [EVENTS[0], 0.1, EVENTS[1] + EVENTS[2], 0.1, EVENTS[3]]
    answer = Response(steps, headers={"X-Request-Id": "r1", "Set-Cookie": "secret=1"}, delay=0.1)
    with ScriptedServer(answer) as server, Recorder(server.url) as recorder:
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
    assert [at > due for at, due in zip(times, [0.09, 0.09, 0.19, 0.29, 0.29], strict=True)] == [True] * 5
    path = tmp_path / "recording.jsonl"
    recording.save(path)
    assert Recording.load(path) == recording
    assert "secret" not in path.read_text("utf-8")
    assert "Gott" in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("length", "speed", "least"), [(0.3, 1.0, 0.3), (0.3, 2.0, 0.15), (300, None, 0), (300, 1000, 0.3)]
)
async def test_a_recording_is_played_at_any_speed(
    variant: Variant, clients: Clients, length: float, speed: float | None, least: float
) -> None:
    chunks = [Chunk(length * (0.3 + 0.2 * number), event) for number, event in enumerate(EVENTS)]
    headers = {"content-type": "text/event-stream", "x-request-id": "r1"}
    recording = Recording("POST", "/", b"", 200, headers, 0.3 * length, chunks, "complete", length)
    with ScriptedServer(recording.response(speed)) as server:
        client = clients(server.url, timeout=None)
        for _ in range(2):  # it can be played again
            began = time.monotonic()
            stream = await variant.open(client)
            assert await variant.rest(stream) == TEXTS
            assert stream.headers["x-request-id"] == "r1"
            assert least <= time.monotonic() - began < 60


async def test_bytes_that_are_no_text_are_kept(tmp_path: Path) -> None:
    chunks = [Chunk(0.0, bytes(range(256))), Chunk(0.5, "\u2028".encode()), Chunk(0.5, b"")]
    recording = Recording("POST", "/x", b"\xff", 200, {}, 0.0, chunks, "complete", 0.5)
    recording.save(tmp_path / "bytes.jsonl")
    assert Recording.load(tmp_path / "bytes.jsonl") == recording
    lines = (tmp_path / "bytes.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 5
    (tmp_path / "half.jsonl").write_text("\n".join(lines[:-1]), "utf-8")
    with pytest.raises(ValueError, match=r"half\.jsonl is not a complete recording"):
        Recording.load(tmp_path / "half.jsonl")


async def test_a_lost_connection_is_recorded_and_played_as_one(
    variant: Variant, clients: Clients, tmp_path: Path
) -> None:
    with ScriptedServer(faults.drop(EVENTS, after=2)) as server, Recorder(server.url) as recorder:
        for url in (recorder.url, None):
            played = [recording.response(None) for recording in recorder.recordings[:1]]
            with ScriptedServer(*played) as again:
                with pytest.raises(InferenceConnectionError) as caught:
                    await variant.rest(await variant.open(clients(url or again.url, retry=None)))
                assert caught.value.partial_text == "".join(TEXTS[:2])
        assert recorder.recordings[0].ending == "lost"


async def test_who_leaves_the_recorder_leaves_the_server(variant: Variant, clients: Clients) -> None:
    again: list[Step] = [0.02, EVENTS[1]]
    steps = [EVENTS[0], *again * 500, Fault.STALL]
    with ScriptedServer(Response(steps)) as server, Recorder(server.url) as recorder:
        stream = await variant.open(clients(recorder.url))
        assert await variant.next(stream) == TEXTS[0]
        await variant.close(stream)
        assert server.wait_until_running(0)
        assert recorder.recordings[0].ending == "client_closed"


async def test_errors_pass_through_the_recorder(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(faults.overloaded(3)) as server, Recorder(server.url) as recorder:
        with pytest.raises(OverloadedError) as caught:
            await variant.open(clients(recorder.url, retry=None))
        assert caught.value.retry_after == 3
        assert recorder.recordings[0].status == 429
        server.close()
        with pytest.raises(InferenceError, match="cannot reach its server") as gone:
            await variant.open(clients(recorder.url, retry=None))
        assert gone.value.status_code == 502


async def test_a_recording_of_the_reference_backend_plays_like_it(
    variant: Variant, clients: Clients, reference_backend: Any, tmp_path: Path
) -> None:
    with Recorder(reference_backend.url) as recorder:
        live = await variant.rest(await variant.open(clients(recorder.url), max_new_tokens=12, details=True))
        recorder.recordings[0].save(tmp_path / "cheese.jsonl")
    with ScriptedServer(Recording.load(tmp_path / "cheese.jsonl").response(None)) as server:
        assert await variant.rest(await variant.open(clients(server.url), max_new_tokens=12, details=True)) == live
    assert len(live) == 12


# Chaos ---------------------------------------------------------------------------------------------------------------


def test_misfortunes_depend_on_the_seed_and_the_connection_alone() -> None:
    def plan(seed: str) -> list[Any]:
        steps = FaultRates().plan(seed)
        return [next(steps) for _ in range(50)]

    assert plan("1/1/down") == plan("1/1/down")
    assert len({str(plan(seed)) for seed in ("1/1/down", "1/1/up", "1/2/down", "2/1/down")}) == 4


LONG = token_events(*[f" {number}" for number in range(200)])


async def heard(url: str, *, seed: int, chaos: FaultRates) -> tuple[list[bytes], dict[str, int]]:
    """What three connections in a row carry, and what befell them."""
    bodies: list[bytes] = []
    with ChaosProxy(url, seed=seed, rates=chaos) as proxy:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(proxy.url).port)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            body = b""
            try:
                while not body.endswith(b"\r\n0\r\n\r\n") and (data := await asyncio.wait_for(reader.read(65536), 60)):
                    body += data
            except ConnectionResetError:
                pass
            bodies.append(body)
            writer.close()
            await writer.wait_closed()
        return bodies, dict(proxy.fault_counts)


async def test_the_same_seed_is_the_same_chaos() -> None:
    chaos = FaultRates(
        mean_bytes_between=9000, reset=0, stall=0, longest_delay=0.001
    )  # a reset may overtake what was sent before it
    with ScriptedServer(Response(LONG)) as server:
        first, second, other = [await heard(server.url, seed=seed, rates=chaos) for seed in (3, 3, 4)]
    assert first == second
    assert first != other
    assert {body.endswith(b"\r\n0\r\n\r\n") for body in first[0] + other[0]} == {True, False}


async def test_splits_and_delays_change_nothing(variant: Variant, clients: Clients) -> None:
    harmless = FaultRates(mean_bytes_between=20, cut=0, reset=0, stall=0, longest_delay=0.002)
    with ScriptedServer(Response(EVENTS)) as server, ChaosProxy(server.url, rates=harmless) as proxy:
        assert await variant.rest(await variant.open(clients(proxy.url, retry=None))) == TEXTS
        assert proxy.fault_counts["split"] > 5
        assert proxy.fault_counts["delay"] > 2


@pytest.mark.parametrize(
    ("chaos", "kind"),
    [
        (FaultRates(mean_bytes_between=8000, split=0, delay=0, cut=1, reset=0, stall=0), InferenceConnectionError),
        (FaultRates(mean_bytes_between=8000, split=0, delay=0, cut=0, reset=1, stall=0), InferenceConnectionError),
        (FaultRates(mean_bytes_between=8000, split=0, delay=0, cut=0, reset=0, stall=1), InferenceTimeoutError),
    ],
    ids=["cut", "reset", "stall"],
)
async def test_what_breaks_a_stream_is_one_of_three(
    variant: Variant, clients: Clients, chaos: FaultRates, kind: type[InferenceError]
) -> None:
    endless: list[Step] = [*LONG[:-1], *LONG[1:-1] * 20]
    with ScriptedServer(Response(endless)) as server, ChaosProxy(server.url, seed=1, rates=chaos) as proxy:
        with pytest.raises(kind) as caught:
            await variant.rest(await variant.open(clients(proxy.url, timeout=SOON if chaos.stall else 60)))
        expected = "".join(f" {number}" for number in range(199))
        assert (caught.value.partial_text or "")[: len(expected)] == expected[: len(caught.value.partial_text or "")]
        assert server.wait_until_running(0)


def test_a_proxy_of_nothing_closes_its_connections() -> None:
    with ScriptedServer() as server:
        nowhere = server.url
    with ChaosProxy(nowhere) as proxy, pytest.raises(httpx.TransportError):
        httpx.get(proxy.url)
    ChaosProxy(nowhere).close()  # never started


# The plugin ----------------------------------------------------------------------------------------------------------


def run_pytest(directory: Path, test: str, *options: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
    """A run of pytest such as a user's, with nothing of this suite."""
    (directory / "test_mine.py").write_text(textwrap.dedent(test), "utf-8")
    code = f"import sys, pytest\n{prelude}\nsys.exit(pytest.main(sys.argv[1:]))"
    command = [
        sys.executable,
        "-c",
        code,
        "-q",
        "-W",
        "error",
        "-p",
        "no:asyncio",
        "--rootdir",
        str(directory),
        "-c",
        "/dev/null",
        *options,
    ]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def test_the_fixtures_are_found_by_themselves(tmp_path: Path) -> None:
    done = run_pytest(
        tmp_path,
        """
        import sys
        from hfstream import InferenceClient
        from hfstream.testing import Response, token_events

        def test_light():
            heavy = ("torch", "transformers", "starlette", "uvicorn", "hfstream.server")
            assert not [name for name in heavy if name in sys.modules]

        def test_two_servers(scripted_server):
            one, two = (scripted_server(Response(token_events(text))) for text in "ab")
            assert InferenceClient(one.url).text_generation("Hi", stream=True).final() == "a"
            assert InferenceClient(two.url).text_generation("Hi", stream=True).final() == "b"
        """,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_backend_has_the_users_settings(tmp_path: Path) -> None:
    done = run_pytest(
        tmp_path,
        """
        import pytest
        from hfstream.server import Settings

        @pytest.fixture(scope="session")
        def reference_settings():
            return Settings(model="/nowhere")

        def test_it(reference_backend):
            pass
        """,
    )
    assert "StartError: there is no model in /nowhere" in done.stdout, done.stdout + done.stderr


def test_without_the_servers_libraries_its_tests_are_skipped(tmp_path: Path) -> None:
    hide = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else find_spec(name, *more)
"""
    test = "def test_it(reference_backend): pass\ndef test_other(scripted_server): pass"
    done = run_pytest(tmp_path, test, "-rs", prelude=hide)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    assert 'hfstream.server needs torch: pip install "hfstream[server]"' in done.stdout
