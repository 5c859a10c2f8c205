"""`hfstream serve`: runs the reference server."""

from __future__ import annotations

import argparse

from ..version import __version__
from .terminal import Terminal

__all__ = ["serve"]


def serve(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Runs the server until Ctrl-C."""
    from .. import server  # noqa: PLC0415  an optional dependency, and slow to import

    settings = server.Settings(
        model=arguments.model,
        host=arguments.host,
        port=arguments.port,
        max_concurrent_requests=arguments.max_concurrent_requests,
        api_key=arguments.api_key,
        tokens_per_second=arguments.tokens_per_second,
        dtype=arguments.dtype,
        threads=arguments.threads,
    )

    def started(url: str) -> None:
        terminal.print_note(f"hfstream {__version__} is serving {settings.model} at {url}", style="")
        terminal.print_note(f'Try: hfstream generate "How do you make cheese?" --url {url}')
        terminal.print_note(f"Demo page: {url}/demo\nPress Ctrl-C to stop.")

    try:
        server.serve(settings, started=started)
    except server.StartError as error:
        return terminal.print_error(error)
    terminal.print_note("Stopped.")
    return 0
