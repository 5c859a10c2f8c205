"""What stands before a body: statuses, content types, content codings, and how long a server asks to wait."""

from __future__ import annotations

import gzip
import itertools
import json
import time
import zlib
from collections.abc import Callable, Iterator

import pytest

from hfstream import (
    AuthenticationError,
    BadRequestError,
    InferenceError,
    OverloadedError,
    RetryPolicy,
    UnexpectedResponseError,
)
from hfstream.testing import Fault, Response, ScriptedServer, Step
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import AGAIN, SOON, WORDS, Task, until

UNKNOWN_CODING = row(
    "Heads and codings",
    "an event stream with `Content-Encoding: none`, `UTF-8` or another name that is no coding",
    "read (openai, huggingface_hub)",
    "read; a coding that cannot be undone, such as `br`, is an error that says so",
)


@UNKNOWN_CODING
@pytest.mark.parametrize("coding", ["none", "UTF-8", "identity, x", "utf-8, none", "chunked", "text/event-stream", ""])
async def test_a_name_that_is_no_coding_is_passed_over(
    variant: Variant, clients: Clients, task: Task, coding: str
) -> None:
    with ScriptedServer(Response(task.whole(*WORDS), headers={"Content-Encoding": coding})) as server:
        stream = await task.open(variant, clients(server.url))
        assert task.texts(await variant.rest(stream)) == WORDS


@UNKNOWN_CODING
@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br"])
async def test_a_coding_that_cannot_be_undone_is_told(
    variant: Variant, clients: Clients, task: Task, coding: str
) -> None:
    with ScriptedServer(Response([b"\x0b\x00\x80x\x03"], headers={"Content-Encoding": coding})) as server:
        client = clients(server.url)
        for ask in (task.open, task.ask):
            with pytest.raises(UnexpectedResponseError, match="Accept-Encoding: identity"):
                await ask(variant, client)
        assert len(server.requests) == 2  # not retried


STATUS_FIRST = row(
    "Heads and codings",
    "an error status whose body cannot be read: `Content-Encoding: br`, garbage, a lost connection",
    "a decoding error in place of the status; not retried",
    "the status decides: its error class, retried where that status is",
)
UNREADABLE: dict[str, tuple[dict[str, str], list[Step]]] = {
    "br": ({"Content-Encoding": "br"}, [b"\x0b\x00\x80x\x03"]),
    "zstd": ({"Content-Encoding": "zstd"}, [b"\x28\xb5\x2f\xfd"]),
    "no gzip": ({"Content-Encoding": "gzip"}, [b"\x1f\x8bno"]),
    "half": ({}, [b'{"error":', Fault.DROP]),
    "reset": ({}, [b'{"error":', Fault.RESET]),
}


@STATUS_FIRST
@pytest.mark.parametrize(("headers", "body"), UNREADABLE.values(), ids=UNREADABLE)
async def test_a_status_decides_before_its_body(
    variant: Variant, clients: Clients, task: Task, headers: dict[str, str], body: list[Step]
) -> None:
    busy, broken, large = (Response(body, status, "text/html", headers) for status in (503, 429, 413))
    with ScriptedServer(
        busy, broken, Response(task.whole(*WORDS)), large, Response(body, 401, None, headers)
    ) as server:
        client = clients(server.url, retry=AGAIN)
        stream = await task.open(variant, client)
        assert task.texts(await variant.rest(stream)) == WORDS
        assert [type(attempt.error) for attempt in stream.attempts[:2]] == [OverloadedError, OverloadedError]
        with pytest.raises(BadRequestError) as caught:
            await task.open(variant, client)
        assert caught.value.status_code == 413
        with pytest.raises(AuthenticationError):
            await task.ask(variant, client)
        assert len(server.requests) == 5


CONTENT_TYPE = row(
    "Heads and codings",
    "an event stream whose content type is another one, two at once, or missing",
    "read (openai), or not looked at",
    "read if the body begins as an event stream; a page or other text is an error that quotes it",
)


