"""Server-Sent Events as the WHATWG text has them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from hfstream import (
    IncompleteStreamError,
    ServerError,
    UnexpectedResponseError,
)
from hfstream.sse import SSEDecoder
from hfstream.testing import (
    Fault,
    Response,
    ScriptedServer,
    Step,
)
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import SOON, WORDS, Task

LINES = "Decoding Server-Sent Events"
BOM = b"\xef\xbb\xbf"


async def check(
    variant: Variant, clients: Clients, task: Task, wire: bytes, expected: list[str], kind: str = ""
) -> None:
    """Reads `wire` in one piece, and in pieces of three bytes."""
    crumbs: list[Step] = [wire[place : place + 3] for place in range(0, len(wire), 3)]
    for body in ([wire], crumbs):
        with ScriptedServer(Response(body, content_type=kind or "text/event-stream")) as server:
            stream = await task.open(variant, clients(server.url, retry=None))
            assert task.texts(await variant.rest(stream)) == expected
            assert stream.text == "".join(expected)


A_BOM = row(LINES, "a byte order mark, in one chunk or split over two", "the first event is lost", "ignored")


@A_BOM
async def test_a_byte_order_mark_is_skipped(variant: Variant, clients: Clients, task: Task) -> None:
    await check(variant, clients, task, BOM + b"".join(task.whole(*WORDS)), WORDS)
    with ScriptedServer(Response([BOM[:2], BOM[2:], *task.whole(*WORDS)])) as server:
        assert task.texts(await variant.rest(await task.open(variant, clients(server.url)))) == WORDS


GHOSTS = row(
    LINES,
    "a block with only `event`, `id` or `retry`; a keep-alive comment after an `id`",
    "an event that was not sent",
    "no event",
)


@GHOSTS
@pytest.mark.parametrize(
    "block", [b"event: ping\n\n", b"id: 1\n\n", b"retry: 10\n\n", b"id: 1\n\n: keep-alive\n\n:\n\n", b":\n\n\n\n"]
)
async def test_blocks_without_data_are_not_events(variant: Variant, clients: Clients, task: Task, block: bytes) -> None:
    wire = block + b"".join(event + block for event in task.whole(*WORDS))
    await check(variant, clients, task, wire, WORDS)
    decoder = SSEDecoder()
    assert [event.data for event in decoder.feed(block + b"data: a\n\n" + block)] == ["a"]


SEPARATORS = row(
    LINES,
    "U+2028, U+2029, U+0085, VT, FF, FS in data",
    "treated as line endings, which breaks the JSON",
    "ordinary characters",
)


@SEPARATORS
@pytest.mark.parametrize(
    "character", ["\u2028", "\u2029", "\u0085", "\x7f", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"], ids=ascii
)
@pytest.mark.slow
async def test_only_lf_and_cr_end_a_line(variant: Variant, clients: Clients, task: Task, character: str) -> None:
    word = f"a{character}b"
    await check(variant, clients, task, b"".join(task.whole("Hello", word)), ["Hello", word])
    assert [event.data for event in SSEDecoder().feed(f"data: {word}\n\n".encode())] == [word]


TIGHT = row(
    LINES,
    "`data:x`, without the space; data that begins with letters of `data:`",
    "not read as data, or these characters are removed too (`lstrip`)",
    "decoded correctly",
)


@TIGHT
async def test_the_space_after_the_colon_is_optional(variant: Variant, clients: Clients, task: Task) -> None:
    wire = b"".join(task.whole(*WORDS)).replace(b"data: ", b"data:")
    assert wire.count(b"data:{") >= 3
    await check(variant, clients, task, wire, WORDS)
    with ScriptedServer(Response([b"event:error\ndata:data: at a tad\n\n"])) as server:
        with pytest.raises(ServerError) as caught:
            await task.open(variant, clients(server.url, retry=None))
        assert str(caught.value) == "data: at a tad"


MANY_LINES = row(LINES, "data of several lines; `data` without a colon", "the JSON is split or lost", "joined with LF")


@MANY_LINES
async def test_lines_of_data_are_joined(variant: Variant, clients: Clients, task: Task) -> None:
    wire = b"data\n\n" + b"".join(task.whole("a", "b")).replace(b',"', b'\ndata: ,"').replace(b"{", b"{\ndata\ndata:")
    await check(variant, clients, task, wire, ["a", "b"])
    assert [event.data for event in SSEDecoder().feed(b"data: a\ndata\ndata:b\n\n")] == ["a\n\nb"]


PARTIAL = row(
    LINES,
    "the body ends in the middle of an event",
    "the partial event is yielded",
    "the partial event is ignored: `IncompleteStreamError`",
)


@PARTIAL
async def test_a_partial_event_is_discarded(variant: Variant, clients: Clients, task: Task) -> None:
    first, part = task.event("Hello"), task.event(" never")
    for end in (part[:-1], part[:-2], part[:-9]):
        with ScriptedServer(Response([first, end])) as server:
            stream = await task.open(variant, clients(server.url, retry=None))
            with pytest.raises(IncompleteStreamError) as caught:
                await variant.rest(stream)
            assert caught.value.partial_text == "Hello"


BROKEN_UTF8 = row(
    LINES, "bytes that are not UTF-8", "`UnicodeDecodeError`", "replaced with U+FFFD; the stream continues"
)


@BROKEN_UTF8
async def test_invalid_UTF_8_becomes_a_replacement_character(variant: Variant, clients: Clients, task: Task) -> None:
    wire = b"".join(task.whole("a$b", "c")).replace(b"$", b"\xff")
    await check(variant, clients, task, wire, ["a\ufffdb", "c"])
    assert [event.data for event in SSEDecoder().feed(b"data: a\xff\n\ndata: b\n\n")] == ["a\ufffd", "b"]


CHARSET = row(
    LINES,
    "a charset other than UTF-8 in the header",
    "used for decoding: the text is garbled",
    "ignored: SSE is always UTF-8",
)


@CHARSET
@pytest.mark.parametrize("charset", ["latin-1", "utf-16", "nonsense"])
async def test_an_event_stream_is_UTF_8_whatever_its_header_says(
    variant: Variant, clients: Clients, task: Task, charset: str
) -> None:
    words = ["Käse", " 日本", " 👩‍🚀"]
    await check(variant, clients, task, b"".join(task.whole(*words)), words, f"text/event-stream; charset={charset}")


RETRY_FIELD = row(
    LINES, "`retry: -5`, `retry: 1_000`, `retry: +5`", "accepted as numbers", "ignored: only digits are valid"
)


@RETRY_FIELD
async def test_a_reconnection_time_has_only_digits(variant: Variant, clients: Clients, task: Task) -> None:
    decoder = SSEDecoder()
    for value in (b" -5", b"1_000", b"+5", b"5 ", b"5.0", "\u0665".encode(), b""):
        [event] = decoder.feed(b"retry: " + value + b"\ndata: a\n\n")
        assert (event.retry, decoder.retry) == (None, None), value
    [event] = decoder.feed(b"retry: 1000\ndata: a\n\n")
    assert (event.retry, decoder.retry) == (1000, 1000)
    wire = b"".join(b"retry: -5\n" + event + b"retry: 1_000\n\n" for event in task.whole(*WORDS))
    await check(variant, clients, task, wire, WORDS)


CR_ONLY = row(
    LINES, "a server that ends its lines with CR", "each event is delivered only with the next one", "at once"
)


@CR_ONLY
@pytest.mark.parametrize("end", [b"\r", b"\r\n"], ids=["CR", "CRLF"])
async def test_a_cr_ends_a_line_at_once(variant: Variant, clients: Clients, task: Task, end: bytes) -> None:
    received = threading.Semaphore(0)
    first = 0 if task.text else 1  # after the role

    def body() -> Iterator[Step]:
        """Sends an event only when the one before has been handed out."""
        for place, event in enumerate(task.whole(*WORDS), -first):
            yield event.replace(b"\n", end)
            if 0 <= place < len(WORDS) and not received.acquire(timeout=SOON):
                yield Fault.DROP

    with ScriptedServer(Response(body())) as server:
        stream = await task.open(variant, clients(server.url, retry=None))
        texts: list[str] = []
        while (item := await variant.next(stream)) is not None:
            if words := task.texts([item]):
                texts += words
                received.release()
        assert texts == WORDS


LARGE = row(
    LINES,
    "one event of 0.9 MiB in chunks of 1 KiB",
    "the buffer is copied for each chunk: quadratic time",
    "linear",
)


@LARGE
async def test_a_large_event_in_small_chunks_is_read(variant: Variant, clients: Clients, task: Task) -> None:
    word = "x" * 900_000
    wire = b"".join(task.whole("Hello", word))
    pieces: list[Step] = [wire[place : place + 1024] for place in range(0, len(wire), 1024)]
    with ScriptedServer(Response(pieces)) as server:
        assert task.texts(await variant.rest(await task.open(variant, clients(server.url)))) == ["Hello", word]


@LARGE.only(variant="sync", task="text")
def test_the_time_for_a_large_event_is_linear() -> None:
    # One buffer that is copied at each piece would move 0.5 TB, which takes a minute and more.
    decoder, piece = SSEDecoder(), b"x" * 16
    decoder.feed(b"data: ")
    began = os.times()
    for _ in range(250_000):
        decoder.feed(piece)
    [event] = decoder.feed(b"\n\n")
    spent = os.times()
    assert len(event.data) == 4_000_000
    assert spent.user + spent.system - began.user - began.system < 15


UNBOUNDED = row(LINES, "an event that never ends", "no size limit", "`UnexpectedResponseError` at 16 MiB")


@UNBOUNDED.only(variant="sync", task="text")
@pytest.mark.parametrize("start", [b"data: ", b": ", b"id: ", b"event: ", b"data: x\n"])
def test_a_decoder_has_a_bound(start: bytes) -> None:
    decoder = SSEDecoder(max_event_size=10_000)
    decoder.feed(start)
    with pytest.raises(UnexpectedResponseError, match="larger than 10000 bytes"):
        for _ in range(10_000):
            decoder.feed(b"data: x\n" if start.endswith(b"\n") else b"xxxx")
