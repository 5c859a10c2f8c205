"""Runs the command line in a process of its own, with pipes or in a pseudo-terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Generator
from typing import Self

from hfstream.testing import Step

__all__ = [
    "ENVIRONMENT",
    "HFSTREAM",
    "PAUSE",
    "TIMEOUT",
    "TerminalProcess",
    "run_hfstream",
    "running_hfstream",
    "stop_hfstream",
]

HFSTREAM = [sys.executable, "-m", "hfstream.cli"]
ENVIRONMENT = {**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
TIMEOUT = 120
"""Seconds that every step may take, on a busy machine too. Only a failing test takes this long."""

KEEP_ALIVE: list[Step] = [b":\n\n", 0.1]
PAUSE: list[Step] = KEEP_ALIVE * 10 * TIMEOUT
"""No more events for `TIMEOUT` seconds. The comments wake the reader: a signal that arrives between Python's last check
for signals and the blocking system call is only handled when that call returns."""


@contextlib.contextmanager
def running_hfstream(*arguments: str) -> Generator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A command that serves until Ctrl-C: its process, the first URL that it prints, and its output up to that line."""
    with subprocess.Popen(
        [*HFSTREAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        try:
            assert process.stderr is not None
            lines: list[str] = []
            for line in process.stderr:
                lines.append(line)
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    yield process, found[0], lines
                    break
            else:
                raise AssertionError(f"no URL: {''.join(lines)}")
        finally:
            process.kill()


def stop_hfstream(process: subprocess.Popen[str], name: str = "SIGINT") -> str:
    """Stops the process of `running_hfstream` with a signal; returns the rest of its output on stderr."""
    process.send_signal(signal.Signals[name])
    assert process.stderr is not None
    stderr = process.stderr.read()  # not communicate(): it does not see what is in the buffer of the file
    process.wait(TIMEOUT)
    assert "Traceback" not in stderr
    return stderr


def run_hfstream(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HFSTREAM, *arguments], capture_output=True, text=True, timeout=TIMEOUT, env=ENVIRONMENT, check=False,
        input=stdin,
    )  # fmt: skip


class TerminalProcess:
    """The command line in a pseudo-terminal. The end of the `with` block asserts that it exits with 0."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self._process = subprocess.Popen(
            [*HFSTREAM, *arguments], stdin=slave, stdout=slave, stderr=slave, env=ENVIRONMENT | {"TERM": "xterm"},
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self._unmatched = ""
        """The output after the last text that was waited for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                assert self._process.wait(TIMEOUT) == 0
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self, text: str) -> None:
        """Presses Ctrl-C until `text` appears.

        One Ctrl-C may be lost: readline checks for signals and then waits for a key, and a signal that arrives in
        between is not handled until the next key.
        """
        deadline = time.monotonic() + TIMEOUT
        self.type("\x03")
        while not self._appears(text, 2):
            assert time.monotonic() < deadline, f"{text!r} does not appear: {self._unmatched!r}"
            self.type("\x03")

    def wait_for(self, text: str) -> None:
        assert self._appears(text, TIMEOUT), f"{text!r} does not appear: {self._unmatched!r}"

    def _appears(self, text: str, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while text not in self._unmatched:
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return False
            self._unmatched += os.read(self._master, 4096).decode(errors="replace")
        self._unmatched = self._unmatched.partition(text)[2]
        return True
