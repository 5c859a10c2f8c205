"""`hfstream chat`: a conversation, turn by turn."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

from .. import ChatCompletionChunk, InferenceClient, InferenceConnectionError, InferenceError, TokenStream
from .terminal import PACE, Terminal

__all__ = ["chat"]

HINT = "Ctrl-C stops an answer, Ctrl-D ends the chat."


def chat(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Reads a line, streams the answer, and so on. Ctrl-C stops an answer, and never the chat; Ctrl-D ends it."""
    settings = {name: getattr(arguments, name) for name in ("model", "temperature", "max_tokens", "seed")}
    with (
        terminal.backend(arguments, pace=PACE if terminal.shows else None) as url,
        InferenceClient(url, token=arguments.api_key) as client,
    ):
        messages: list[dict[str, str]] = []
        code = 0
        if arguments.system:
            messages.append({"role": "system", "content": arguments.system})
        if sys.stdin.isatty():
            terminal.say(HINT)
        for line in _lines(terminal):
            messages.append({"role": "user", "content": line})
            try:
                answer = _answer(client, messages, settings, terminal)
            except InferenceError as error:
                code = terminal.complain(error)
                if isinstance(error, InferenceConnectionError) and len(messages) == 1 + bool(arguments.system):
                    return code  # nobody is there, and nothing has been said that could be lost
                messages.pop()  # it was not heard
            else:
                messages.append({"role": "assistant", "content": answer})
    return 0 if sys.stdin.isatty() else code  # a person has seen what failed


def _lines(terminal: Terminal) -> Iterator[str]:
    """What the user says, until the end."""
    if not sys.stdin.isatty():
        yield from filter(None, map(str.strip, sys.stdin))
        return
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")  # editing and history, where there is such a thing
    while True:
        try:
            line = input("you> ").strip()
        except EOFError:
            sys.stderr.write("\n")
            return
        except KeyboardInterrupt:  # a moment too late for the answer: no reason to lose the chat
            sys.stderr.write("\n")
            terminal.say(HINT)
            continue
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
        with terminal.patiently(ask) as stream:
            for chunk in stream:
                terminal.write(chunk.choices[0].delta.content or "")
    except KeyboardInterrupt:
        terminal.say(" [stopped]")
    terminal.write("\n")
    return stream.text if stream is not None else ""
