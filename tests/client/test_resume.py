"""Streams that lose their connections on the way to a server, and go on. On both faces."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, cast

import anyio
import httpx
import pytest
import tenacity

from hfstream import (
    AsyncInferenceClient,
    IncompleteStreamError,
    InferenceClient,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    OverloadedError,
    RetryPolicy,
    TextGenerationParameters,
    Timeouts,
    Token,
)
from hfstream.server import BackgroundServer, Settings
from hfstream.testing import (
    ChaosProxy,
    Fault,
    FaultRates,
    Request,
    Response,
    ScriptedServer,
    chat_event,
    final_event,
    token_event,
    token_events,
)
from hfstream.types._base import APIModel
from tests.helpers.comparing import assert_alike
from tests.helpers.shared_engine import SharedEngine
from tests.helpers.variants import HI, Clients, Variant

pytestmark = pytest.mark.slow

AT_ONCE = RetryPolicy(stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_fixed(0.001))
PROMPT = "How do you make cheese?"
LENGTH = 16


class Wire:
    """A way to a server on which connections are lost: after so many bytes of what comes back, one number for each.

    When the numbers are used up, the rest go through whole.
    """

    def __init__(self, target: str, *cuts: int, how: str = "close") -> None:
        url = httpx.URL(target)
        self.cuts = list(cuts)
        self._target = (url.host, url.port or 80)
        self._how = how
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.lost = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for one in (self._listener, *self._sockets):
            _end(one)
        for thread in self._threads:
            thread.join(60)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                cut = self.cuts.pop(0) if self.cuts else None
                for work in (lambda a=near, b=far: self._up(a, b), lambda a=far, b=near, c=cut: self._down(a, b, c)):
                    self._threads.append(threading.Thread(target=work, daemon=True))
                    self._threads[-1].start()

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := near.recv(65536):
                far.sendall(piece)
        _end(far)

    def _down(self, far: socket.socket, near: socket.socket, cut: int | None) -> None:
        left = cut
        with contextlib.suppress(OSError):
            while piece := far.recv(65536 if left is None else max(1, min(65536, left))):
                if left is not None:
                    piece, left = piece[:left], left - len(piece)
                near.sendall(piece)
                if left is not None and left <= 0:
                    self.lost += 1
                    if self._how == "stall":
                        return
                    if self._how == "reset":
                        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        near.shutdown(socket.SHUT_RD)  # who still reads from it would keep it open
                        near.close()
                    break
        _end(near)
        _end(far)


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


@pytest.fixture(scope="module")
def cheese(shared_engine: SharedEngine) -> Iterator[str]:
    """The reference backend, and its little model."""
    with BackgroundServer(Settings(resume_grace=4.0), engine=shared_engine.connect()) as server:
        yield server.url


@pytest.fixture(scope="module")
def slow_server(shared_engine: SharedEngine) -> Iterator[Any]:
    """The reference backend at a walk, with one permit."""
    with BackgroundServer(
        Settings(max_concurrent_requests=1, tokens_per_second=50, resume_grace=30.0), engine=shared_engine.connect()
    ) as server:
        yield server


@pytest.fixture(scope="module")
def short_grace_server(shared_engine: SharedEngine) -> Iterator[Any]:
    """The same with hardly any grace."""
    with BackgroundServer(
        Settings(max_concurrent_requests=1, tokens_per_second=50, resume_grace=0.3), engine=shared_engine.connect()
    ) as server:
        yield server


@pytest.fixture
def slow(slow_server: Any) -> Any:
    """The same once its permit is free: another test's stream may have had it."""
    until_free(slow_server.url)
    return slow_server


@pytest.fixture
def short_grace(short_grace_server: Any) -> Any:
    until_free(short_grace_server.url)
    return short_grace_server


def until_free(url: str) -> None:
    end = time.monotonic() + 60
    while permits(url):
        assert time.monotonic() < end
        time.sleep(0.02)


