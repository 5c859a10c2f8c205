"""Tests of `hfstream serve`."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest

from tests.helpers.command_line import ENVIRONMENT, HFSTREAM, TIMEOUT, run_hfstream

pytestmark = pytest.mark.slow


def test_serve_prints_its_url_and_stops_on_ctrl_c() -> None:
    process = subprocess.Popen(
        [*HFSTREAM, "serve", "--port", "0", "--max_concurrent_requests", "3"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    with process:
        try:
            assert process.stderr is not None
            url = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
            assert url is not None
            done = run_hfstream("generate", "How do you make cheese?", "--url", url[0], "--max-new-tokens", "8")
            assert done.returncode == 0, done.stderr  # retried while the model was loading
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=TIMEOUT)
            assert process.returncode == 0
            assert "Stopped." in stderr
            assert "Traceback" not in stderr
        finally:
            process.kill()


def test_a_port_in_use_is_a_one_line_error(backend: str) -> None:
    done = run_hfstream("serve", "--port", backend.rpartition(":")[2])
    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr
