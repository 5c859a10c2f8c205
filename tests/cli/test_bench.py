"""Tests of `hfstream bench`."""

from __future__ import annotations

import signal
import subprocess

import pytest

from hfstream.testing import Fault, Response, ScriptedServer, token_event, token_events
from tests.helpers.command_line import ENVIRONMENT, HFSTREAM, TIMEOUT, run_hfstream

pytestmark = pytest.mark.slow


def test_bench_measures_streams(backend: str) -> None:
    done = run_hfstream("bench", backend, "--requests", "6", "--concurrency", "3", "--max-new-tokens", "8")
    assert done.returncode == 0, done.stderr
    assert "6 requests, concurrency 3" in done.stdout
    assert "tokens            48 (" in done.stdout
    assert "6 for 6 responses" in done.stdout


def test_ctrl_c_ends_bench_with_the_results_so_far() -> None:
    with ScriptedServer(
        Response(token_events("Hello", ",", " you")), Response([token_event(1, "Hi"), Fault.STALL])
    ) as server:
        process = subprocess.Popen(
            [*HFSTREAM, "bench", server.url, "--requests", "9", "--concurrency", "2"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        )  # fmt: skip
        with process:
            try:
                assert server.wait_until_running(2)
                assert len(server.requests) == 3
                process.send_signal(signal.SIGINT)
                stdout, stderr = process.communicate(timeout=TIMEOUT)
            finally:
                process.kill()
    assert (process.returncode, stderr) == (130, "")
    assert "1 of 9 requests, concurrency 2" in stdout
    assert "tokens            3 (" in stdout


def test_bench_counts_failures_by_message() -> None:
    with ScriptedServer(Response.error(422, "no", "validation")) as server:
        done = run_hfstream("bench", server.url, "--requests", "3")
        assert done.returncode == 1
        assert "3 x ValidationError: no" in done.stdout
