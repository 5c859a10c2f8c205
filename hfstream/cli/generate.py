"""`hfstream generate`: one answer, token by token."""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import Any

from .. import InferenceClient, StreamResponse, TokenStream
from .terminal import PACE, Terminal

__all__ = ["generate"]

PARAMETERS = ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "seed", "stop")


def generate(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Streams one answer to stdout."""
    prompt = _prompt(arguments, terminal)
    parameters = {name: getattr(arguments, name) for name in PARAMETERS} | {"model": arguments.served_model}
    details = arguments.details or arguments.json
    pace = arguments.tokens_per_second or (PACE if terminal.shows else None)
    with (
        terminal.backend(arguments, pace=pace) as url,
        InferenceClient(url, token=arguments.api_key) as client,
    ):
        asked = time.monotonic()
        with terminal.patiently(lambda: _ask(client, prompt, details, parameters)) as stream:
            waited = time.monotonic() - asked  # also for a server that had no place at first
            for item in stream:
                if arguments.json:
                    terminal.write(f"{item.model_dump_json()}\n")
                else:
                    terminal.write(_line(item, terminal) if details else item)
    if not details:
        terminal.write("\n")
    _sum_up(stream, waited, terminal)
    if arguments.url is None:
        terminal.say(
            "This was the bundled model, a demonstration. To keep it running: hfstream serve\n"
            f'then, from another terminal: hfstream generate "{prompt}" --url http://127.0.0.1:8080',
        )
    return 0


def _prompt(arguments: argparse.Namespace, terminal: Terminal) -> str:
    if arguments.prompt not in (None, "-"):
        prompt: str = arguments.prompt
        return prompt
    if arguments.prompt is None and sys.stdin.isatty():
        raise ValueError('there is no prompt: hfstream generate "How do you make cheese?", or - to type one')
    if sys.stdin.isatty():
        terminal.say("Type the prompt; Ctrl-D ends it.")
    return sys.stdin.read()


def _ask(client: InferenceClient, prompt: str, details: bool, parameters: dict[str, Any]) -> TokenStream[Any]:
    ask: Any = client.text_generation  # which form it takes is known when it runs
    stream: TokenStream[Any] = ask(prompt, stream=True, details=details, **parameters)
    return stream


def _line(response: StreamResponse, terminal: Terminal) -> str:
    """A token, its probability (for a person also as a bar), its id."""
    token = response.token
    chance = None if token.logprob is None else math.exp(min(0.0, token.logprob))
    told = "" if chance is None else f"{chance:.1%}"
    bar = f"{'█' * round(10 * (chance or 0.0)):<10}  " if terminal.shows else ""
    return f"{token.text!r:<20} {told:>6}  {bar}id {token.id}{'  special' if token.special else ''}\n"


def _sum_up(stream: TokenStream[Any], waited: float, terminal: Terminal) -> None:
    metrics = stream.metrics
    seconds = waited + metrics.duration - (metrics.time_to_first_token or 0)
    terminal.say(
        f"{metrics.tokens} tokens in {seconds:.2f} s, the first after {waited:.2f} s, "
        f"then {metrics.tokens_per_second:.0f} a second; ended by {stream.finish_reason}.",
    )
