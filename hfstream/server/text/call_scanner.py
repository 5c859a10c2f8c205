"""Reads the JSON object of one tool call while it arrives: its name, and its arguments in pieces.

In linear time: each character is looked at once. Does not depend on what stands around the object.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

_NAME, _ARGUMENTS = "name", ("arguments", "parameters")
_KEYS = (_NAME, *_ARGUMENTS, "type", "id")
_SPACE = " \t\r\n"


class CallScanner:
    """One object. Other keys than those of a call make it none."""

    def __init__(self, names: Collection[str]) -> None:
        """`names`: those that a call can have."""
        self._names = names
        self.name: str = ""
        self.complete: bool = False
        self.failed: bool = False
        """Whether it is no call, or no JSON."""
        self._stage = self._before_object
        self._key = ""
        self._value: list[str] = []
        self._arguments: list[str] = []
        self._has_arguments = False
        self._depth = 0
        self._in_string = self._escaped = False

    @property
    def started(self) -> bool:
        """Whether it is certain to be a call: its name is known."""
        return bool(self.name)

    def feed(self, text: str) -> int:
        """Reads on; returns how many characters belong to the object. Fewer than all only at its end."""
        for position, character in enumerate(text):
            self._stage(character)
            if self.complete or self.failed:
                return position + 1
        return len(text)

    def take_arguments(self) -> str:
        """The arguments that have come since the last time, once the name is known."""
        if not self.started:
            return ""
        if self.complete and not self._has_arguments:
            self._arguments.append("{}")
        text = "".join(self._arguments)
        self._arguments.clear()
        return text

    # --- each stage reads one character ------------------------------------------------------------------------------

    def _before_object(self, character: str) -> None:
        if character == "{":
            self._stage = self._before_key
        elif character not in _SPACE + "[":
            self.failed = True

    def _before_key(self, character: str) -> None:
        if character == '"':
            self._value = ['"']
            self._stage = self._in_key
        elif character == "}":
            self.complete, self.failed = self.started, not self.started
        elif character not in _SPACE + ",":
            self.failed = True

    def _in_key(self, character: str) -> None:
        self._value.append(character)
        if self._string_ends(character):
            self._key = str(_loads("".join(self._value)))
            self._stage = self._before_value
            self.failed = self._key not in _KEYS

    def _before_value(self, character: str) -> None:
        if character in _SPACE + ":":
            return
        self._value, self._depth, self._in_string, self._escaped = [], 0, False, False
        self._stage = self._in_value
        self._in_value(character)

    def _in_value(self, character: str) -> None:
        if not self._depth and not self._in_string and character in ",}":
            self._end_value()
            if not self.failed:
                self._stage = self._before_key
                self._before_key(character)
            return
        self._value.append(character)
        if self._in_string:
            self._in_string = not self._string_ends(character)
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
        if self._key in _ARGUMENTS and self._value[0] == "{":  # others are converted at their end
            self._has_arguments = True
            self._arguments.append(self._value.pop() if len(self._value) > 1 else character)

    def _end_value(self) -> None:
        if self._key == _NAME:
            name = _loads("".join(self._value))
            if isinstance(name, str) and name in self._names:
                self.name = name
            else:
                self.failed = True
        elif self._key in _ARGUMENTS and not self._has_arguments:
            value = _loads("".join(self._value))
            if isinstance(value, str):  # JSON as a string, as in OpenAI's own format
                value = _loads(value)
            self._has_arguments = True
            self._arguments.append(json.dumps({} if value is None else value))

    def _string_ends(self, character: str) -> bool:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        else:
            return character == '"'
        return False


def _loads(text: str) -> Any:
    """A JSON value; None for what is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