def permits(url: str) -> int:
    text = httpx.get(url + "/metrics", timeout=60).text
    return int(next(line for line in text.splitlines() if line.startswith("hfstream_permits_taken ")).split()[-1])


async def eventually(check: Callable[[], bool], within: float = 60.0) -> bool:
    end = time.monotonic() + within
    while not await asyncio.to_thread(check):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.01)
    return True


# --- From the last event, at the reference backend --------------------------------------------------------------------

TASKS: dict[str, dict[str, Any]] = {
    "text": {"max_new_tokens": LENGTH},
    "details": {"max_new_tokens": LENGTH, "details": True, "top_n_tokens": 2},
    "sampled": {"max_new_tokens": LENGTH, "details": True, "temperature": 0.9, "top_p": 0.95, "seed": 7},
    "chat": {
        "max_tokens": LENGTH,
        "logprobs": True,
        "top_logprobs": 2,
        "seed": 7,
        "stream_options": {"include_usage": True},
    },
    "completions": {"max_new_tokens": LENGTH, "details": True, "seed": 7},
}
EACH_TASK = pytest.mark.parametrize("task", TASKS)


async def start(variant: Variant, client: Any, task: str, url: str) -> Any:
    if task == "chat":
        return await variant.open_chat(client, HI, **TASKS[task])
    model = {"model": url + "/v1/completions"} if task == "completions" else {}
    return await variant.open(client, PROMPT, **TASKS[task], **model)


def plain(value: Any) -> Any:
    """Without what differs from one answer to the next: names and times."""
    if isinstance(value, APIModel):
        return {
            name: plain(field)
            for name, field in value.items()
            if name not in ("id", "created") or isinstance(value, Token)
        }
    if isinstance(value, list):
        return [plain(item) for item in cast("list[Any]", value)]
    return value


async def whole(variant: Variant, client: Any, task: str, url: str) -> tuple[list[Any], Any, Any]:
    stream = await start(variant, client, task, url)
    items = [plain(item) for item in await variant.rest(stream)]
    return items, plain(await variant.final(stream)), stream


@EACH_TASK
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("cut", [700, 1000, 1900])
async def test_every_token_comes_once_however_often_the_connection_is_lost(
    variant: Variant, clients: Clients, cheese: str, task: str, how: str, cut: int
) -> None:
    items, final, undisturbed = await whole(variant, clients(cheese), task, cheese)
    assert undisturbed.metrics.resumed == 0
    with Wire(cheese, *[cut] * 3, how=how) as wire:
        client = clients(wire.url, resume=True, retry=AT_ONCE)
        received, ended, stream = await whole(variant, client, task, wire.url)
        assert_alike((received, ended), (items, final))
        assert wire.lost >= 1
        assert stream.metrics.tokens == undisturbed.metrics.tokens
        assert stream.metrics.resumed + sum(not attempt.error for attempt in stream.attempts) >= 1
        assert stream.metrics.continued == 0
        assert stream.usage == undisturbed.usage
        await variant.close(client)


@EACH_TASK
async def test_a_cut_anywhere(variant: Variant, clients: Clients, cheese: str, task: str) -> None:
    items, final, _ = await whole(variant, clients(cheese), task, cheese)
    resumed = 0
    for cut in range(0, 4000, 331):
        with Wire(cheese, cut) as wire:
            client = clients(wire.url, resume=True, retry=AT_ONCE)
            received, ended, stream = await whole(variant, client, task, wire.url)
            assert_alike((received, ended), (items, final))
            resumed += stream.metrics.resumed
            await variant.close(client)
    assert resumed >= 3


