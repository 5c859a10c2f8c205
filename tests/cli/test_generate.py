"""Tests of `hfstream generate`."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess

import pytest

from hfstream.testing import Response, ScriptedServer, token_events
from tests.helpers.command_line import ENVIRONMENT, HFSTREAM, PAUSE, TIMEOUT, TerminalProcess, run_hfstream
from tests.helpers.processes import children_of, is_running
from tests.helpers.scripted_engine import eventually

pytestmark = pytest.mark.slow


def test_generate_writes_text_to_stdout_and_the_summary_to_stderr(backend: str) -> None:
    done = run_hfstream("generate", "How do you make cheese?", "--url", backend, "--max-new-tokens", "20")
    assert done.returncode == 0
    assert "milk" in done.stdout
    assert "20 tokens" in done.stderr
    assert "finish reason: length" in done.stderr


def test_generate_without_a_url_starts_a_server() -> None:
    done = run_hfstream("generate", "How do you make cheese?")
    assert done.returncode == 0, done.stderr
    assert "milk" in done.stdout
    assert "finish reason: eos_token" in done.stderr
    assert "hfstream serve" in done.stderr


def test_the_hint_quotes_the_prompt_for_the_shell() -> None:
    done = run_hfstream("generate", 'What\'s "$HOME"?', "--max-new-tokens", "2")
    command = done.stderr.partition("another terminal: ")[2].splitlines()[0]
    assert shlex.split(command) == ["hfstream", "generate", 'What\'s "$HOME"?', "--url", "http://127.0.0.1:8080"]


def test_details_prints_one_line_per_token(backend: str) -> None:
    done = run_hfstream("generate", "How do you make cheese?", "--url", backend, "--max-new-tokens", "3", "--details")
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(r"'.*' +\d+\.\d%  id \d+", line) for line in lines)


def test_details_in_a_terminal_shows_probability_bars(backend: str) -> None:
    arguments = ["--url", backend, "--max-new-tokens", "3", "--details"]
    with TerminalProcess("generate", "How do you make cheese?", *arguments) as screen:
        screen.wait_for("100.0%  ██████████  id ")
        screen.wait_for("finish reason: length")


def test_json_prints_one_json_value_per_token(backend: str) -> None:
    done = run_hfstream(
        "generate", "--json", "--url", backend, "--max-new-tokens", "3", stdin="How do you make cheese?"
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["index"] for event in events] == [1, 2, 3]
    assert events[-1]["details"]["finish_reason"] == "length"


def test_generate_reads_the_prompt_from_stdin(backend: str) -> None:
    arguments = ["--url", backend, "--max-new-tokens", "20"]
    expected = run_hfstream("generate", "How do you make cheese?", *arguments).stdout
    assert run_hfstream("generate", *arguments, stdin="How do you make cheese?").stdout == expected
    assert run_hfstream("generate", "-", *arguments, stdin="How do you make cheese?").stdout == expected


def test_ctrl_c_during_generate_exits_with_130() -> None:
    first, *rest = token_events("Hello", " you")
    with ScriptedServer(Response([first, *PAUSE, *rest])) as server:
        process = subprocess.Popen(
            [*HFSTREAM, "generate", "Hi", "--url", server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )  # fmt: skip
        with process:
            try:
                assert process.stdout is not None
                assert process.stdout.read(5) == b"Hello"  # long before the rest is sent
                process.send_signal(signal.SIGINT)
                stdout, stderr = process.communicate(timeout=TIMEOUT)
                assert (process.returncode, stdout) == (130, b"\n")  # the open line is closed
                assert b"Traceback" not in stderr
                assert server.wait_until_running(0)
            finally:
                process.kill()


def test_ctrl_c_while_the_model_is_loaded_ends_quietly() -> None:
    process = subprocess.Popen(
        [*HFSTREAM, "generate", "Hi"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    with process:
        try:
            assert eventually(lambda: bool(children_of(process.pid)))
            [model] = children_of(process.pid)
            os.kill(model, signal.SIGSTOP)  # so that the model is not loaded before the signal comes
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=TIMEOUT) == (b"", b"")
        finally:
            process.kill()
    assert process.returncode == 130
    assert not is_running(model)
