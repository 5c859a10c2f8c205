"""``hfstream serve --replicas`` or ``serve run`` in a process of its own, and the processes of its replicas.

Linux only: reads /proc.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from hfstream.server.ray_proxy import CALLBACK
from tests.helpers.ports import unused_port

ROOT = Path(__file__).parents[2]
SECONDS_TO_START = 300
"""On a busy machine too: only what fails takes this long."""


@dataclass(frozen=True)
class Serving:
    """A running server."""

    url: str
    process: subprocess.Popen[Any]

    def replicas(self) -> list[int]:
        """The ids of the processes that run replicas, the oldest first: their numbers begin again at some time."""
        children: dict[int, list[int]] = {}
        started: dict[int, int] = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                _, parent, *fields = (directory / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            children.setdefault(int(parent), []).append(int(directory.name))
            started[int(directory.name)] = int(fields[17])
        descendants, found = [self.process.pid], []
        while descendants:
            process = descendants.pop()
            descendants += children.get(process, [])
            if _command(process).startswith("ray::ServeReplica"):
                found.append(process)
        return sorted(found, key=lambda process: started[process])

    def wait_for_replicas(self, count: int, *, without: set[int] | frozenset[int] = frozenset()) -> list[int]:
        """Waits for `count` processes of replicas that are none of `without`. They may still load their models."""
        deadline = time.monotonic() + SECONDS_TO_START
        while len(found := [each for each in self.replicas() if each not in without]) < count:
            assert time.monotonic() < deadline, f"{len(found)} replicas run, not {count}"
            time.sleep(0.1)
        return found


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


@contextmanager
def serving(*options: str) -> Iterator[Serving]:
    """Starts it with `options`, and stops it as Ctrl-C does. Its replicas are ready in the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hfstream.cli", "serve", "--port", str(unused_port()), *options],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=_environment(),
    )  # fmt: skip
    assert process.stderr is not None
    with process:
        output = []
        try:
            for line in process.stderr:
                output.append(line)
                if found := re.search(r"is serving .* at (\S+)$", line):
                    threading.Thread(target=process.stderr.read, daemon=True).start()  # or the pipe fills up
                    yield Serving(found[1], process)
                    break
            else:
                raise AssertionError("the server did not start: " + "".join(output))
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def serve_run(directory: Path, arguments: dict[str, Any], options: dict[str, Any]) -> Iterator[Serving]:
    """Ray's own ``serve run`` with a config file, in a Ray of its own: one replica at least is ready in the block.

    `arguments` are those of the application, `options` those of its deployment by Ray's names.
    """
    port = unused_port()
    application = {
        "name": "hfstream",
        "import_path": "hfstream.server.ray:app",
        "args": arguments,
        "deployments": [{"name": "hfstream", **options}],
    }
    config = {"http_options": {"host": "127.0.0.1", "port": port}, "applications": [application]}
    (directory / "serve.yaml").write_text(json.dumps(config))  # which is YAML too
    environment = {**_environment(), "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": CALLBACK}
    url = f"http://127.0.0.1:{port}"
    with (directory / "log").open("w") as log:
        serve = Path(sys.executable).parent / "serve"
        command = [str(serve), "run", "--address", "local", str(directory / "serve.yaml")]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    with process:
        try:
            deadline = time.monotonic() + SECONDS_TO_START
            while not _answers(url):
                assert process.poll() is None, (directory / "log").read_text()
                assert time.monotonic() < deadline, (directory / "log").read_text()
                time.sleep(0.5)
            yield Serving(url, process)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.terminate()
            process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