@CONTENT_TYPE
@pytest.mark.parametrize(
    "kind",
    [
        "application/json, text/event-stream",
        ("text/event-stream", "text/event-stream; charset=utf-8"),
        ("application/json", "text/event-stream"),
        "text/plain; charset=utf-8",
        "application/octet-stream",
        "application/json",
        "text/html; charset=UTF-8",
        None,
    ],
    ids=["two", "sent twice", "both sent", "plain", "octets", "json", "html", "missing"],
)
@pytest.mark.parametrize("start", [[], [b"\xef\xbb\xbf"], [b": hi\n\n"], [b"\n"]], ids=["", "BOM", "comment", "blank"])
async def test_the_body_decides_whether_it_is_a_stream(
    variant: Variant, clients: Clients, task: Task, kind: str | tuple[str, ...] | None, start: list[Step]
) -> None:
    kinds = (kind,) if isinstance(kind, str) else kind or ()
    headers = [("Content-Type", each) for each in kinds]
    response = Response([*start, *task.whole(*WORDS)], content_type=None, headers=headers)
    with ScriptedServer(response) as server:
        stream = await task.open(variant, clients(server.url))
        assert task.texts(await variant.rest(stream)) == WORDS


@CONTENT_TYPE
@pytest.mark.parametrize("kind", ["text/html", "text/plain", "application/octet-stream", None])
@pytest.mark.parametrize("body", [b"<html>data: x\n\n", b'{"hello": "you"}'], ids=["page", "json"])
async def test_what_is_no_stream_is_quoted(
    variant: Variant, clients: Clients, task: Task, kind: str | None, body: bytes
) -> None:
    with ScriptedServer(Response([body], content_type=kind)) as server:
        with pytest.raises(UnexpectedResponseError, match=r"html|hello"):
            await task.open(variant, clients(server.url))
        assert len(server.requests) == 1


MEMBERS = row(
    "Heads and codings",
    "gzip with one member for each event; bare deflate",
    "the text of the first event only, or a decoding error",
    "read",
)


def in_members(events: list[bytes]) -> tuple[str, list[bytes]]:
    return "gzip", [gzip.compress(event) for event in events]


def in_split_members(events: list[bytes]) -> tuple[str, list[bytes]]:
    body = b"".join(gzip.compress(event) for event in events)
    return "gzip", [body[at : at + 7] for at in range(0, len(body), 7)]


def as_bare_deflate(events: list[bytes]) -> tuple[str, list[bytes]]:
    compressor = zlib.compressobj(wbits=-15)
    return "deflate", [compressor.compress(event) + compressor.flush(zlib.Z_SYNC_FLUSH) for event in events]


def not_compressed_at_all(events: list[bytes]) -> tuple[str, list[bytes]]:
    """A proxy has decompressed the body, and left the header."""
    return "gzip", events


@MEMBERS
@pytest.mark.parametrize("compress", [in_members, in_split_members, as_bare_deflate, not_compressed_at_all])
async def test_what_compressors_send_is_read(
    variant: Variant, clients: Clients, task: Task, compress: Callable[[list[bytes]], tuple[str, list[bytes]]]
) -> None:
    coding, steps = compress(task.whole(*WORDS))
    with ScriptedServer(Response(steps, headers={"Content-Encoding": coding})) as server:
        stream = await task.open(variant, clients(server.url))
        assert task.texts(await variant.rest(stream)) == WORDS


GARBAGE = row(
    "Heads and codings",
    "a gzip member, and garbage without end after it",
    "read for ever: all of a processor, and growing memory",
    "an error at the first byte that is not gzip",
)


@GARBAGE
@pytest.mark.parametrize("filler", [b"garbage!", b"\x00\x01"])
async def test_garbage_after_a_member_ends_the_stream(
    variant: Variant, clients: Clients, task: Task, filler: bytes
) -> None:
    def endless() -> Iterator[bytes]:
        yield gzip.compress(task.event("Hello"))
        yield from itertools.repeat(filler * 5000)

    with ScriptedServer(Response(endless(), headers={"Content-Encoding": "gzip"})) as server:
        started = time.monotonic()
        with pytest.raises(UnexpectedResponseError, match="does not match its Content-Encoding") as caught:
            await variant.rest(await task.open(variant, clients(server.url)))
        assert caught.value.partial_text == "Hello"
        await until(lambda: not server.running)
        assert time.monotonic() - started < SOON


TOO_LONG = row(
    "Heads and codings",
    "`Retry-After: 3600`, or an exhausted quota (`insufficient_quota`)",
    "asked again after a few seconds, several times",
    "raised at once, with `retry_after`: waiting for less than the server asks cannot help",
)


