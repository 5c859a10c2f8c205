"""Messages over a pipe: their framing, and what becomes of exceptions."""

from __future__ import annotations

import io
import os
import threading
from typing import Any

import pytest
import torch

from hfstream.server.engine.channel import Channel
from hfstream.server.engine.protocol import EngineRequest, ModelInfo, ModelProcessError, UnsupportedModelError


def sent(*messages: object) -> bytes:
    buffer = io.BytesIO()
    for message in messages:
        Channel(io.BytesIO(), buffer).send(message)
    return buffer.getvalue()


def received(data: bytes) -> Channel:
    return Channel(io.BytesIO(data), io.BytesIO())


def travelled(error: BaseException) -> Any:
    return received(sent(error)).receive()


def test_messages_arrive_in_order() -> None:
    info = ModelInfo("llama", 8, frozenset({1}), 9, "float32", "cpu", 3)
    channel = received(sent(info, [(0, 5, -0.5, (), True), (1, None)], b"x" * 100_000))
    assert [channel.receive() for _ in range(3)] == [info, [(0, 5, -0.5, (), True), (1, None)], b"x" * 100_000]
    with pytest.raises(EOFError):
        channel.receive()


def test_a_request_arrives_as_a_copy() -> None:
    request = received(sent(EngineRequest([1, 2], 3, cancelled=True))).receive()
    assert (request.prompt, request.max_new_tokens, request.cancelled) == ([1, 2], 3, True)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 20])
def test_an_end_within_a_message_is_an_end(length: int) -> None:
    with pytest.raises(EOFError):
        received(sent("a message that is cut somewhere")[:length]).receive()


def test_messages_of_several_threads_are_not_mixed() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader, os.fdopen(write, "wb") as writer:
        channel = Channel(reader, writer)
        texts = [letter * 200_000 for letter in "abcdef"]  # more than a pipe holds
        threads = [threading.Thread(target=channel.send, args=(text,)) for text in texts]
        for thread in threads:
            thread.start()
        assert sorted(channel.receive() for _ in texts) == texts
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    "error",
    [
        UnsupportedModelError("no"),
        ModelProcessError("gone"),
        FileNotFoundError(2, "No such file", "weights"),
        RuntimeError("two", "arguments"),
        SystemExit(3),
    ],
)
def test_an_exception_keeps_its_class_and_its_text(error: BaseException) -> None:
    assert type(travelled(error)) is type(error)
    assert str(travelled(error)) == str(error)


class OtherError(LookupError):
    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{detail} ({code})")


@pytest.mark.parametrize(
    ("error", "class_", "text"),
    [
        (torch.OutOfMemoryError("out of memory"), RuntimeError, "out of memory"),
        (OtherError(3, "no"), LookupError, "no (3)"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), UnicodeError, "'utf-8' codec can't decode"),
        (KeyError("x"), LookupError, "'x'"),
        (AssertionError(), AssertionError, "AssertionError"),
    ],
    ids=["torch", "other", "arguments", "quotes", "empty"],
)
def test_another_exception_becomes_the_nearest_one_that_a_text_makes(
    error: Exception, class_: type[Exception], text: str
) -> None:
    assert type(travelled(error)) is class_
    assert str(travelled(error)).startswith(text)


def test_causes_are_kept() -> None:
    error, cause = UnsupportedModelError("no"), OtherError(3, "why")
    error.__cause__, cause.__cause__ = cause, OSError("root")
    arrived = travelled(error)
    assert (str(arrived.__cause__), str(arrived.__cause__.__cause__)) == ("why (3)", "root")
