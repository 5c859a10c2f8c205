"""The process that a worker runs in: started, written to, read from and ended by the server.

The server does not import torch, its event loop shares no interpreter lock with the model, and a model process that
dies (out of memory, a crash) takes no server with it. Not `multiprocessing`, whose children import `__main__` again: a
script would need ``if __name__ == "__main__"`` to start a `BackgroundServer`.

Does not depend on what the messages mean.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Generator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from .channel import Channel
from .protocol import EngineOptions, ModelProcessError
from .worker import Command, Report

if TYPE_CHECKING:
    import io

CODE = """
import os, sys, types
server, sys.path[:] = sys.argv[1], sys.argv[2:]
for name, path in ("hfstream", os.path.dirname(server)), ("hfstream.server", server):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from hfstream.server.engine.child import main
main()
"""
"""What the process runs. It finds modules where this process does, however `sys.path` came about.

Of the two packages around the engine it has no more than their path. Their own modules would import the client and the
web server: half a second before the model is loaded, and 40 MB.
"""

EXIT_SECONDS = 5.0
"""How long a process may take to end once it has closed its output."""


class ModelProcess:
    """A process with a worker. `send` and `kill` may be called from any thread, the rest from one."""

    def __init__(self, options: EngineOptions) -> None:
        """Start it.

        Raises:
            OSError: the system starts no further process.
        """
        detached: dict[str, Any] = {"start_new_session": True}  # Ctrl-C is for the server alone
        if sys.platform == "win32":
            detached = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        self._process = subprocess.Popen(  # noqa: S603
            # No shell, and all arguments are this process's own.
            [sys.executable, "-P", "-c", CODE, str(Path(__file__).parents[1]), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if sys.__stderr__ else subprocess.DEVNULL,  # a program without a console has none to inherit
            **detached,
        )
        self._stdin, self._stdout = cast("BinaryIO", self._process.stdin), cast("BinaryIO", self._process.stdout)
        self._channel = Channel(self._stdout, self._stdin)
        self._outbox: SimpleQueue[Command | None] = SimpleQueue()
        self._writer = threading.Thread(target=self._write, args=(options,), name="hfstream-engine-writer", daemon=True)
        self._writer.start()
        _running.add(self)

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def send(self, command: Command) -> None:
        """Send a command, without waiting for the pipe: the event loop calls this."""
        self._outbox.put(command)

    def reports(self) -> Generator[Report]:
        """The worker's reports, to the end of the process; the last one is an error that says why it ended."""
        report: Report | None = None
        try:
            while True:
                report = cast("Report", self._channel.receive())
                yield report
        except (EOFError, OSError):
            pass
        if not isinstance(report, Exception):
            yield ModelProcessError(f"the model process has ended ({self._describe_end()})")

    def kill(self) -> None:
        """End the process now. It has nothing to save."""
        self._process.kill()

    def close(self) -> None:
        """End the process, if it has not ended, and everything that belongs to it here."""
        self.kill()
        self._process.wait()
        self._outbox.put(None)
        self._writer.join()
        self._stdout.close()

    def close_after_fork(self) -> None:
        """In a forked copy of the server: close the pipe to the process, which ends when all copies have done that."""
        cast("io.BufferedWriter", self._stdin).raw.close()  # not the buffer, whose lock another thread may have held

    def _write(self, options: EngineOptions) -> None:
        """Write commands, those that come together as one message. Runs on a thread, and closes the pipe at its end."""
        try:
            self._channel.send((options, logging.getLogger("hfstream").getEffectiveLevel()))
            while (command := self._outbox.get()) is not None:
                self._channel.send([command, *self._further_commands()])
        except OSError:
            pass  # the process has ended; who reads its reports will see that
        finally:
            _close(self._stdin)

    def _further_commands(self) -> Generator[Command]:
        while True:
            try:
                command = self._outbox.get_nowait()
            except Empty:
                return
            if command is None:
                self._outbox.put(None)
                return
            yield command

    def _describe_end(self) -> str:
        try:
            status = self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        if status >= 0:
            return f"exit status {status}"
        name = {each.value: each.name for each in signal.Signals}.get(-status, f"signal {-status}")
        return f"{name}: perhaps it was out of memory" if name == "SIGKILL" else name


_running: weakref.WeakSet[ModelProcess] = weakref.WeakSet()


def _close_after_fork() -> None:
    for process in list(_running):
        process.close_after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_close_after_fork)


def _close(pipe: BinaryIO) -> None:
    with contextlib.suppress(OSError):  # what is buffered cannot be written any more: the process has ended
        pipe.close()
