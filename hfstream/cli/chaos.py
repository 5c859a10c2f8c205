"""`hfstream chaos`: a bad network in front of a real server."""

from __future__ import annotations

import argparse
import ipaddress
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from ..testing import ChaosProxy, FaultRates, ProxiedConnection
from ..testing.forwarder import Forwarder
from ..version import __version__
from .record import redact, split_url
from .terminal import Terminal, cannot_listen, count, printable, wait_for_interrupt

__all__ = ["chaos"]


def chaos(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Runs the proxy until Ctrl-C, and prints what was done to each connection, and the sum."""
    origin, prefix = split_url(arguments.url)
    weights: Mapping[str, float] = arguments.faults or {}
    rates = FaultRates(arguments.every, longest_delay=arguments.longest_delay, **weights)
    with reachable(origin) as target:
        try:
            proxy = ChaosProxy(
                target,
                seed=arguments.seed,
                rates=rates,
                host=arguments.host,
                port=arguments.port,
                on_close=lambda connection: _print_connection(connection, terminal),
            )
        except OSError as error:
            raise ValueError(cannot_listen(error, arguments)) from error
        with proxy:
            terminal.print_note(
                f"hfstream {__version__} disturbs the way to {redact(arguments.url)}: use the URL {proxy.url}{prefix}",
                style="",
            )
            terminal.print_note(f"{_describe(rates)}; seed {arguments.seed}\nPress Ctrl-C to stop.")
            wait_for_interrupt()
    connections = count(proxy.connections, "connection")
    terminal.print_note(f"Stopped after {connections}: {_counts(proxy.fault_counts)}.", style="")
    return 0


@contextmanager
def reachable(origin: str) -> Generator[str]:
    """A URL of the server to which a proxy that knows nothing of HTTP can pass on what a client sends.

    Where the server has a certificate or a name, one that knows HTTP stands between: it has TLS, and writes the name
    that the server expects in place of that of the first proxy.
    """
    parts = urlsplit(origin)
    if parts.scheme == "http" and is_address(parts.hostname or ""):
        yield origin
        return
    with Forwarder(origin) as forwarder:
        yield forwarder.url


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _describe(rates: FaultRates) -> str:
    kinds = ", ".join(f"{kind} {weight:g}" for kind, weight in rates.weights.items() if weight)
    return f"A fault every {rates.mean_bytes_between:g} bytes on average: {kinds}"


def _print_connection(connection: ProxiedConnection, terminal: Terminal) -> None:
    asked = printable(connection.first_line.removesuffix(" HTTP/1.1")) or "nothing"
    sizes = f"{connection.sent:,} bytes up, {connection.received:,} down"
    faults = _counts(connection.fault_counts)
    line = f"{connection.number:>4}  {connection.client}  {asked}  {sizes}  {faults}"
    terminal.print_note(line, style="yellow" if connection.ended_by else "")


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())) or "no faults"
