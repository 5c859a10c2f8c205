"""`hfstream record`: a proxy that records the responses of a real server on a tape."""

from __future__ import annotations

import argparse
import os
import shlex
import threading
from pathlib import Path
from urllib.parse import urlsplit

from ..testing import Recorder, Recording
from ..version import __version__
from .terminal import Terminal, cannot_listen, count, printable, wait_for_interrupt

__all__ = ["record"]


def record(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Records until Ctrl-C. Each response is on the tape when it has ended. Returns 1 if one could not be written."""
    origin, prefix = split_url(arguments.url)
    tape = _Tape(Path(arguments.file), terminal, append=arguments.append)
    try:
        recorder = Recorder(origin, host=arguments.host, port=arguments.port, on_recording=tape.add)
    except OSError as error:
        tape.remove_if_empty()
        raise ValueError(cannot_listen(error, arguments)) from error
    with recorder:
        terminal.print_note(
            f"hfstream {__version__} records {redact(arguments.url)} into {arguments.file}: use the URL "
            f"{recorder.url}{prefix}",
            style="",
        )
        terminal.print_note("Keys, cookies and query strings are not recorded.\nPress Ctrl-C to stop.")
        wait_for_interrupt()
    tape.remove_if_empty()
    terminal.print_note(f"Stopped. {count(tape.written, 'response')} recorded.", style="")
    if tape.written:
        terminal.print_note(f"Replay with: hfstream mock {shlex.quote(arguments.file)}")
    return int(tape.failed)


def split_url(url: str) -> tuple[str, str]:
    """The URL of a server without its path, and the path: a proxy has the same paths as its server."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    try:
        is_server = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # of the port
        is_server = False
    if not is_server:
        raise ValueError(f"{redact(url)} is not the URL of a server: write, for example, http://127.0.0.1:8080")
    return f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")


def redact(url: str) -> str:
    """The URL without user, password and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


class _Tape:
    """The file, to which connections of several threads add their recordings."""

    def __init__(self, path: Path, terminal: Terminal, *, append: bool) -> None:
        self.written = 0
        self.failed = False
        self._path = path
        self._terminal = terminal
        self._lock = threading.Lock()
        try:
            size = path.stat().st_size if path.exists() else 0
            if size and not append:
                raise ValueError(f"{path} exists: give another name, or --append to add to it")
            if size:
                Recording.load_all(path)
            with path.open("ab"):
                pass  # fails now rather than after the first response
        except OSError as error:
            raise ValueError(f"cannot write {path}: {os.strerror(error.errno or 0)}") from error

    def add(self, recording: Recording) -> None:
        """Writes a recording, and prints a line about it."""
        with self._lock:
            if recording.status:
                self._write(recording)
            self._print(recording)

    def remove_if_empty(self) -> None:
        """Leaves no file where nothing was recorded."""
        if self._path.is_file() and not self._path.stat().st_size:
            self._path.unlink()

    def _write(self, recording: Recording) -> None:
        try:
            recording.save(self._path, append=True)
            self.written += 1
        except OSError as error:
            self.failed = True
            self._terminal.print_error(ValueError(f"cannot write {self._path}: {error.strerror}"))

    def _print(self, recording: Recording) -> None:
        asked = f"{recording.method} {printable(recording.path)}"
        if not recording.status:
            why = "the client left before a response came" if recording.ending == "client_closed" else "not reached"
            self._terminal.print_note(f"   -  {asked}  not recorded: {why}", style="yellow")
            return
        size = sum(len(chunk.data) for chunk in recording.chunks)
        counts = f"{count(len(recording.chunks), 'chunk')}, {count(size, 'byte')} in {recording.ended_at:.2f} s"
        ending = {"complete": "", "lost": ", connection lost", "client_closed": ", the client left"}[recording.ending]
        line = f"{self.written:>4}  {recording.status}  {asked}  {counts}{ending}"
        self._terminal.print_note(line, style="yellow" if ending else "")
