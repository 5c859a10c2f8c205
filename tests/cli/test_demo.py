"""Tests of `hfstream demo`."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import pytest

from hfstream.testing import Request, Response, ScriptedServer, Step, token_events
from tests.helpers.command_line import TIMEOUT, TerminalProcess, run_hfstream

pytestmark = pytest.mark.slow


def test_demo_in_a_terminal_shows_two_panes() -> None:
    first, *rest = token_events(*[f"line {number}\n" for number in range(60)])
    waiting_shown, first_shown = threading.Event(), threading.Event()  # set when they are on the screen

    def stream() -> Iterator[Step]:
        waiting_shown.wait(TIMEOUT)
        yield first
        first_shown.wait(TIMEOUT)
        yield from rest

    def respond(request: Request) -> Response:
        if request.path == "/generate_stream":
            return Response(stream())
        if "cheese" in request.json()["inputs"]:
            first_shown.wait(TIMEOUT)
        return Response.json({"generated_text": "all of it"})

    with ScriptedServer(respond) as server, TerminalProcess("demo", "--url", server.url) as screen:
        screen.wait_for("How do you make cheese?")
        screen.wait_for("waiting: stream=False")
        screen.wait_for("streaming: stream=True")
        screen.wait_for("waiting …")
        waiting_shown.set()
        screen.wait_for("line 0")
        first_shown.set()
        screen.wait_for("all of it")
        screen.wait_for("line 59")  # the end of a text far longer than a pane
        screen.wait_for("streaming: first text")


def test_demo_prints_the_times_of_both_requests(backend: str) -> None:
    done = run_hfstream("demo", "--url", backend)
    assert done.returncode == 0, done.stderr
    waiting, streaming = done.stdout.splitlines()
    assert re.fullmatch(r"waiting: +first text after [\d.]+ s, complete after [\d.]+ s", waiting)
    assert re.fullmatch(r"streaming: first text after [\d.]+ s, complete after [\d.]+ s", streaming)
