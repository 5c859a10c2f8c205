"""Finds tool calls in a text that arrives in pieces: the text around them, each call's name, its arguments in pieces.

What may be the beginning of a call is held back until it is certain. A call that turns out to be none is text. Does not
depend on tokens, requests or HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

from .call_scanner import CallScanner
from .tool_formats import ToolCallFormat


@dataclass(frozen=True)
class TextPart:
    """Text that is no call."""

    text: str


@dataclass(frozen=True)
class CallStart:
    """The beginning of a call. What follows belongs to it until the next part of this kind."""

    name: str


@dataclass(frozen=True)
class ArgumentsPart:
    """The next piece of a call's arguments, JSON."""

    text: str


Part: TypeAlias = TextPart | CallStart | ArgumentsPart


class ToolCallParser:
    """Reads one answer."""

    def __init__(
        self,
        call_format: ToolCallFormat,
        names: Collection[str],
        *,
        max_calls: int | None = None,
        required: bool = False,
    ) -> None:
        """`names`: of the functions that exist. After `max_calls` calls the rest of the text is dropped.

        `required`: the text is calls and nothing else, unless it is cut: so half the beginning of a call is no text.
        """
        self._format, self._names, self._max_calls = call_format, names, max_calls
        self._marker = call_format.begin.rstrip(" \n[")
        self._end = call_format.end.strip()
        self._required = required
        self._calls = 0
        self._complete_calls = 0
        self._buffer = ""  # not looked at yet
        self._call = ""  # of the present call, until it is certain to be one
        self._scanner: CallScanner | None = None
        self._may_begin_bare = call_format.bare
        self._after_call = False

    @property
    def all_complete(self) -> bool:
        """Whether no call that has begun lacks its end."""
        return self._complete_calls == self._calls

    @property
    def markers(self) -> Collection[str]:
        """Special tokens that are part of calls, if the model has them."""
        return {self._marker, self._end, "</tool_call>"}

    def push(self, text: str, *, last: bool = False) -> list[Part]:
        """Adds the next piece of the text; with `last` the text ends."""
        self._buffer += text
        parts: list[Part] = []
        while self._step(parts, last=last):
            pass
        return parts

    def _step(self, parts: list[Part], *, last: bool) -> bool:
        """Takes something off the buffer. False if it takes more text to go on."""
        if self._max_calls is not None and self._calls >= self._max_calls and self._scanner is None:
            self._buffer = ""
            return False
        if self._scanner is not None:
            return self._read_call(self._scanner, parts)
        if self._after_call or self._may_begin_bare:
            return self._read_beginning(parts, last=last)
        return self._read_text(parts, last=last)

    def _read_beginning(self, parts: list[Part], *, last: bool) -> bool:
        """What stands between two calls, or before a first one that has no marker."""
        separators = r"[\s,;]*" if self._after_call else r"\s*"
        found = re.match(separators, self._buffer)
        rest = self._buffer[found.end() if found else 0 :]
        if self._after_call and self._end and rest.startswith(self._end):
            self._buffer = rest[len(self._end) :]
            return True
        may_be_object = self._format.bare or (self._after_call and self._format.end == "]")
        if may_be_object and rest.startswith("{"):
            self._begin_call(self._buffer, rest)
            return True
        if not last and any(marker.startswith(rest) for marker in (self._marker, self._end)):
            return False
        if self._after_call:
            self._buffer = rest
        self._after_call = self._may_begin_bare = False
        return bool(self._buffer)

    def _read_text(self, parts: list[Part], *, last: bool) -> bool:
        before, marker, rest = self._buffer.partition(self._marker)
        if marker:
            if text := before.rstrip():
                parts.append(TextPart(text))
            self._begin_call(marker + rest, rest)
            return True
        text = before
        if not last or self._required:  # space before a call is no text
            text = before[: len(before) - len(_partial(before, self._marker))].rstrip()
        self._buffer = before[len(text) :]
        if text:
            parts.append(TextPart(text))
        return False

    def _begin_call(self, call: str, rest: str) -> None:
        self._call, self._buffer = call[: len(call) - len(rest)], rest
        self._scanner = CallScanner(self._names)
        self._after_call = self._may_begin_bare = False

    def _read_call(self, scanner: CallScanner, parts: list[Part]) -> bool:
        named = scanner.started
        taken = scanner.feed(self._buffer)
        if not named:
            self._call += self._buffer[:taken]
            if scanner.started:
                self._calls += 1
                parts.append(CallStart(scanner.name))
        if arguments := scanner.take_arguments():
            parts.append(ArgumentsPart(arguments))
        self._buffer = self._buffer[taken:]
        if scanner.failed and not scanner.started:  # so it was text
            parts.append(TextPart(self._call))
        if scanner.failed or scanner.complete:
            self._complete_calls += scanner.complete
            self._scanner, self._after_call = None, scanner.started
        return bool(self._buffer) and self._scanner is None


def _partial(text: str, marker: str) -> str:
    """The longest proper prefix of `marker` that `text` ends with."""
    lengths = range(min(len(text), len(marker) - 1), 0, -1)
    return next((marker[:length] for length in lengths if text.endswith(marker[:length])), "")