@TOO_LONG
@pytest.mark.parametrize(
    "headers",
    [{"Retry-After": "3600"}, {"Retry-After-Ms": "3600000"}, {"Retry-After": "11"}],
    ids=["an hour", "in ms", "a second too long"],
)
async def test_a_wait_that_is_too_long_is_not_begun(
    variant: Variant, clients: Clients, task: Task, headers: dict[str, str]
) -> None:
    with ScriptedServer(Response([b'{"error":"busy"}'], 429, "application/json", headers)) as server:
        with pytest.raises(OverloadedError, match="busy") as caught:
            await task.open(variant, clients(server.url, retry=RetryPolicy(attempts=3, max_wait=10)))
        assert caught.value.retry_after in (3600, 11)
        assert "RetryPolicy.max_wait" in "".join(caught.value.__notes__)
        assert len(server.requests) == 1


@TOO_LONG
@pytest.mark.parametrize("code", ["insufficient_quota", "billing_hard_limit_reached", "exceeded_current_quota_error"])
async def test_an_exhausted_quota_is_raised_at_once(variant: Variant, clients: Clients, task: Task, code: str) -> None:
    body = json.dumps({"error": {"message": "You exceeded your current quota", "type": code, "code": code}}).encode()
    with ScriptedServer(Response([body], 429, "application/json", {"Retry-After": "1"})) as server:
        with pytest.raises(OverloadedError, match="quota") as caught:
            await task.open(variant, clients(server.url, retry=AGAIN))
        assert (caught.value.retryable, caught.value.retry_after) == (False, 1)
        assert len(server.requests) == 1


TRANSIENT = row(
    "Heads and codings",
    "520 to 530 of Cloudflare, `x-should-retry`, `retry-after-ms`",
    "retried by openai's client; not by huggingface_hub's",
    "retried, or not, as openai's client does it",
)


@pytest.mark.slow
@TRANSIENT
@pytest.mark.parametrize("status", [409, 520, 521, 522, 523, 524, 525, 527, 529, 530])
async def test_a_gateway_that_cannot_reach_its_server_is_asked_again(
    variant: Variant, clients: Clients, task: Task, status: int
) -> None:
    page = Response([b"<!doctype html><title>error</title>"], status, "text/html", {"Retry-After-Ms": "1"})
    with ScriptedServer(page, page, Response(task.whole(*WORDS))) as server:
        stream = await task.open(variant, clients(server.url))
        assert task.texts(await variant.rest(stream)) == WORDS
        assert [attempt.status_code for attempt in stream.attempts] == [status, status, 200]


@TRANSIENT
@pytest.mark.parametrize(("status", "value", "requests"), [(500, "true", 3), (400, "true", 3), (503, "false", 1)])
async def test_a_server_says_whether_to_ask_again(
    variant: Variant, clients: Clients, task: Task, status: int, value: str, requests: int
) -> None:
    refusal = Response([b'{"error":"no"}'], status, "application/json", {"x-should-retry": value})
    with ScriptedServer(refusal) as server:
        with pytest.raises(InferenceError, match="no") as caught:
            await task.open(variant, clients(server.url, retry=AGAIN))
        assert caught.value.status_code == status
        assert len(server.requests) == requests


LOADING = row(
    "Heads and codings",
    "503 while a model is loaded, with `estimated_time`",
    "waited for without a limit (huggingface_hub until 0.x), or given up after two retries",
    "waited for as long as the server estimates, ten minutes at most; these attempts do not count",
)


@LOADING
async def test_a_model_that_is_loaded_is_waited_for(variant: Variant, clients: Clients, task: Task) -> None:
    body = json.dumps({"error": "Model org/name is currently loading", "estimated_time": 0.5}).encode()
    loading = Response([body], 503, "application/json")
    with ScriptedServer(loading, loading, loading, Response(task.whole(*WORDS))) as server:
        client = clients(server.url, retry=RetryPolicy(attempts=2, max_wait=0.15))
        stream = await task.open(variant, client)
        assert task.texts(await variant.rest(stream)) == WORDS
        assert all(0.1 <= attempt.delay <= 0.25 for attempt in stream.attempts[1:])


LONG_HEADER = row(
    "Heads and codings",
    "`x-ratelimit-reset` of 20 kB",
    "no client reads it",
    "bounded, and linear in its size",
)


@LONG_HEADER
@pytest.mark.parametrize("name", ["x-ratelimit-reset", "Retry-After", "x-ratelimit-reset-tokens"])
async def test_a_long_header_is_read_in_no_time(variant: Variant, clients: Clients, task: Task, name: str) -> None:
    refusal = Response([b'{"error":"busy"}'], 429, "application/json", {name: "1" * 20_000 + "x"})
    with ScriptedServer(refusal) as server:
        started = time.process_time()
        with pytest.raises(OverloadedError, match="busy"):
            await task.open(variant, clients(server.url, retry=None))
        assert time.process_time() - started < 2