async def test_a_silence_between_tokens_is_a_loss(variant: Variant, clients: Clients, cheese: str) -> None:
    items, final, _ = await whole(variant, clients(cheese), "details", cheese)
    with Wire(cheese, 1500, 1500, how="stall") as wire:
        policy = Timeouts(first_token=60, between_tokens=1.0)
        client = clients(wire.url, resume=True, retry=AT_ONCE, timeout=policy)
        received, ended, stream = await whole(variant, client, "details", wire.url)
        assert_alike((received, ended), (items, final))
        assert [item["index"] for item in received] == list(range(1, len(received) + 1))
        assert stream.metrics.resumed >= 1
        failures = [attempt.error for attempt in stream.attempts if attempt.error]
        assert all(isinstance(error, InferenceTimeoutError) for error in failures)
        await variant.close(client)


async def test_with_no_retries_a_stream_goes_on_all_the_same(variant: Variant, clients: Clients, cheese: str) -> None:
    with Wire(cheese, 1500, 1500) as wire:
        client = clients(wire.url, resume=True, retry=None)
        _, _, stream = await whole(variant, client, "details", wire.url)
        assert stream.metrics.resumed >= 1
        await variant.close(client)


async def test_a_client_of_ones_own_goes_on_too(variant: Variant, clients: Clients, cheese: str) -> None:
    items, final, _ = await whole(variant, clients(cheese), "sampled", cheese)
    own: Any = (httpx.Client if variant.name == "sync" else httpx.AsyncClient)()
    with Wire(cheese, 1500, 1500) as wire:
        client = clients(wire.url, resume=True, retry=AT_ONCE, http_client=own)
        received, ended, stream = await whole(variant, client, "sampled", wire.url)
        assert_alike((received, ended), (items, final))
        assert stream.metrics.resumed >= 1
        await asyncio.to_thread(own.close) if variant.name == "sync" else await own.aclose()


@EACH_TASK
async def test_without_resume_a_lost_connection_is_an_error(
    variant: Variant, clients: Clients, cheese: str, task: str
) -> None:
    with Wire(cheese, 1500) as wire:
        client = clients(wire.url, retry=AT_ONCE)
        stream = await start(variant, client, task, wire.url)
        with pytest.raises(InferenceConnectionError) as caught:
            await variant.rest(stream)
        assert caught.value.partial_text == stream.text != ""
        assert len(stream.attempts) == 1
        assert stream.metrics.resumed == 0
        await variant.close(client)


async def test_many_streams_are_lost_together_and_go_on(variant: Variant, clients: Clients, cheese: str) -> None:
    items, _, _ = await whole(variant, clients(cheese), "sampled", cheese)
    with Wire(cheese, *[1400] * 8) as wire:
        client = clients(wire.url, resume=True, retry=AT_ONCE)
        found = await asyncio.gather(*(whole(variant, client, "sampled", wire.url) for _ in range(8)))
        assert_alike([received for received, _, _ in found], [items] * 8)
        await variant.close(client)


def test_what_was_lost_before_it_spoke_is_given_up_after_the_grace(cheese: str) -> None:
    until_free(cheese)


# --- Ends before the end ---------------------------------------------------------------------------------------------

LONG: TextGenerationParameters = {"max_new_tokens": 100}


async def test_close_gives_the_permit_back_at_once(variant: Variant, clients: Clients, slow: Any) -> None:
    client = clients(slow.url, resume=True)
    for _ in range(2):  # the second one needs the permit, and the grace is half a minute
        stream = await variant.open(client, PROMPT, **LONG)
        await variant.next(stream)
        await variant.close(stream)
        await variant.close(stream)
        assert await eventually(lambda: permits(slow.url) == 0)
        assert await variant.rest(stream) == []


async def test_close_while_it_is_being_read_gives_the_permit_back(
    variant: Variant, clients: Clients, slow: Any
) -> None:
    stream = await variant.open(clients(slow.url, resume=True), PROMPT, **LONG)
    reader = asyncio.create_task(variant.rest(stream))
    assert await eventually(lambda: stream.metrics.tokens > 2)
    await variant.close(stream)
    await asyncio.wait_for(reader, 60)
    assert await eventually(lambda: permits(slow.url) == 0)


