"""The options of the testing kit's commands: `hfstream mock`, `record` and `chaos`. Imports nothing of the kit."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

__all__ = ["add_chaos_options", "add_mock_options", "add_record_options"]

FAULT_KINDS: Sequence[str] = ("split", "delay", "cut", "reset", "stall")
"""The names of the weights of `hfstream.testing.FaultRates`."""


def add_mock_options(command: argparse.ArgumentParser) -> None:
    """The options of `hfstream mock`."""
    command.add_argument(
        "file", metavar="FILE", help="rules in YAML or JSON, or a tape that `hfstream record` has written"
    )
    _add_address(command, port=8080)
    command.add_argument(
        "--speed",
        type=_speed,
        default=1.0,
        metavar="FACTOR",
        help="factor for all paces and delays: 10 is ten times as fast, inf without pauses (default: 1)",
    )
    command.add_argument(
        "--match",
        choices=["body", "path"],
        default="body",
        help="what makes a request one of the tape's: its path and body, or its path alone (default: body)",
    )
    command.add_argument("--check", action="store_true", help="only read FILE, and report the first mistake")


def add_record_options(command: argparse.ArgumentParser) -> None:
    """The options of `hfstream record`."""
    command.add_argument("url", metavar="URL", help="URL of the real server")
    command.add_argument("file", metavar="FILE", help="the tape to write, such as tape.jsonl")
    command.add_argument("--append", action="store_true", help="add to a tape that exists")
    _add_address(command, port=8081)


def add_chaos_options(command: argparse.ArgumentParser) -> None:
    """The options of `hfstream chaos`."""
    command.add_argument("url", metavar="URL", help="URL of the real server")
    command.add_argument(
        "--faults",
        type=_weights,
        metavar="KIND[=WEIGHT],...",
        help="which faults, and how often each compared to the others: "
        f"{', '.join(FAULT_KINDS)} (default: split=6,delay=3,cut=1,reset=1,stall=0.2)",
    )
    command.add_argument(
        "--every",
        type=_positive_number,
        default=500.0,
        metavar="BYTES",
        help="mean number of bytes between two faults, in each direction of a connection (default: 500)",
    )
    command.add_argument(
        "--longest-delay",
        type=_positive_number,
        default=0.02,
        metavar="SECONDS",
        help="upper limit of a delay (default: 0.02)",
    )
    command.add_argument(
        "--seed", type=int, default=0, metavar="N", help="the same seed does the same to each connection (default: 0)"
    )
    _add_address(command, port=8082)


def _add_address(command: argparse.ArgumentParser, *, port: int) -> None:
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    command.add_argument(
        "--port", type=_port, default=port, help=f"port to listen on; 0 takes a free one (default: {port})"
    )


def _port(text: str) -> int:
    port = int(text) if text.isdecimal() else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: write a number from 0 to 65535")
    return port


def _speed(text: str) -> float:
    return math.inf if text == "inf" else _positive_number(text)


def _positive_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number greater than 0")
    return number


def _weights(text: str) -> dict[str, float]:
    """``cut=1,reset=0.5`` as weights; kinds that are not named never occur."""
    weights = dict.fromkeys(FAULT_KINDS, 0.0)
    for item in text.split(","):
        kind, given, weight = item.strip().partition("=")
        if kind not in weights:
            raise argparse.ArgumentTypeError(f"{kind!r} is not a fault: there are {', '.join(FAULT_KINDS)}")
        weights[kind] = _positive_number(weight) if given else 1.0
    return weights
