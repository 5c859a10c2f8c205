"""`hfstream serve`: runs the reference server."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import shlex

from ..core.urls import origin
from ..version import __version__
from .terminal import Terminal

__all__ = ["serve"]


def serve(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Runs the server until Ctrl-C."""
    from .. import server  # noqa: PLC0415  an optional dependency, and slow to import
    from ..server import ray as server_on_ray  # noqa: PLC0415

    names = {field.name for field in dataclasses.fields(server.Settings)}
    given = {name: value for name, value in vars(arguments).items() if name in names and value is not None}
    settings = server.Settings(**given)
    _configure_logging(arguments.log_level)
    # Without their paths, users and passwords.
    what = ", ".join(map(origin, settings.upstreams)) or settings.model_name

    def loading(url: str) -> None:
        terminal.print_note(f"hfstream {__version__} is loading {what}; until then, {url} answers with 503.")

    def ready(url: str) -> None:
        terminal.print_note(f"hfstream {__version__} is serving {what} at {url}", style="")
        if settings.uds is None:
            terminal.print_note(f'Try: hfstream generate "How do you make cheese?" --url {url}')
            terminal.print_note(f"Demo page: {url}/demo\nPress Ctrl-C to stop.")
        else:
            path = shlex.quote(settings.uds)
            terminal.print_note(f"Try: curl --unix-socket {path} http://localhost/health\nPress Ctrl-C to stop.")

    def print_waiting(requests: str, seconds: float) -> None:
        terminal.print_note(f"Waiting up to {seconds:g} s for {requests}. Press Ctrl-C again to stop now.", style="")

    def stopping(running: int, seconds: float) -> None:
        print_waiting("1 running request" if running == 1 else f"{running} running requests", seconds)

    try:
        if arguments.replicas is None:
            started = None if settings.upstreams else loading
            server.serve(settings, started=started, ready=ready, stopping=stopping)
        else:
            server_on_ray.serve_replicas(
                settings,
                arguments.replicas,
                log_level=arguments.log_level,
                started=ready,  # once all replicas have loaded the model
                stopping=lambda: print_waiting("running requests", settings.shutdown_grace),
            )
    except server.StartError as error:
        return terminal.print_error(error)
    terminal.print_note("Stopped.")
    return 0


def _configure_logging(level: str) -> None:
    """Writes the server's log to stderr, and warnings of other libraries."""
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(message)s", level=logging.WARNING)
    logging.getLogger("hfstream").setLevel(level.upper())
