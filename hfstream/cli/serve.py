"""`hfstream serve`: the reference backend."""

from __future__ import annotations

import argparse

from ..version import __version__
from .terminal import Terminal

__all__ = ["serve"]


def serve(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Serves until Ctrl-C."""
    from .. import server  # noqa: PLC0415  an extra, and slow to import

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
        terminal.say(f"hfstream {__version__} serves {settings.model} at {url}", style="")
        terminal.say(f'Try: hfstream generate "How do you make cheese?" --url {url}')
        terminal.say(f"Watch: {url}/demo\nCtrl-C ends it.")

    try:
        server.serve(settings, started=started)
    except server.StartError as error:
        return terminal.complain(error)
    terminal.say("Stopped.")
    return 0
