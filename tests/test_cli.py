"""The command line as a person runs it: in processes of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hfstream.server import BackgroundServer
from hfstream.testing import Answer, ScriptedServer, token_events

HFSTREAM = [sys.executable, "-m", "hfstream.cli"]
ENVIRONMENT = {**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


def hfstream(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HFSTREAM, *arguments], capture_output=True, text=True, timeout=120, env=ENVIRONMENT, check=False
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
    assert "ended by length" in done.stderr


def test_generate_without_a_url_brings_its_own_backend() -> None:
    done = hfstream("generate", "How do you make cheese?")
    assert done.returncode == 0, done.stderr
    assert "milk" in done.stdout
    assert "ended by eos_token" in done.stderr
    assert "hfstream serve" in done.stderr


def test_generate_with_details_shows_tokens(backend: str) -> None:
    done = hfstream("generate", "How do you make cheese?", "--url", backend, "--max-new-tokens", "3", "--details")
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(re.match(r"StreamResponse\(token=Token\(id=\d+, text='.*', logprob=-?\d", line) for line in lines)
    assert "finish_reason=<FinishReason.Length: 'length'>" in lines[-1]


def test_generate_comes_token_by_token() -> None:
    first, *rest = token_events("Hello", " you")
    with ScriptedServer(Answer([first, 30.0, *rest])) as server:
        process = subprocess.Popen(
            [*HFSTREAM, "generate", "Hi", "--url", server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.read(5) == b"Hello"  # long before the rest
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 130
        assert server.wait_until_running(0)


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
    for command in ("generate", "serve"):
        done = hfstream(command, "--help")
        assert done.returncode == 0
        assert "examples:" in done.stdout
    assert hfstream("serve", "--no-such-thing").returncode == 2


def test_serve_prints_its_url_answers_and_stops_on_ctrl_c() -> None:
    process = subprocess.Popen(
        [*HFSTREAM, "serve", "--port", "0", "--max_concurrent_requests", "3"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        url = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert url is not None
        done = hfstream("generate", "How do you make cheese?", "--url", url[0], "--max-new-tokens", "8")
        assert done.returncode == 0, done.stderr  # the model was still loading: the client was told to wait
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
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
