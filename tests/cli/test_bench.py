"""Tests of `hfstream bench`."""

from __future__ import annotations

import pytest

from hfstream.testing import Response, ScriptedServer
from tests.helpers.command_line import run_hfstream

pytestmark = pytest.mark.slow


def test_bench_measures_streams(backend: str) -> None:
    done = run_hfstream("bench", backend, "--requests", "6", "--concurrency", "3", "--max-new-tokens", "8")
    assert done.returncode == 0, done.stderr
    assert "6 requests, concurrency 3" in done.stdout
    assert "tokens            48 (" in done.stdout
    assert "6 for 6 responses" in done.stdout


def test_bench_counts_failures_by_message() -> None:
    with ScriptedServer(Response.error(422, "no", "validation")) as server:
        done = run_hfstream("bench", server.url, "--requests", "3")
        assert done.returncode == 1
        assert "3 x ValidationError: no" in done.stdout
