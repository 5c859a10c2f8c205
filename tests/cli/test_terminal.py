"""Tests of what all commands share: retries and error messages."""

from __future__ import annotations

import contextlib
import os
import sys

import pytest

from hfstream.cli.terminal import Terminal
from hfstream.testing import Response, ScriptedServer, faults, token_events
from tests.helpers.command_line import run_hfstream


def test_an_overloaded_server_is_retried_with_one_note() -> None:
    with ScriptedServer(*[faults.overloaded(0.01)] * 4, Response(token_events("Hello"))) as server:
        done = run_hfstream("generate", "Hi", "--url", server.url)
        assert (done.returncode, done.stdout) == (0, "Hello\n")
        assert done.stderr.count("Model is overloaded; retrying") == 1


@pytest.mark.slow
def test_errors_are_one_line_with_exit_code_1(backend: str) -> None:
    for arguments, message in [
        (["--url", "http://127.0.0.1:9"], "cannot connect to http://127.0.0.1:9"),
        (["--url", backend, "--max-new-tokens", "0"], "`max_new_tokens` must be strictly positive"),
        (["--url", "localhost:8080"], "did you mean 'http://localhost:8080'"),
    ]:
        done = run_hfstream("generate", "Hi", *arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_notes_are_shown_in_no_columns_and_dropped_where_nothing_reads_them(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    Terminal().print_note("a note")
    assert capfd.readouterr().err == "a note\n"
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stderr", closed)
        terminal = Terminal()
        terminal.print_note("not read")
        terminal.print_note("not read")
        monkeypatch.undo()
        with contextlib.suppress(BrokenPipeError):
            closed.close()
    os.write(1, b"stdout is as it was\n")
    assert capfd.readouterr().out == "stdout is as it was\n"
