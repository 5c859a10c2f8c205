"""The backend for clients that we did not write.

These tests run outside of the suite, each client in an environment of its own: ``nox -s clients``. The server runs in
another one, whose interpreter is named by HFSTREAM_PYTHON, because some clients and the server cannot be installed
together. Nothing here imports hfstream.

With HFSTREAM_BEHIND=tgi or HFSTREAM_BEHIND=openai the same clients get a server in front of the backend, which has the
API key and the limit of concurrent requests: ``nox -s clients_upstream``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

PYTHON = os.environ.get("HFSTREAM_PYTHON", sys.executable)
KEY = "a-key-for-tests"
BEHIND = os.environ.get("HFSTREAM_BEHIND", "")
FRONT_OPTIONS = ("--api-key", "--max-concurrent-requests")


@contextmanager
def serving(*options: str) -> Iterator[str]:
    """``hfstream serve`` on a free port; its URL, once the model answers. As HFSTREAM_BEHIND says, in front of it."""
    if not BEHIND:
        with _serving(*options) as url:
            yield url
        return
    pairs = list(zip(options[::2], options[1::2], strict=True))
    behind = [text for pair in pairs if pair[0] not in FRONT_OPTIONS for text in pair]
    front = [text for pair in pairs if pair[0] in FRONT_OPTIONS for text in pair]
    with _serving(*behind) as model:
        upstream = f"{model}/v1" if BEHIND == "openai" else model
        with _serving("--upstream", upstream, *front) as url:
            yield url


@contextmanager
def _serving(*options: str) -> Iterator[str]:
    with _running("serve", *options) as url:
        _wait_until_healthy(url)
        yield url


@contextmanager
def _running(name: str, *options: str) -> Iterator[str]:
    """A command of hfstream that serves on a free port; its URL."""
    command = [PYTHON, "-m", "hfstream.cli", name, "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            output = []
            for line in process.stderr:
                output.append(line)
                if " at http://" in line:
                    yield line.rpartition(" at ")[2].strip()
                    break
            else:
                pytest.fail("the server did not start: " + "".join(output))
        finally:
            process.terminate()
            process.stderr.read()


def _wait_until_healthy(url: str) -> None:
    """The port is open before the model is loaded; until then the server says 503."""
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
        except urllib.error.HTTPError:
            assert time.monotonic() < deadline, "the model does not load"
            time.sleep(0.1)
        else:
            return


@pytest.fixture(scope="session")
def backend() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture(scope="session")
def guarded() -> Iterator[str]:
    """One that asks for KEY."""
    with serving("--api-key", KEY) as url:
        yield url


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts ``hfstream mock`` with rules."""
    with ExitStack() as stack:

        def start(*rules: Any, **fields: Any) -> str:
            path = tmp_path / "rules.json"
            path.write_text(json.dumps({"rules": rules, **fields}), encoding="utf-8")
            return stack.enter_context(_running("mock", str(path)))

        yield start


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., str]]:
    """Starts one more, with options."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(serving(*options))