async def test_close_while_it_waits_to_come_back_gives_the_permit_back(
    variant: Variant, clients: Clients, slow: Any
) -> None:
    with Wire(slow.url, 1000) as wire:
        long_wait = RetryPolicy(wait=tenacity.wait_fixed(60), max_wait=60)
        stream = await variant.open(clients(wire.url, resume=True, retry=long_wait), PROMPT, **LONG)
        reader = asyncio.create_task(variant.rest(stream))
        assert await eventually(lambda: bool(stream.attempts[0].error))
        assert permits(slow.url) == 1
        await variant.close(stream)
        await asyncio.wait_for(reader, 60)
        assert await eventually(lambda: permits(slow.url) == 0)


async def test_a_stream_that_is_read_out_is_not_taken_leave_of(variant: Variant, clients: Clients) -> None:
    events = [b"id: s:%d\n%b" % (at, event) for at, event in enumerate(token_events("a", "b"), 1)]
    with ScriptedServer(Response(events)) as server:
        stream = await variant.open(clients(server.url, resume=True))
        await variant.rest(stream)
        await variant.close(stream)
        assert [request.method for request in server.requests] == ["POST"]


async def test_a_server_that_has_gone_does_not_keep_close_waiting(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([b"id: s:1\n" + token_event(1, "a"), Fault.STALL])) as server:
        stream = await variant.open(clients(server.url, resume=True))
        server.responses[:] = [Response([Fault.STALL])]
        started = time.monotonic()
        await variant.close(stream)
        assert time.monotonic() - started < 60
        assert server.wait_until_running(0)
        assert [request.method for request in server.requests] == ["POST", "DELETE"]
        assert server.requests[1].headers["last-event-id"] == "s:1"


async def test_without_resume_closing_says_nothing(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([b"id: s:1\n" + token_event(1, "a"), Fault.STALL])) as server:
        stream = await variant.open(clients(server.url))
        await variant.close(stream)
        assert server.wait_until_running(0)
        assert [request.method for request in server.requests] == ["POST"]
        assert "prefer" not in server.requests[0].headers


def test_a_with_block_that_is_left_early_gives_the_permit_back(slow: Any) -> None:
    with InferenceClient(slow.url, resume=True) as client:
        for _ in range(2):
            with client.text_generation(PROMPT, stream=True, **LONG) as stream:
                for _ in stream:
                    break
        assert permits(slow.url) <= 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_with_block_that_is_left_early_gives_the_permit_back(slow: Any, backend: str) -> None:
    async def main() -> None:
        async with AsyncInferenceClient(slow.url, resume=True) as client:
            for _ in range(2):
                async with client.text_generation(PROMPT, stream=True, **LONG) as stream:
                    async for _ in stream:
                        break

    anyio.run(main, backend=backend)


async def _cancel(client: AsyncInferenceClient) -> None:
    stream = await client.text_generation(PROMPT, stream=True, **LONG)
    with anyio.move_on_after(0.1):
        async for _ in stream:
            pass


async def _forget(client: AsyncInferenceClient) -> None:
    async for _ in client.text_generation(PROMPT, stream=True, **LONG):
        break
    gc.collect()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("leave", [_cancel, _forget])
def test_after_cancelling_and_forgetting_the_grace_gives_the_permit_back(
    short_grace: Any, backend: str, leave: Any
) -> None:
    async def main() -> None:
        async with AsyncInferenceClient(short_grace.url, resume=True) as client:
            await leave(client)
            gc.collect()
            with anyio.fail_after(60):
                while await anyio.to_thread.run_sync(permits, short_grace.url):
                    await anyio.sleep(0.02)

    anyio.run(main, backend=backend)


