"""The journal of `client.map`: an SQLite file with the answers so far, from which an interrupted run goes on.

Every answer is in the file before its result is returned, so a process that is killed loses none. Does not depend on
how prompts are asked.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Generator
from pathlib import Path

from .core.map_results import JournalError

__all__ = ["Journal"]

_APPLICATION_ID = 0x68667374  # "hfst", in the header of the file: https://www.sqlite.org/pragma.html
_VERSION = 1

_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
CREATE TABLE answers (number INTEGER PRIMARY KEY, prompt BLOB NOT NULL, output TEXT);
"""


class Journal:
    """The answers of one run, by the number of the prompt. Used by one run at a time, also across processes.

    Raises:
        JournalError: the file cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        with self._errors():
            # Any thread may close it; only the one that iterates over the results uses it before.
            self._database = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            with self._errors():
                self._open()
        except BaseException:
            self._database.close()
            raise

    def _open(self) -> None:
        # Locked until it is closed: two runs would ask everything twice. With a write-ahead log, a commit is a write
        # to a file without waiting for the disk; the file is consistent whenever the process, or the machine, stops.
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        [(application_id,)] = self._database.execute("PRAGMA application_id")
        [(version,)] = self._database.execute("PRAGMA user_version")
        [(tables,)] = self._database.execute("SELECT count(*) FROM sqlite_master")
        if application_id != _APPLICATION_ID and (tables or version):
            raise JournalError(f"{self._path} is a database, but not a journal of map(): choose another file")
        if application_id == _APPLICATION_ID and version != _VERSION:
            raise JournalError(f"{self._path} is of another version of hfstream: choose another file")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute("BEGIN IMMEDIATE")
        if application_id != _APPLICATION_ID:
            for statement in _SCHEMA.strip().splitlines():
                self._database.execute(statement)
        self._database.execute("COMMIT")

    def find(self, number: int, prompt: bytes) -> str | None:
        """The answer to a prompt, if there is one; `prompt` is its digest, which is noted if it is new.

        Raises:
            JournalError: the journal has another prompt, or the same with other parameters, under this number.
        """
        with self._errors():
            row = self._database.execute("SELECT prompt, output FROM answers WHERE number = ?", (number,)).fetchone()
            if row is None:
                self._begin()
                self._database.execute("INSERT INTO answers VALUES (?, ?, NULL)", (number, prompt))
                return None
        noted, output = row
        if noted != prompt:
            raise JournalError(
                f"{self._path} is the journal of another run: prompt number {number} (counted from 0), or the "
                "parameters, are not the same. Pass what that run was given, or choose another file"
            )
        return str(output) if output is not None else None

    def add(self, number: int, output: str) -> None:
        """Writes an answer down. It is safe after `commit`."""
        with self._errors():
            self._begin()
            self._database.execute("UPDATE answers SET output = ? WHERE number = ?", (output, number))

    def _begin(self) -> None:
        if not self._database.in_transaction:
            self._database.execute("BEGIN")

    def commit(self) -> None:
        """Makes what was written so far survive the end of the process."""
        if self._database.in_transaction:
            with self._errors():
                self._database.execute("COMMIT")

    def close(self) -> None:
        """Closes the file, whose additional files then disappear. Again, it has no effect."""
        with contextlib.suppress(sqlite3.Error):  # what was committed is in the file
            self._database.close()

    @contextlib.contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extended part
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise JournalError(f"{self._path} is in use by another run: wait for its end") from error
            if code == sqlite3.SQLITE_NOTADB:
                raise JournalError(f"{self._path} is not a journal of map(): choose another file") from error
            raise JournalError(f"the journal {self._path} cannot be used: {error}") from error
