"""The command line as a person runs it: in processes of its own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from typing import Self

import pytest

from hfstream.server import BackgroundServer
from hfstream.testing import (
    DONE,
    Request,
    Response,
    ScriptedServer,
    Step,
    chat_event,
    chat_events,
    faults,
    token_events,
)

HFSTREAM = [sys.executable, "-m", "hfstream.cli"]
ENVIRONMENT = {**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
SOON = 120
"""Seconds within which what must happen does, on a busy machine too. Only a failure takes so long."""

KEEP_ALIVE: list[Step] = [b":\n\n", 0.1]
WAITING = KEEP_ALIVE * 10 * SOON
"""Nothing more for a long time. The comments wake the reader: a signal that comes between Python's last look for one
and the system call that waits is noticed only when that call returns."""

HANGING = 120.0
"""Seconds after which a program is taken to hang, on a machine that has other things to do."""


def hfstream(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HFSTREAM, *arguments], capture_output=True, text=True, timeout=SOON, env=ENVIRONMENT, check=False, input=stdin
    )


@pytest.fixture(scope="module")
def backend() -> Iterator[str]:
    with BackgroundServer() as server:
        yield server.url


def test_generate_streams_to_stdout_and_talks_on_stderr(backend: str) -> None:
    done = hfstream("generate", "How do you make cheese?", "--url", backend, "--max-new-tokens", "20")
    assert done.returncode == 0
    assert "milk" in done.stdout
    assert "20 tokens" in done.stderr
    assert "finish reason: length" in done.stderr


def test_generate_without_a_url_brings_its_own_backend() -> None:
    done = hfstream("generate", "How do you make cheese?")
    assert done.returncode == 0, done.stderr
    assert "milk" in done.stdout
    assert "finish reason: eos_token" in done.stderr
    assert "hfstream serve" in done.stderr


def test_generate_with_details_shows_tokens(backend: str) -> None:
    done = hfstream("generate", "How do you make cheese?", "--url", backend, "--max-new-tokens", "3", "--details")
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(r"'.*' +\d+\.\d%  id \d+", line) for line in lines)


def test_details_in_a_terminal_have_bars(backend: str) -> None:
    arguments = ["--url", backend, "--max-new-tokens", "3", "--details"]
    with Screen("generate", "How do you make cheese?", *arguments) as screen:
        screen.wait_for("100.0%  ██████████  id ")
        screen.wait_for("finish reason: length")


def test_generate_as_json_is_for_pipes(backend: str) -> None:
    done = hfstream("generate", "--json", "--url", backend, "--max-new-tokens", "3", stdin="How do you make cheese?")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["index"] for event in events] == [1, 2, 3]
    assert events[-1]["details"]["finish_reason"] == "length"


def test_generate_reads_its_prompt_from_stdin(backend: str) -> None:
    arguments = ["--url", backend, "--max-new-tokens", "20"]
    said = hfstream("generate", "How do you make cheese?", *arguments).stdout
    assert hfstream("generate", *arguments, stdin="How do you make cheese?").stdout == said
    assert hfstream("generate", "-", *arguments, stdin="How do you make cheese?").stdout == said


def test_generate_says_that_it_waits_for_a_server_that_is_busy() -> None:
    with ScriptedServer(*[faults.overloaded(0.01)] * 4, Response(token_events("Hello"))) as server:
        done = hfstream("generate", "Hi", "--url", server.url)
        assert (done.returncode, done.stdout) == (0, "Hello\n")
        assert done.stderr.count("Model is overloaded; retrying") == 1


def test_a_chat_remembers_what_was_said() -> None:
    def answer(request: Request) -> Response:
        said = [message["content"] for message in request.json()["messages"]]
        return Response(chat_events(f"{len(said)}: ", said[-1]))

    with ScriptedServer(answer) as server:
        done = hfstream("chat", "--url", server.url, "--system", "Be brief.", stdin="one\n\ntwo\n")
        assert (done.returncode, done.stdout) == (0, "2: one\n4: two\n")
        roles = [message["role"] for message in server.requests[-1].json()["messages"]]
        assert roles == ["system", "user", "assistant", "user"]


def test_a_chat_survives_a_refusal() -> None:
    with ScriptedServer(Response.error(422, "no such thing", "validation"), Response(chat_events("Yes"))) as server:
        done = hfstream("chat", "--url", server.url, stdin="one\ntwo\n")
        assert (done.returncode, done.stdout) == (1, "Yes\n")
        assert "hfstream: no such thing" in done.stderr
        assert [message["content"] for message in server.requests[-1].json()["messages"]] == ["two"]


def test_a_chat_with_nobody_ends_at_once() -> None:
    done = hfstream("chat", "--url", "http://127.0.0.1:9", stdin="one\ntwo\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("cannot connect") == 1


def test_ctrl_c_stops_an_answer_and_not_the_chat() -> None:
    """In a terminal of its own: there the chat asks, and Ctrl-C is the terminal's."""
    first, *rest = [chat_event("Hel"), chat_event("lo")]
    with ScriptedServer(Response([first, *WAITING, *rest]), Response(chat_events("Again"))) as server:
        with Screen("chat", "--url", server.url) as screen:
            screen.wait_for("you> ")
            screen.type("one\n")
            screen.wait_for("Hel")
            screen.interrupt("[stopped]")
            assert server.wait_until_running(0, timeout=HANGING)
            screen.wait_for("you> ")
            screen.type("two\n")
            screen.wait_for("Again")
            screen.wait_for("you> ")
            screen.type("half a li")
            screen.wait_for("half a li")
            screen.interrupt("Ctrl-D ends the chat")
            screen.wait_for("you> ")
            screen.type("\x04")
        assert [message["content"] for message in server.requests[-1].json()["messages"]] == ["one", "Hel", "two"]


