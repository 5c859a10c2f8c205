"""`hfstream mock`: answers like a model, by rules or from a tape."""

from __future__ import annotations

import argparse

from ..testing import MockedRequest, MockServer
from ..version import __version__
from .terminal import Terminal, cannot_listen, count, printable, wait_for_interrupt

__all__ = ["mock"]

KEPT_REQUESTS = 1000
"""How many requests are kept in memory: the server may run for days."""


def mock(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Answers until Ctrl-C, and prints each request with what answers it."""
    try:
        server = MockServer.from_file(
            arguments.file,
            speed=arguments.speed,
            match=arguments.match,
            host=arguments.host,
            port=0 if arguments.check else arguments.port,
            keep=KEPT_REQUESTS,
            on_request=lambda noted: _print_request(noted, terminal),
        )
    except OSError as error:
        raise ValueError(_explain(error, arguments)) from error
    if arguments.check:
        server.close()
        terminal.print_note(f"{arguments.file} is valid.", style="")
        return 0
    try:
        with server:
            terminal.print_note(f"hfstream {__version__} answers by {arguments.file} at {server.url}", style="")
            terminal.print_note(f"OpenAI's clients: base_url={server.url}/v1\nPress Ctrl-C to stop.")
            wait_for_interrupt()
    finally:  # also where an answer has failed, which is raised when the server closes
        _print_summary(server, terminal)
    return 0


def _explain(error: OSError, arguments: argparse.Namespace) -> str:
    if error.filename is not None:
        return f"cannot read {arguments.file}: {error.strerror}"
    return cannot_listen(error, arguments)


def _print_request(noted: MockedRequest, terminal: Terminal) -> None:
    """One line: ``3  200  rule 2 (line 14)  POST /v1/chat/completions  user "How ..."``."""
    source = noted.source or "NOTHING MATCHES"
    request = noted.request
    asked = f"  {noted.asked}" if noted.asked else ""
    line = f"{noted.number:>4}  {noted.status}  {source:<16}  {request.method} {request.path.partition('?')[0]}{asked}"
    terminal.print_note(printable(line), style="" if noted.source else "yellow")


def _print_summary(server: MockServer, terminal: Terminal) -> None:
    terminal.print_note(
        f"Stopped after {count(server.count, 'request')}, {server.unmatched_count} of them without a match.", style=""
    )
    if server.unused:
        terminal.print_note(f"Not used: {', '.join(server.unused)}.")