def test_a_forgotten_plain_stream_gives_the_permit_back(short_grace: Any) -> None:
    with InferenceClient(short_grace.url, resume=True) as client:
        for _ in client.text_generation(PROMPT, stream=True, **LONG):
            break
        gc.collect()
        until_free(short_grace.url)


async def test_who_comes_back_too_late_is_told_why(variant: Variant, clients: Clients, short_grace: Any) -> None:
    with Wire(short_grace.url, 1000) as wire:
        late = RetryPolicy(wait=tenacity.wait_fixed(2))
        stream = await variant.open(clients(wire.url, resume=True, retry=late), PROMPT, **LONG, temperature=0.5, seed=1)
        with pytest.raises(IncompleteStreamError, match="no such stream, or not any more") as caught:
            await variant.rest(stream)
        assert "cannot resume" in caught.value.message
        assert "it is sampled" in caught.value.message
        assert caught.value.partial_text == stream.text != ""
        assert [attempt.status_code for attempt in stream.attempts] == [200, 404]


# --- From the text so far, at the reference backend whose events are gone ---------------------------------------------


@pytest.fixture(scope="module")
def forgetful(shared_engine: SharedEngine) -> Iterator[str]:
    """The reference backend, which keeps a stream for less time than a client takes to come back."""
    with BackgroundServer(Settings(resume_grace=0.001), engine=shared_engine.connect()) as server:
        yield server.url


LATE = RetryPolicy(stop=tenacity.stop_after_attempt(30), wait=tenacity.wait_fixed(0.05))
SOUND = pytest.mark.parametrize("details", [True, False], ids=["details", "text"])


@SOUND
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_greedy_answer_whose_events_are_gone_is_the_undisturbed_one(
    variant: Variant, clients: Clients, forgetful: str, details: bool, how: str
) -> None:
    options: dict[str, Any] = {"max_new_tokens": 60, "details": details}
    undisturbed = await variant.open(clients(forgetful), PROMPT, **options)
    items, final = await variant.rest(undisturbed), await variant.final(undisturbed)
    with Wire(forgetful, 2000, 6000, 6000, how=how) as wire:
        client = clients(wire.url, resume=True, retry=LATE)
        stream = await variant.open(client, PROMPT, **options)
        assert_alike(
            (plain(await variant.rest(stream)), plain(await variant.final(stream))), (plain(items), plain(final))
        )
        assert wire.lost >= 2
        assert stream.metrics.resumed == stream.metrics.continued >= 1
        assert stream.metrics.tokens == undisturbed.metrics.tokens
        assert stream.usage == undisturbed.usage
        assert stream.finish_reason == undisturbed.finish_reason
        statuses = [attempt.status_code for attempt in stream.attempts]
        assert statuses[:5] == [200, 404, 200, 200, 200]
        await variant.close(client)


@SOUND
async def test_greedy_answers_through_a_bad_network_are_the_undisturbed_ones(
    variant: Variant, clients: Clients, forgetful: str, details: bool
) -> None:
    options: dict[str, Any] = {"max_new_tokens": 40, "details": details}
    continued = 0
    for prompt in (PROMPT, "What is Deep Learning?"):
        undisturbed = await variant.open(clients(forgetful), prompt, **options)
        items, final = plain(await variant.rest(undisturbed)), plain(await variant.final(undisturbed))
        for seed in range(4):
            rates = FaultRates(mean_bytes_between=1500, stall=0, cut=4, reset=0)
            with ChaosProxy(forgetful, seed=seed, rates=rates) as proxy:
                client = clients(proxy.url, resume=True, retry=LATE)
                stream = await variant.open(client, prompt, **options)
                received = plain(await variant.rest(stream)), plain(await variant.final(stream))
                assert_alike(received, (items, final))
                assert stream.metrics.tokens == undisturbed.metrics.tokens
                assert stream.usage == undisturbed.usage
                continued += stream.metrics.continued
                await variant.close(client)
    assert continued >= 3


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 60, "temperature": 0.9, "seed": 7},
        {"do_sample": True, "max_new_tokens": 60},
        {"stop": ["@@"]},
    ],
    ids=["sampled", "do_sample", "no budget"],
)
async def test_an_answer_that_might_differ_ends_where_its_events_are_gone(
    variant: Variant, clients: Clients, forgetful: str, options: dict[str, Any]
) -> None:
    with Wire(forgetful, 2000) as wire:
        stream = await variant.open(clients(wire.url, resume=True, retry=LATE), PROMPT, **options)
        with pytest.raises(IncompleteStreamError, match=r"no such stream.*nor can a new request continue it") as caught:
            await variant.rest(stream)
        assert caught.value.partial_text == stream.text != ""
        assert [attempt.status_code for attempt in stream.attempts] == [200, 404]
        assert (stream.metrics.resumed, stream.metrics.continued) == (0, 0)


