"""examples/gradio_chat.py as it is, asked by Gradio's own client."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client

EXAMPLE = Path(__file__).parents[2] / "examples" / "gradio_chat.py"


@pytest.fixture(scope="module")
def slow(serve: Callable[..., str]) -> str:
    """A backend that takes seconds for an answer."""
    return serve("--tokens-per-second", "30")


@pytest.fixture(scope="module")
def build_app(slow: str) -> Iterator[Client]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    process = subprocess.Popen([sys.executable, str(EXAMPLE), slow], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert any("Running on" in line for line in process.stdout)
        yield Client(f"http://127.0.0.1:{port}", verbose=False)
    finally:
        process.terminate()
        process.communicate(timeout=20)


def permits(url: str) -> int:
    lines = urllib.request.urlopen(f"{url}/metrics").read().decode().splitlines()
    return int(next(line for line in lines if line.startswith("hfstream_permits_taken ")).split()[1])


def test_the_answer_grows(build_app: Client) -> None:
    seen: list[Any] = list(build_app.submit("How do you make cheese?", api_name="/answer"))
    assert len(seen) > 5
    assert all(after.startswith(before) for before, after in itertools.pairwise(seen))
    assert "milk" in seen[-1]


def test_what_was_said_is_heard(build_app: Client) -> None:
    """A second turn: Gradio's history is what the server takes."""
    assert "milk" in build_app.predict("How do you make cheese?", api_name="/answer")
    assert "blue" in build_app.predict("Why is the sky blue?", api_name="/answer")


def test_cancelling_stops_the_model(build_app: Client, slow: str) -> None:
    job = build_app.submit("How do you make cheese?", api_name="/answer")
    assert next(iter(job))
    assert permits(slow) == 1
    job.cancel()
    until = time.monotonic() + 3  # the whole answer takes longer
    while permits(slow):
        assert time.monotonic() < until, "the server goes on generating"
        time.sleep(0.02)
