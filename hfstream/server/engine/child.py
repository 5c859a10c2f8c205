"""The model process: `main` runs a worker between two pipes. `process.ModelProcess` starts it.

It ends at once when its input ends, whatever it is doing: so no model process is left behind, however its server ended.
Does not depend on what the worker does.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import traceback
from logging.handlers import QueueHandler
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

from .channel import Channel
from .protocol import EngineOptions, ModelInfo
from .worker import Command, run


def main() -> None:
    """Run the worker whose options are the first message, until the input ends or the worker does."""
    # The server decides when this process ends. A signal for the whole group (Ctrl-C in a terminal, a supervisor's
    # SIGTERM) reaches the server too, which may let its requests finish first.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    channel = _take_pipes()
    try:
        options, log_level = channel.receive()
        _forward_logs(channel, log_level)
        _work(channel, options)
    except (EOFError, OSError):
        pass  # the server has ended
    except BaseException:  # noqa: BLE001 - a report that cannot be sent
        traceback.print_exc()
    finally:
        os._exit(1)  # not sys.exit: libraries may hold threads that never end


def _work(channel: Channel, options: EngineOptions) -> None:
    inbox: SimpleQueue[Command | None] = SimpleQueue()
    threading.Thread(target=_read_commands, args=(channel, inbox), daemon=True).start()
    for report in run(options, inbox):
        channel.send(report)
        if isinstance(report, ModelInfo):
            gc.freeze()  # libraries and model stay: the garbage collector need not look through them between steps


def _read_commands(channel: Channel, inbox: SimpleQueue[Command | None]) -> None:
    try:
        while True:
            for command in channel.receive():
                inbox.put(command)
    finally:
        os._exit(0)  # the server has ended, or closes the engine


def _take_pipes() -> Channel:
    """A channel over stdin and stdout, which other code cannot use any more: what it prints goes to stderr."""
    reader, writer = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    sys.stdout = sys.stderr
    return Channel(reader, writer)


def _forward_logs(channel: Channel, level: int) -> None:
    """Send log records to the server, where the application's own handlers take them."""
    root = logging.getLogger()
    root.setLevel(level)
    root.addHandler(QueueHandler(cast("Any", SimpleNamespace(put_nowait=channel.send))))