async def test_a_chat_ends_where_its_events_are_gone(variant: Variant, clients: Clients, forgetful: str) -> None:
    with Wire(forgetful, 2000) as wire:
        stream = await variant.open_chat(clients(wire.url, resume=True, retry=LATE), HI, max_tokens=60, temperature=0)
        with pytest.raises(IncompleteStreamError, match=r"no such stream.*not TGI's text generation") as caught:
            await variant.rest(stream)
        assert caught.value.partial_text == stream.text != ""
        assert [attempt.status_code for attempt in stream.attempts] == [200, 404]


# --- From the text so far, at a plain TGI -----------------------------------------------------------------------------

WORDS = ["Milk", " and", " salt", ",", " and", " time"]


class PlainTGI:
    """Says `WORDS` after whatever prompt, as far as they are not in it yet; it numbers no events and keeps nothing."""

    def __init__(self, *cuts: int, tokenize: Callable[[list[int]], list[int] | Response] = lambda found: found) -> None:
        self._cuts = list(cuts)
        self._tokenize = tokenize

    def __call__(self, request: Request) -> Response:
        inputs: str = request.json()["inputs"]
        count = next(n for n in range(len(WORDS), -1, -1) if inputs.endswith("".join(WORDS[:n])))
        if request.path == "/tokenize":
            found = self._tokenize([1, 2, *(100 + n for n in range(1, count + 1))])
            if isinstance(found, Response):
                return found
            return Response.json([{"id": token, "text": "x", "start": 0, "stop": 1} for token in found])
        budget = request.json()["parameters"]["max_new_tokens"]
        texts = WORDS[count : count + budget]
        events = [_event(at, 100 + count + at, text) for at, text in enumerate(texts, 1)]
        whole = "".join(texts) if not request.json()["parameters"].get("return_full_text") else inputs + "".join(texts)
        last = {"finish_reason": "length", "generated_tokens": len(texts), "seed": None, "input_length": 2 + count}
        events[-1] = _event(len(texts), 100 + count + len(texts), texts[-1], whole, last)
        cut = self._cuts.pop(0) if self._cuts else len(events)
        return Response([*events[:cut], *([Fault.DROP] if cut < len(events) else [])])


def _event(index: int, token: int, text: str, whole: str | None = None, details: Any = None) -> bytes:
    fields = {"id": token, "text": text, "logprob": -0.5, "special": False}
    event = {"index": index, "token": fields, "generated_text": whole, "details": details}
    return b"data: %b\n\n" % json.dumps(event).encode()


