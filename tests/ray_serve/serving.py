"""``hfstream serve --replicas`` in a process of its own, and the processes of its replicas. Linux only: reads /proc."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS_TO_START = 300
"""On a busy machine too: only what fails takes this long."""


@dataclass(frozen=True)
class Serving:
    """A running server."""

    url: str
    process: subprocess.Popen[str]

    def replicas(self) -> list[int]:
        """The ids of the processes that run replicas."""
        children: dict[int, list[int]] = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended
                continue
            children.setdefault(parent, []).append(int(directory.name))
        descendants, found = [self.process.pid], []
        while descendants:
            process = descendants.pop()
            descendants += children.get(process, [])
            if _command(process).startswith("ray::ServeReplica"):
                found.append(process)
        return sorted(found)

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
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-m", "hfstream.cli", "serve", "--port", str(port), *options],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ, "PYTHONPATH": path},
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
