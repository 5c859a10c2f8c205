"""`hfstream generate`: streams one response."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from typing import Any

from .. import InferenceClient, StreamResponse, TokenStream
from .api_keys import api_key
from .terminal import PACE, Terminal

__all__ = ["generate"]

PARAMETERS = ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "seed", "stop")


def generate(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Streams one response to stdout, as text, as one line per token, or as JSON lines."""
    prompt = _read_prompt(arguments, terminal)
    parameters = {name: getattr(arguments, name) for name in PARAMETERS} | {"model": arguments.served_model}
    details = arguments.details or arguments.json
    pace = arguments.tokens_per_second or (PACE if terminal.is_interactive else None)
    with (
        terminal.backend(arguments, pace=pace) as url,
        InferenceClient(url, token=api_key(arguments, url)) as client,
    ):
        started = time.monotonic()
        with terminal.with_retries(lambda: _create_stream(client, prompt, details, parameters)) as stream:
            first_after = time.monotonic() - started  # includes retries while the server was overloaded
            for item in stream:
                if arguments.json:
                    terminal.write(f"{item.model_dump_json()}\n")
                else:
                    terminal.write(_format_token(item, terminal) if details else item)
            if not details:
                terminal.write("\n")
    _print_summary(stream, first_after, terminal)
    if arguments.url is None:
        terminal.print_note(
            "The response is from the small bundled model. To keep a server running: hfstream serve\n"
            f"Then, in another terminal: hfstream generate {shlex.quote(prompt)} --url http://127.0.0.1:8080",
        )
    return 0


def _read_prompt(arguments: argparse.Namespace, terminal: Terminal) -> str:
    if arguments.prompt not in (None, "-"):
        prompt: str = arguments.prompt
        return prompt
    if arguments.prompt is None and sys.stdin.isatty():
        raise ValueError('no prompt; for example: hfstream generate "How do you make cheese?" (or - to type one)')
    if sys.stdin.isatty():
        terminal.print_note("Type the prompt, then press Ctrl-D.")
    return sys.stdin.read()


def _create_stream(client: InferenceClient, prompt: str, details: bool, parameters: dict[str, Any]) -> TokenStream[Any]:
    text_generation: Any = client.text_generation  # untyped: the overload depends on run-time options
    stream: TokenStream[Any] = text_generation(prompt, stream=True, details=details, **parameters)
    return stream


def _format_token(response: StreamResponse, terminal: Terminal) -> str:
    """One line for a token: its text, probability (in a terminal also as a bar) and id."""
    token = response.token
    probability = None if token.logprob is None else math.exp(min(0.0, token.logprob))
    percent = "" if probability is None else f"{probability:.1%}"
    bar = f"{'█' * round(10 * (probability or 0.0)):<10}  " if terminal.is_interactive else ""
    return f"{token.text!r:<20} {percent:>6}  {bar}id {token.id}{'  special' if token.special else ''}\n"


def _print_summary(stream: TokenStream[Any], first_after: float, terminal: Terminal) -> None:
    metrics = stream.metrics
    seconds = first_after + metrics.duration - (metrics.time_to_first_token or 0)
    terminal.print_note(
        f"{metrics.tokens} tokens in {seconds:.2f} s (first token after {first_after:.2f} s, "
        f"then {metrics.tokens_per_second:.0f} tokens/s), finish reason: {stream.finish_reason}",
    )
