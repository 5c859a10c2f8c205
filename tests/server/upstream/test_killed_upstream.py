"""Two servers of our own behind one, of which the one that answers is killed in the middle of the answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import tenacity

from hfstream import InferenceClient, RetryPolicy
from hfstream.server import BackgroundServer, Settings
from hfstream.server.upstream import pool
from hfstream.testing.forwarder import Forwarder
from tests.helpers.command_line import running_hfstream
from tests.helpers.scripted_engine import eventually, http
from tests.helpers.shared_engine import SharedEngine

from .common import CHAT, data_of, error_of, text_of

pytestmark = pytest.mark.slow

PROMPT = "How do you make cheese?"
TEXT = {"inputs": PROMPT, "parameters": {"max_new_tokens": 60, "details": True}}
SAMPLED = {"inputs": PROMPT, "parameters": {"temperature": 0.5, "seed": 1, "max_new_tokens": 60}}
MESSAGES = [{"role": "user", "content": PROMPT}]
SLOW = 2.0
"""Tokens per second of the server that is killed: it cannot have ended its answer before."""


class Victim(NamedTuple):
    """A slow server."""

    url: str
    kill: Callable[[], object]


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RETRY", RetryPolicy(wait=tenacity.wait_none()))


@pytest.fixture(scope="module")
def other(shared_engine: SharedEngine) -> Iterator[str]:
    """The server that is not killed."""
    with BackgroundServer(engine=shared_engine.connect()) as server:
        yield server.url


@contextmanager
def process() -> Iterator[Victim]:
    with running_hfstream("serve", "--port", "0", "--tokens-per-second", str(SLOW)) as (running, url, _):
        assert eventually(lambda: http.get(f"{url}/health").status_code == 200)
        yield Victim(url, running.kill)


@contextmanager
def connections(shared_engine: SharedEngine) -> Iterator[Victim]:
    """What a killed process looks like from outside: its connections end, and no new ones are accepted."""
    with (
        BackgroundServer(Settings(tokens_per_second=SLOW), engine=shared_engine.connect()) as server,
        Forwarder(server.url) as forwarder,
    ):
        yield Victim(forwarder.url, forwarder.close)


def answer_of_two(victim: Victim, other: str, path: str, body: dict[str, Any], *, kind: str = "") -> list[Any]:
    """The events of an answer by both, the second of which goes on when the first is killed after its first content."""
    with BackgroundServer(Settings(upstreams=(victim.url + kind, other + kind))) as server:
        assert eventually(lambda: InferenceClient(server.url).health_check())
        with http.stream("POST", server.url + path, json=body) as response:
            lines = response.iter_lines()
            received = []
            for line in lines:
                received.append(line)
                if '"text":"' in line or ('"content":"' in line and '"content":""' not in line):
                    break
            victim.kill()
            received += lines
    data = [line.removeprefix("data: ") for line in received if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


@pytest.mark.parametrize("how", ["process", "connections"])
def test_a_greedy_text_is_whole_and_the_same(how: str, other: str, shared_engine: SharedEngine) -> None:
    *expected, expected_last = data_of(http.post(f"{other}/generate_stream", json=TEXT))
    with process() if how == "process" else connections(shared_engine) as victim:
        *events, last = answer_of_two(victim, other, "/generate_stream", TEXT)
    assert [each["token"]["id"] for each in events] == [each["token"]["id"] for each in expected]
    assert [each["index"] for each in events] == [each["index"] for each in expected]
    assert last["generated_text"] == expected_last["generated_text"]
    assert last["details"] == expected_last["details"]


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        (CHAT, "", {"messages": MESSAGES, "stream": True, "temperature": 0}),
        (CHAT, "/v1", {"messages": MESSAGES, "stream": True, "temperature": 0}),
        ("/generate_stream", "/v1", TEXT),
        (
            "/generate_stream",
            "",
            SAMPLED,
        ),
    ],
    ids=["chat", "chat at OpenAI", "text at OpenAI", "sampled text"],
)
def test_where_that_is_not_sound_the_answer_ends_in_an_error(
    path: str, kind: str, body: dict[str, Any], other: str, shared_engine: SharedEngine
) -> None:
    expected = text_of(data_of(http.post(other + path, json=body)))
    with connections(shared_engine) as victim:
        events = answer_of_two(victim, other, path, body, kind=kind)
    if path == CHAT:
        assert events.pop() == "[DONE]"
    message, error_type = error_of(events.pop())
    assert error_type == "incomplete_generation"
    assert message.startswith(f"Incomplete generation: upstream {victim.url}: ")
    text = text_of(events)
    assert text
    assert expected.startswith(text)