@pytest.mark.parametrize("details", [True, False])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("cuts", [(1,), (3,), (5,), (2, 1, 1), (1, 1, 1, 1, 1)])
async def test_at_a_plain_TGI_the_answer_goes_on_from_its_text(
    variant: Variant, clients: Clients, cuts: tuple[int, ...], full: bool, details: bool
) -> None:
    options: dict[str, Any] = {"max_new_tokens": len(WORDS), "details": details, "return_full_text": full}
    with ScriptedServer(PlainTGI()) as server:
        undisturbed = await variant.open(clients(server.url), "Hi", **options)
        items, final = await variant.rest(undisturbed), await variant.final(undisturbed)
    with ScriptedServer(PlainTGI(*cuts)) as server:
        stream = await variant.open(clients(server.url, resume=True, retry=AT_ONCE), "Hi", **options)
        assert await variant.rest(stream) == items
        assert await variant.final(stream) == final
        assert stream.usage == undisturbed.usage
        assert stream.metrics.tokens == len(WORDS)
        assert (stream.metrics.resumed, stream.metrics.continued) == (len(cuts), len(cuts))
        assert [request.path for request in server.requests[1:4]] == ["/tokenize", "/tokenize", "/generate_stream"]
        assert len(server.requests) == len(stream.attempts) == 1 + 3 * len(cuts)


@pytest.mark.parametrize("answer", [Response.error(404, "not here"), Response.json({"a": 1})])
async def test_a_TGI_that_cannot_be_asked(variant: Variant, clients: Clients, answer: Response) -> None:
    with ScriptedServer(PlainTGI(2, tokenize=lambda _: answer)) as server:
        stream = await variant.open(clients(server.url, resume=True, retry=AT_ONCE), "Hi", max_new_tokens=6)
        with pytest.raises(IncompleteStreamError, match="cannot resume") as caught:
            await variant.rest(stream)
        assert caught.value.partial_text == "Milk and"
        assert len(server.requests) == 2


