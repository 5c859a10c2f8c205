"""Streams that outlive their connections: buffer, readers, grace."""

from __future__ import annotations

import pytest
import httpx
from collections.abc import *
from pathlib import Path
from typing import Any
import asyncio, threading, socket, time, json, subprocess, sys, os
from hfstream.server import BackgroundServer, Settings, create_app
from hfstream.server.engine.protocol import EngineRequest
from hfstream.version import __version__
from tests.helpers.scripted_engine import *


def made(grace: float = 60.0, quiet: float = 60.0) -> Any:
    forgotten: list[ResumableStream] = []
    ended: list[bool] = []
    made = ResumableStream(grace=grace, keepalive_interval=quiet, discard=forgotten.append)
    made.on_abandoned = lambda: ended.append(True)
    return SimpleNamespace(replay=made, forgotten=forgotten, ended=ended)


async def said(replay: ResumableStream, *texts: str) -> None:
    for text in texts:
        async with asyncio.timeout(5):
            await replay.append(text)


async def numbers(events: Any, count: int) -> list[int]:
    heard: list[int] = []
    async with asyncio.timeout(5):
        async for event in events:
            heard.append(number(event.split(b"\n")[0].decode()))
            if len(heard) == count:
                break
    return heard


async def test_who_is_overtaken_by_another_reader_is_never_told_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "MAX_BUFFERED", 4)
    stream = made().replay
    with stream.reader(), stream.reader():
        await said(stream, "a", "b")
        fast, slow = stream.events(0), stream.events(0)
        assert await numbers(slow, 1) == [1]
        for text in "cdefghijkl":
            await said(stream, text)
            await anext(fast)
        heard = await numbers(fast, 1)
        assert heard == [11]
        rest = [event async for event in slow]
        assert rest == []
        with pytest.raises(StreamGoneError):
            stream.ensure_buffered(1)


async def test_it_speaks_no_further_ahead_than_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "MAX_BUFFERED", 4)
    stream = made().replay
    with stream.reader():
        await said(stream, *"abcd")
        fifth = asyncio.create_task(stream.append("e"))
        await asyncio.sleep(0.05)
        assert not fifth.done()
        events = stream.events(0)
        assert await numbers(events, 2) == [1, 2]
        await asyncio.wait_for(fifth, 5)
        assert await numbers(events, 3) == [3, 4, 5]


async def test_without_a_reader_it_holds_its_tongue() -> None:
    stream = made().replay
    saying = asyncio.create_task(stream.append("a"))
    await asyncio.sleep(0.05)
    assert not saying.done()
    with stream.reader():
        await asyncio.wait_for(saying, 5)
        assert await numbers(stream.events(0), 1) == [1]


async def test_it_is_abandoned_once() -> None:
    made_one = made(grace=0.01)
    stream = made_one.replay
    with stream.reader():
        await said(stream, "a")
    saying = asyncio.create_task(stream.append("b"))
    with pytest.raises(ClientDisconnectedError):
        await asyncio.wait_for(saying, 5)
    stream.abandon()
    assert (made_one.forgotten, made_one.ended) == ([stream], [True])
    assert [event async for event in stream.events(1)] == []


async def test_the_grace_of_one_reader_does_not_end_another() -> None:
    made_one = made(grace=0.05)
    stream = made_one.replay
    with stream.reader():
        with stream.reader():
            pass
        await asyncio.sleep(0.2)
        assert made_one.forgotten == []
        await said(stream, "a")


async def test_coming_back_stops_the_clock() -> None:
    made_one = made(grace=0.1)
    stream = made_one.replay
    with stream.reader():
        pass
    with stream.reader():
        await asyncio.sleep(0.3)
        assert made_one.forgotten == []


async def test_silence_is_told_again_and_again() -> None:
    stream = made(quiet=0.01).replay
    with stream.reader():
        events = stream.events(0)
        assert [await anext(events) for _ in range(3)] == [None, None, None]
        await said(stream, "a")
        assert await anext(events) is not None


@pytest.mark.parametrize("unread_only", [True, False])
async def test_all_are_abandoned_or_those_that_nobody_reads(unread_only: bool) -> None:
    replays = ResumableStreams(grace=60.0, keepalive_interval=60.0)
    read, unread = replays.create(), replays.create()
    with read.reader():
        replays.abandon_all(unread_only=unread_only)
        assert _known(replays, read) is unread_only
        assert not _known(replays, unread)


def _known(replays: ResumableStreams, stream: ResumableStream) -> bool:
    with suppress(Exception):
        return replays.find(f"{stream.id}:0")[0] is stream
    return False
