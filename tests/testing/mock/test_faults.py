"""Faults and paces of rules."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from hfstream import (
    IncompleteStreamError,
    InferenceClient,
    InferenceConnectionError,
    InferenceTimeoutError,
    OverloadedError,
    Timeouts,
    UnexpectedResponseError,
)
from hfstream.testing import UNUSUAL_RESPONSES, MockServer, Response, faults, token_events
from hfstream.testing.mock.rendering import paced
from hfstream.testing.mock.rules import EVENT_FAULTS, INTERRUPTIONS

Start = Callable[..., MockServer]
TEXT = ["Grüß", " Gott", " 👍"]
MESSAGES = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize("fault", [fault for fault in EVENT_FAULTS if fault not in INTERRUPTIONS])
def test_a_valid_stream_is_read_whatever_the_fault(fault: str, mock_server: Start) -> None:
    client = InferenceClient(mock_server({"rules": [{"text": TEXT, "fault": fault}]}).url, retry=None)
    assert list(client.text_generation("x", stream=True)) == TEXT
    assert client.chat_completion(MESSAGES, stream=True).final().choices[0].message.content == "".join(TEXT)
    assert client.text_generation("x") == "".join(TEXT)


INTERRUPTED = {
    "drop": InferenceConnectionError,
    "reset": InferenceConnectionError,
    "stall": InferenceTimeoutError,
    "early_end": IncompleteStreamError,
}


@pytest.mark.parametrize(("fault", "error"), INTERRUPTED.items(), ids=INTERRUPTED)
def test_an_interruption_comes_after_its_events(fault: str, error: type[Exception], mock_server: Start) -> None:
    rules = {"rules": [{"text": TEXT, "fault": fault, "after": 2}]}
    timeout = Timeouts(first_token=60, between_tokens=0.2) if fault == "stall" else 60
    client = InferenceClient(mock_server(rules).url, retry=None, timeout=timeout)
    with pytest.raises(error) as caught:
        list(client.text_generation("x", stream=True))
    # A reset may discard at the client what was sent before it.
    partial_text = getattr(caught.value, "partial_text", None) or ""
    assert "Grüß Gott".startswith(partial_text) if fault == "reset" else partial_text == "Grüß Gott"
    if fault != "stall":
        with pytest.raises((InferenceConnectionError, UnexpectedResponseError)):
            client.text_generation("x")


def test_an_answer_that_is_a_fault(mock_server: Start) -> None:
    def client(**rule: Any) -> InferenceClient:
        return InferenceClient(mock_server({"rules": [rule]}).url, retry=None)

    with pytest.raises(OverloadedError) as caught:
        client(fault="overloaded", retry_after=7).text_generation("x")
    assert caught.value.retry_after == 7
    for task in ("text_generation", "chat_completion"):
        with pytest.raises(OverloadedError):
            getattr(client(fault="overloaded_in_stream"), task)("x" if task[0] == "t" else MESSAGES, stream=True)
    with pytest.raises(UnexpectedResponseError, match="Sign in"):
        client(fault="html").text_generation("x", stream=True)
    with pytest.raises(IncompleteStreamError):
        client(fault="empty").text_generation("x", stream=True)
    unusual = client(unusual="LM Studio: an error event").chat_completion(MESSAGES, stream=True)
    with pytest.raises(Exception, match="Compute error"):
        unusual.final()
    assert "LM Studio: an error event" in UNUSUAL_RESPONSES


def test_chunks_have_the_size_of_the_rule(mock_server: Start) -> None:
    server = mock_server({"rules": [{"text": "one two", "fault": "rechunk", "size": 7}]})
    with httpx.stream("POST", f"{server.url}/generate_stream", json={"inputs": "x"}) as response:
        assert {len(chunk) for chunk in list(response.iter_raw(7))[:-1]} == {7}


EVENTS = token_events(*TEXT)
FORMS = {
    "plain": (Response(EVENTS), [1, 2, 3]),
    "keep-alives": (faults.keep_alives(EVENTS), [0, 1, 1, 2, 2, 3]),
    "retry": (faults.retry_frames(EVENTS), [0, 1, 1, 2, 2, 3]),
    "a byte order mark": (faults.byte_order_mark(EVENTS), [1, 2, 3]),
    "CR": (faults.cr_only(EVENTS), [1, 2, 3]),
    "CRLF": (faults.crlf(EVENTS), [1, 2, 3]),
    "a drop": (faults.drop(EVENTS, after=1), [1, 1]),
    "one chunk": (faults.rechunk(EVENTS, 100_000), [3]),
}


@pytest.mark.parametrize(("response", "due"), FORMS.values(), ids=FORMS)
def test_each_event_is_due_one_pause_after_the_other(
    response: Response, due: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the boundaries of chunks are. A clock that stands still makes each pause its time since the start."""
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    pauses: list[float] = []
    at = 0.0
    for step in paced(response, 0.5).body:
        if isinstance(step, float):
            at = step
        else:
            pauses.append(at)
    assert pauses == [number * 0.5 for number in due]


def test_chunks_of_single_bytes_have_the_pace_of_their_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    pauses = [step for step in paced(faults.rechunk(EVENTS), 0.5).body if isinstance(step, float)]
    assert sorted({*pauses}) == [0.5, 1.0, 1.5]
    assert pauses.count(0.5) == len(EVENTS[0])


def test_an_answer_takes_its_time(mock_server: Start) -> None:
    rules = {"tokens_per_second": 50, "rules": [{"text": TEXT, "delay": 0.1}, {"text": "never"}]}
    client = InferenceClient(mock_server(rules).url)
    stream: Any = client.text_generation("x", stream=True)
    assert list(stream) == TEXT
    assert stream.metrics.time_to_first_token >= 0.1
    assert stream.metrics.duration >= 0.1 + 4 / 50
    started = time.monotonic()
    client.text_generation("x")
    assert time.monotonic() - started >= 0.1 + 3 / 50


def test_a_speed_makes_all_of_it_shorter(mock_server: Start) -> None:
    rules = {"tokens_per_second": 0.01, "delay": 1000, "rules": [{"text": TEXT}]}
    for speed in (1e6, float("inf")):
        client = InferenceClient(mock_server(rules, speed=speed).url)
        assert list(client.text_generation("x", stream=True)) == TEXT
        assert client.text_generation("x") == "".join(TEXT)


@pytest.mark.slow
def test_two_hundred_streams_at_once(mock_server: Start) -> None:
    """Each is held after three events until all of them are being sent."""
    rules = [{"when": {"contains": "hold"}, "text": TEXT, "fault": "stall", "after": 3}, {"text": TEXT}]
    server = mock_server({"tokens_per_second": 100, "rules": rules})
    texts: list[str] = []
    everyone, leave = threading.Barrier(201, timeout=60), threading.Event()

    client = httpx.Client(limits=httpx.Limits(max_connections=None), timeout=60)

    def read(number: int) -> None:
        with client.stream("POST", f"{server.url}/generate_stream", json={"inputs": f"hold {number}"}) as response:
            chunks = response.iter_raw()
            held = b"".join(next(chunks) for _ in range(3))
            everyone.wait()
            leave.wait(60)
        texts.append(held.decode())

    threads = [threading.Thread(target=read, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    everyone.wait()
    assert server.wait_until_running(200)
    leave.set()
    for thread in threads:
        thread.join()
    client.close()
    assert len(texts) == 200
    assert all("Gott" in text for text in texts)
    assert server.wait_until_running(0)
