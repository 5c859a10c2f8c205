"""`hfstream chat`: a conversation, turn by turn."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

from .. import ChatCompletionChunk, InferenceClient, InferenceError, TokenStream
from .terminal import PACE, Terminal, patiently

__all__ = ["chat"]


def chat(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Reads a line, streams the answer, and so on. Ctrl-C stops an answer; at the prompt it ends, as Ctrl-D does."""
    settings = {name: getattr(arguments, name) for name in ("model", "temperature", "max_tokens", "seed")}
    with (
        terminal.backend(arguments, pace=PACE if terminal.shows else None) as url,
        InferenceClient(url, token=arguments.api_key) as client,
    ):
        messages: list[dict[str, str]] = []
        if arguments.system:
            messages.append({"role": "system", "content": arguments.system})
        if sys.stdin.isatty():
            terminal.say("Ctrl-C stops an answer, Ctrl-D ends the chat.")
        for line in _lines():
            messages.append({"role": "user", "content": line})
            try:
                answer = _answer(client, messages, settings, terminal)
            except InferenceError as error:
                terminal.complain(error)
                messages.pop()  # it was not heard
            else:
                messages.append({"role": "assistant", "content": answer})
    return 0


def _lines() -> Iterator[str]:
    """What the user says, until the end."""
    if not sys.stdin.isatty():
        yield from filter(None, map(str.strip, sys.stdin))
        return
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")  # editing and history, where there is such a thing
    while True:
        try:
            line = input("you> ").strip()
        except (EOFError, KeyboardInterrupt):
            sys.stderr.write("\n")
            return
        if line:
            yield line


def _answer(
    client: InferenceClient, messages: list[dict[str, str]], settings: dict[str, Any], terminal: Terminal
) -> str:
    """Streams one answer; returns as much of it as was said."""

    def ask() -> TokenStream[ChatCompletionChunk]:
        create: Any = client.chat_completion
        opened: TokenStream[ChatCompletionChunk] = create(messages, stream=True, **settings)
        return opened

    stream = None
    try:
        with patiently(ask) as stream:
            for chunk in stream:
                terminal.write(chunk.choices[0].delta.content or "")
    except KeyboardInterrupt:
        terminal.say(" [stopped]")
    terminal.write("\n")
    return stream.text if stream is not None else ""
