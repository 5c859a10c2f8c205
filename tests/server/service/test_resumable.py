"""Streams that outlive their connections: buffer, readers, grace."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from hfstream.errors import NotFoundError
from hfstream.server.service import resumable
from hfstream.server.service.errors import ClientDisconnectedError, StreamGoneError
from hfstream.server.service.resumable import ResumableStream, ResumableStreams


@dataclass
class Calls:
    """What a stream has called."""

    discarded: list[ResumableStream] = field(default_factory=list["ResumableStream"])
    abandoned: int = 0

    def count_abandoned(self) -> None:
        self.abandoned += 1


def make_stream(grace: float = 60.0, keepalive_interval: float = 60.0) -> tuple[ResumableStream, Calls]:
    calls = Calls()
    stream = ResumableStream(grace=grace, keepalive_interval=keepalive_interval, discard=calls.discarded.append)
    stream.on_abandoned = calls.count_abandoned
    return stream, calls


def number(event: bytes | None) -> int:
    assert event is not None
    return int(event.split(b"\n")[0].rpartition(b":")[2])


async def append(stream: ResumableStream, *texts: str) -> None:
    for text in texts:
        async with asyncio.timeout(60):
            await stream.append(text)


async def numbers(events: Any, count: int) -> list[int]:
    found: list[int] = []
    async with asyncio.timeout(60):
        async for event in events:
            found.append(number(event))
            if len(found) == count:
                break
    return found


async def test_a_reader_that_another_has_overtaken_gets_no_wrong_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "MAX_BUFFERED", 4)
    stream, _ = make_stream()
    with stream.reader(), stream.reader():
        await append(stream, "a", "b")
        fast, slow = stream.events(0), stream.events(0)
        assert await numbers(slow, 1) == [1]
        for text in "cdefghijkl":
            await append(stream, text)
            await anext(fast)
        assert await numbers(fast, 1) == [11]
        rest = [event async for event in slow]
        assert rest == []
        with pytest.raises(StreamGoneError):
            stream.ensure_buffered(1)


async def test_append_waits_while_the_buffer_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "MAX_BUFFERED", 4)
    stream, _ = make_stream()
    with stream.reader():
        await append(stream, *"abcd")
        fifth = asyncio.create_task(stream.append("e"))
        await asyncio.sleep(0.05)
        assert not fifth.done()
        events = stream.events(0)
        assert await numbers(events, 2) == [1, 2]
        await asyncio.wait_for(fifth, 60)
        assert await numbers(events, 3) == [3, 4, 5]


async def test_append_waits_for_a_reader() -> None:
    stream, _ = make_stream()
    appending = asyncio.create_task(stream.append("a"))
    await asyncio.sleep(0.05)
    assert not appending.done()
    with stream.reader():
        await asyncio.wait_for(appending, 60)
        assert await numbers(stream.events(0), 1) == [1]


async def test_after_the_grace_a_stream_is_abandoned_once() -> None:
    stream, calls = make_stream(grace=0.01)
    with stream.reader():
        await append(stream, "a")
    appending = asyncio.create_task(stream.append("b"))
    with pytest.raises(ClientDisconnectedError):
        await asyncio.wait_for(appending, 60)
    stream.abandon()
    assert (calls.discarded, calls.abandoned) == ([stream], 1)
    assert [event async for event in stream.events(1)] == []


async def test_the_grace_does_not_start_while_another_reader_is_left() -> None:
    stream, calls = make_stream(grace=0.05)
    with stream.reader():
        with stream.reader():
            pass
        await asyncio.sleep(0.2)
        assert calls.discarded == []
        await append(stream, "a")


async def test_a_new_reader_stops_the_grace() -> None:
    stream, calls = make_stream(grace=0.1)
    with stream.reader():
        pass
    with stream.reader():
        await asyncio.sleep(0.3)
        assert calls.discarded == []


async def test_readers_of_a_silent_stream_get_none_again_and_again() -> None:
    stream, _ = make_stream(keepalive_interval=0.01)
    with stream.reader():
        events = stream.events(0)
        assert [await anext(events) for _ in range(3)] == [None, None, None]
        await append(stream, "a")
        assert await anext(events) is not None


@pytest.mark.parametrize("unread_only", [True, False])
async def test_all_streams_are_abandoned_or_those_without_a_reader(unread_only: bool) -> None:
    streams = ResumableStreams(grace=60.0, keepalive_interval=60.0)
    read, unread = streams.create("/"), streams.create("/")
    with read.reader():
        streams.abandon_all(unread_only=unread_only)
        assert is_known(streams, read) is unread_only
        assert not is_known(streams, unread)


def is_known(streams: ResumableStreams, stream: ResumableStream) -> bool:
    with suppress(Exception):
        return streams.find(f"{stream.id}:0", "/")[0] is stream
    return False


async def test_a_finished_stream_can_be_read_again_until_the_grace_is_over() -> None:
    stream, calls = make_stream(grace=0.2)
    with stream.reader():
        await append(stream, "a", "b")
        assert await numbers(stream.events(0), 2) == [1, 2]
    with stream.reader():
        stream.finish()
        assert [number(event) async for event in stream.events(1)] == [2]
        assert calls.discarded == []
    async with asyncio.timeout(60):
        while not calls.discarded:
            await asyncio.sleep(0.01)


async def test_event_ids_name_the_stream_and_the_event() -> None:
    streams = ResumableStreams(grace=60.0, keepalive_interval=60.0)
    stream = streams.create("/")
    with stream.reader():
        await append(stream, "data")
        assert await anext(stream.events(0)) == f"id: {stream.id}:1\ndata: data\n\n".encode()
    assert streams.find(f"{stream.id}:1", "/") == (stream, 1)
    stream.abandon()
    with pytest.raises(NotFoundError):
        streams.find(f"{stream.id}:1", "/")