def interrupt(process: subprocess.Popen[bytes]) -> int:
    """Sends SIGINT until the process has ended, and returns its status.

    Python runs a signal's handler between two bytecodes, and an interrupted system call returns. A signal that falls
    between the last bytecode and the call (recv, or the poll before it) does neither until the call returns by itself.
    """
    deadline = time.monotonic() + HANGING
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
    return process.wait(1)


class Screen:
    """A program in a terminal of its own, what it writes there, and that it ends well."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self._process = subprocess.Popen(
            [*HFSTREAM, *arguments], stdin=slave, stdout=slave, stderr=slave, env=ENVIRONMENT | {"TERM": "xterm"},
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self._seen = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                assert self._process.wait(SOON) == 0
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self, text: str) -> None:
        """Ctrl-C at the prompt, again and again until it says `text`.

        One may be lost: readline looks for a signal, then waits for a key, and what comes in between waits too.
        """
        end = time.monotonic() + SOON
        self.type("\x03")
        while not self._comes(text, 2):
            assert time.monotonic() < end, f"{text!r} does not come: {self._seen!r}"
            self.type("\x03")

    def wait_for(self, text: str) -> None:
        assert self._comes(text, SOON), f"{text!r} does not come: {self._seen!r}"

    def _comes(self, text: str, within: float) -> bool:
        deadline = time.monotonic() + within
        while text not in self._seen:
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return False
            self._seen += os.read(self._master, 4096).decode(errors="replace")
        self._seen = self._seen.partition(text)[2]
        return True


def test_the_demonstration_in_a_terminal_shows_two_panes() -> None:
    first, *rest = token_events(*[f"line {number}\n" for number in range(60)])
    waiting, begun = threading.Event(), threading.Event()  # have been seen

    def stream() -> Iterator[Step]:
        waiting.wait(SOON)
        yield first
        begun.wait(SOON)
        yield from rest

    def answer(request: Request) -> Response:
        if request.path == "/generate_stream":
            return Response(stream())
        if "cheese" in request.json()["inputs"]:
            begun.wait(SOON)
        return Response.json({"generated_text": "all of it"})

    with ScriptedServer(answer) as server, Screen("demo", "--url", server.url) as screen:
        screen.wait_for("How do you make cheese?")
        screen.wait_for("waiting: stream=False")
        screen.wait_for("streaming: stream=True")
        screen.wait_for("waiting …")
        waiting.set()
        screen.wait_for("line 0")
        begun.set()
        screen.wait_for("all of it")
        screen.wait_for("line 59")  # the end of what is far longer than a pane
        screen.wait_for("streaming: first text")


def test_the_demonstration_tells_the_four_times(backend: str) -> None:
    done = hfstream("demo", "--url", backend)
    assert done.returncode == 0, done.stderr
    waiting, streaming = done.stdout.splitlines()
    assert re.fullmatch(r"waiting: +first text after [\d.]+ s, complete after [\d.]+ s", waiting)
    assert re.fullmatch(r"streaming: first text after [\d.]+ s, complete after [\d.]+ s", streaming)


def test_bench_measures_streams(backend: str) -> None:
    done = hfstream("bench", backend, "--requests", "6", "--concurrency", "3", "--max-new-tokens", "8")
    assert done.returncode == 0, done.stderr
    assert "6 requests, concurrency 3" in done.stdout
    assert "tokens            48 (" in done.stdout
    assert "6 for 6 responses" in done.stdout


def test_bench_tells_what_failed() -> None:
    with ScriptedServer(Response.error(422, "no", "validation")) as server:
        done = hfstream("bench", server.url, "--requests", "3")
        assert done.returncode == 1
        assert "3 x ValidationError: no" in done.stdout


def test_generate_comes_token_by_token() -> None:
    first, *rest = token_events("Hello", " you")
    with ScriptedServer(Response([first, *WAITING, *rest])) as server:
        process = subprocess.Popen(
            [*HFSTREAM, "generate", "Hi", "--url", server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )  # fmt: skip
        with process:
            try:
                assert process.stdout is not None
                assert process.stdout.read(5) == b"Hello"  # long before the rest
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=SOON)
                assert process.returncode == 130
                assert server.wait_until_running(0)
            finally:
                process.kill()


def test_errors_are_one_line_and_exit_code_1(backend: str) -> None:
    for arguments, words in [
        (["--url", "http://127.0.0.1:9"], "cannot connect to http://127.0.0.1:9"),
        (["--url", backend, "--max-new-tokens", "0"], "`max_new_tokens` must be strictly positive"),
        (["--url", "localhost:8080"], "did you mean 'http://localhost:8080'"),
    ]:
        done = hfstream("generate", "Hi", *arguments)
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_help_has_examples() -> None:
    for command in ("generate", "chat", "serve", "demo", "bench"):
        done = hfstream(command, "--help")
        assert done.returncode == 0
        assert "examples:" in done.stdout
    assert hfstream("serve", "--no-such-thing").returncode == 2


def test_what_was_typed_wrong_is_told_by_the_command_that_was_meant() -> None:
    for arguments, words in [
        (["serve", "--prot", "80"], "did you mean --port?"),
        (
            ["generate", "Hi", "--url", "http://127.0.0.1:9", "--tokens-per-second", "3"],
            "--tokens-per-second cannot be used with --url",
        ),
        (["generate", "Hi", "--url", "http://127.0.0.1:9", "--model", "small"], "requires a URL that ends in /v1"),
        (["bench"], "required: URL"),
    ]:
        done = hfstream(*arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.startswith(f"usage: hfstream {arguments[0]} ")


def test_chat_and_text_generation_have_one_name_for_the_length(backend: str) -> None:
    for name in ("--max-tokens", "--max-new-tokens"):
        said = hfstream("generate", "How do you make cheese?", "--url", backend, name, "5", "--details")
        assert len(said.stdout.splitlines()) == 5
        assert hfstream("chat", "--url", backend, name, "3", stdin="Hi\n").returncode == 0


def test_a_model_of_several_is_named() -> None:
    with ScriptedServer(Response([b'data: {"choices":[{"text":"Hi","finish_reason":"stop"}]}\n\n', DONE])) as server:
        done = hfstream("generate", "Hello", "--url", f"{server.url}/v1", "--model", "small")
        assert (done.returncode, done.stdout) == (0, "Hi\n"), done.stderr
        assert server.requests[0].json()["model"] == "small"


def test_serve_prints_its_url_answers_and_stops_on_ctrl_c() -> None:
    process = subprocess.Popen(
        [*HFSTREAM, "serve", "--port", "0", "--max_concurrent_requests", "3"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    with process:
        try:
            assert process.stderr is not None
            url = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
            assert url is not None
            done = hfstream("generate", "How do you make cheese?", "--url", url[0], "--max-new-tokens", "8")
            assert done.returncode == 0, done.stderr  # the model was still loading: the client was told to wait
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=SOON)
            assert process.returncode == 0
            assert "Stopped." in told
            assert "Traceback" not in told
        finally:
            process.kill()


def test_a_port_that_is_taken_is_said_plainly(backend: str) -> None:
    done = hfstream("serve", "--port", backend.rpartition(":")[2])
    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr
