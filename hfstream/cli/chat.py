"""`hfstream chat`: a conversation with a model."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import re
import sys
from collections.abc import Iterator
from typing import Any

from .. import ChatCompletionChunk, InferenceClient, InferenceConnectionError, InferenceError, TokenStream
from .api_keys import api_key
from .terminal import PACE, Terminal

__all__ = ["chat"]

HINT = "/reset forgets the conversation, /exit or Ctrl-D ends the chat, Ctrl-C stops a response."

RESET = "/reset"

_COMMAND = re.compile(r"/[a-z]+")
"""A line that is not sent to the model if it was typed: a path or a sentence with a slash is. In a pipe all are."""


def chat(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Reads messages line by line and streams the responses. Ctrl-C only stops a response; Ctrl-D ends the chat.

    In a terminal, `/reset`, `/exit` and `/help` are commands.
    """
    parameters = {name: getattr(arguments, name) for name in ("model", "temperature", "max_tokens", "seed")}
    with (
        terminal.backend(arguments, pace=PACE if terminal.is_interactive else None) as url,
        InferenceClient(url, token=api_key(arguments, url)) as client,
    ):
        system = [{"role": "system", "content": arguments.system}] if arguments.system else []
        messages: list[dict[str, str]] = [*system]
        code = 0
        if sys.stdin.isatty():
            terminal.print_note(HINT)
        for line in _read_lines(terminal):
            if line == RESET:
                messages = [*system]
                continue
            messages.append({"role": "user", "content": line})
            try:
                response = _stream_response(client, messages, parameters, terminal)
            except InferenceError as error:
                terminal.close_line()
                code = terminal.print_error(error)
                if isinstance(error, InferenceConnectionError) and len(messages) == 1 + bool(arguments.system):
                    return code  # no server, and no conversation yet that would be lost
                messages.pop()  # the model has not seen it
            else:
                messages.append({"role": "assistant", "content": response})
    return 0 if sys.stdin.isatty() else code  # an interactive user has seen the errors


def _read_lines(terminal: Terminal) -> Iterator[str]:
    """The user's messages, until the end of the input. Empty lines are skipped."""
    if not sys.stdin.isatty():
        yield from filter(None, map(str.strip, sys.stdin))
        return
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")  # line editing and history, on platforms that have it
    while True:
        try:
            line = input("you> ").strip()
        except EOFError:
            sys.stderr.write("\n")
            return
        except KeyboardInterrupt:  # the response ended just before Ctrl-C: keep the chat
            sys.stderr.write("\n")
            terminal.print_note(HINT)
            continue
        if _COMMAND.fullmatch(line):
            if line in ("/exit", "/quit"):
                return
            terminal.print_note(_answer_to_command(line))
            if line != RESET:
                continue
        if line:
            yield line


def _answer_to_command(line: str) -> str:
    if line == RESET:
        return "The conversation begins anew."
    return HINT if line == "/help" else f"There is no {line}. {HINT}"


def _stream_response(
    client: InferenceClient, messages: list[dict[str, str]], parameters: dict[str, Any], terminal: Terminal
) -> str:
    """Streams one response and returns its text, which is partial if it was stopped."""

    def create() -> TokenStream[ChatCompletionChunk]:
        chat_completion: Any = client.chat_completion  # untyped: the overload depends on run-time options
        created: TokenStream[ChatCompletionChunk] = chat_completion(messages, stream=True, **parameters)
        return created

    stream = None
    try:
        with terminal.with_retries(create) as stream:
            for chunk in stream:
                terminal.write(chunk.choices[0].delta.content or "")
    except KeyboardInterrupt:
        terminal.print_note(" [stopped]")
    terminal.write("\n")
    return stream.text if stream is not None else ""
