"""Options about a request that several commands have."""

from __future__ import annotations

import argparse

__all__ = ["add_api_key", "add_length", "add_model", "add_sampling", "add_server"]


def add_server(command: argparse.ArgumentParser) -> None:
    """Where requests are sent."""
    command.add_argument(
        "--url", help="URL of the server; without it, a server with the bundled model is started for this command"
    )
    add_api_key(command)


def add_api_key(command: argparse.ArgumentParser) -> None:
    """What a server may require."""
    command.add_argument(
        "--api-key",
        metavar="KEY",
        help="bearer token to send (default: the environment variable HFSTREAM_API_KEY; for huggingface.co HF_TOKEN). "
        "It is never shown",
    )


def add_model(command: argparse.ArgumentParser) -> None:
    """Which of several models."""
    command.add_argument(
        "--model", dest="served_model", metavar="NAME", help="name of the model; only for a URL that ends in /v1"
    )


def add_length(command: argparse.ArgumentParser, name: str, default: int | None = None) -> None:
    """How long a response may be; `name` is the argument's name in the result."""
    description = "maximum number of tokens to generate" + ("" if default is None else f" (default: {default})")
    # The APIs of text generation and chat use different names; accept both everywhere.
    command.add_argument(
        "--max-new-tokens", "--max-tokens", dest=name, type=int, default=default, metavar="N", help=description
    )


def add_sampling(command: argparse.ArgumentParser) -> None:
    """How tokens are chosen."""
    command.add_argument(
        "--temperature", type=float, metavar="T", help="sample with this temperature; higher is more random"
    )
    command.add_argument("--seed", type=int, metavar="N", help="random seed; the same seed gives the same response")