async def test_a_TGI_that_reads_otherwise(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(PlainTGI(2, tokenize=lambda found: found[::-1])) as server:
        stream = await variant.open(clients(server.url, resume=True, retry=AT_ONCE), "Hi", max_new_tokens=6)
        with pytest.raises(IncompleteStreamError, match="differently") as caught:
            await variant.rest(stream)
        assert caught.value.partial_text == "Milk and"
        assert len(server.requests) == 3


async def test_a_question_that_is_lost_is_asked_again(variant: Variant, clients: Clients) -> None:
    times = iter(range(100))

    def tokenize(found: list[int]) -> list[int] | Response:
        return Response([Fault.RESET], content_type="application/json") if next(times) % 2 == 0 else found

    with ScriptedServer(PlainTGI(2, tokenize=tokenize)) as server:
        stream = await variant.open(clients(server.url, resume=True, retry=AT_ONCE), "Hi", max_new_tokens=6)
        assert await variant.final(stream) == stream.text == "".join(WORDS)
        assert [request.path for request in server.requests[1:-1]] == ["/tokenize"] * 4


@pytest.mark.parametrize(
    "options", [{}, {"max_new_tokens": 6, "temperature": 0.5}, {"max_new_tokens": 6, "stop": [" andy"]}]
)
async def test_where_it_might_go_on_otherwise_the_loss_is_the_error(
    variant: Variant, clients: Clients, options: dict[str, Any]
) -> None:
    with ScriptedServer(Response([token_event(1, "Milk"), token_event(2, " and"), Fault.DROP])) as server:
        stream = await variant.open(clients(server.url, resume=True, retry=AT_ONCE), "Hi", **options)
        with pytest.raises(IncompleteStreamError, match="cannot resume") as caught:
            await variant.rest(stream)
        assert caught.value.partial_text == "Milk and"
        assert len(server.requests) == 1


async def test_a_chat_at_a_plain_server_cannot_go_on(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([chat_event("Half"), Fault.DROP])) as server:
        stream = await variant.open_chat(clients(server.url, resume=True, retry=AT_ONCE))
        with pytest.raises(IncompleteStreamError, match="sends no event ids") as caught:
            await variant.rest(stream)
        assert caught.value.partial_text == "Half"
        assert len(server.requests) == 1


# --- Numbered, and then ----------------------------------------------------------------------------------------------

FIRST = b"id: s:1\n" + token_event(1, "a")
SECOND = b"id: s:2\n" + final_event(2, "b", "ab")


async def test_overload_on_the_way_back_is_waited_out(variant: Variant, clients: Clients) -> None:
    attempts_seen: list[int] = []
    policy = RetryPolicy(
        attempts=3,
        wait=tenacity.wait_fixed(0.01),
        before_sleep=lambda state: attempts_seen.append(state.attempt_number),
    )
    busy = Response.error(429, "Model is overloaded", "overloaded", Retry_After="0")
    with ScriptedServer(Response([FIRST, Fault.DROP]), busy, Response([SECOND])) as server:
        stream = await variant.open(clients(server.url, resume=True, retry=policy))
        assert await variant.final(stream) == "ab"
        assert [request.headers.get("last-event-id") for request in server.requests] == [None, "s:1", "s:1"]
        assert len({request.body for request in server.requests}) == 1
        assert attempts_seen == [1, 2]
        assert [attempt.status_code for attempt in stream.attempts] == [200, 429, 200]
        assert isinstance(stream.attempts[1].error, OverloadedError)


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize(
    ("end", "kind"),
    [(Fault.DROP, InferenceConnectionError), (Fault.RESET, InferenceConnectionError), (b"", IncompleteStreamError)],
)
async def test_a_stream_that_is_gone_is_the_error_that_lost_it(
    variant: Variant, clients: Clients, end: Any, kind: type[InferenceError], status: int
) -> None:
    # What a reset overtakes is lost to the client: a moment lets the event through.
    with ScriptedServer(Response([FIRST, 0.1, end]), Response.error(status, "no such stream")) as server:
        stream = await variant.open(clients(server.url, resume=True, retry=AT_ONCE))
        with pytest.raises(IncompleteStreamError, match=r"cannot resume: .*no such stream") as caught:
            await variant.rest(stream)
        assert type(caught.value.__cause__) is kind
        assert caught.value.partial_text == "a"
        assert len(server.requests) == 2
        with pytest.raises(IncompleteStreamError, match="ended in an error"):
            await variant.rest(stream)


async def test_the_total_spans_the_way_back(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([FIRST, Fault.DROP]), Response([Fault.STALL])) as server:
        stream = await variant.open(clients(server.url, resume=True, retry=AT_ONCE, timeout=Timeouts(total=0.8)))
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError, match=r"Timeouts\.total") as caught:
            await variant.rest(stream)
        assert time.monotonic() - started < 60
        assert caught.value.phase == "total"
        assert caught.value.partial_text == "a"
        assert server.wait_until_running(0)


async def test_a_hook_that_raises_ends_the_stream(variant: Variant, clients: Clients) -> None:
    def hook(state: Any) -> None:
        raise LookupError("hook")

    with ScriptedServer(Response([FIRST, Fault.DROP]), Response([SECOND])) as server:
        stream = await variant.open(clients(server.url, resume=True, retry=RetryPolicy(before_sleep=hook)))
        assert await variant.next(stream) == "a"
        with pytest.raises(LookupError, match="hook"):
            await variant.next(stream)
        with pytest.raises(IncompleteStreamError, match="ended in an error"):
            await variant.rest(stream)
        assert [request.method for request in server.requests] == ["POST"]
        with pytest.raises(IncompleteStreamError):
            await variant.final(stream)


async def test_closing_the_client_ends_a_wait_to_come_back(variant: Variant, clients: Clients) -> None:
    long_wait = RetryPolicy(wait=tenacity.wait_fixed(60))
    with ScriptedServer(Response([FIRST, Fault.DROP])) as server:
        client = clients(server.url, resume=True, retry=long_wait)
        stream = await variant.open(client)
        reader = asyncio.create_task(variant.rest(stream))
        assert await eventually(lambda: bool(stream.attempts[0].error))
        await variant.close(client)
        assert await asyncio.wait_for(reader, 60) == ["a"]
        assert len(server.requests) == 1
