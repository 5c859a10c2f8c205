"""Joins the deltas of a message's tool calls. Does not depend on chunks and choices."""

from __future__ import annotations

import re
from typing import Any

from ..types import ChatCompletionDeltaToolCall
from .chat_builders import ExtraFieldsBuilder
from .string_builder import StringBuilder

__all__ = ["ToolCallsBuilder"]

_STRUCTURE = re.compile(r'\\.?|["{}\[\]]', re.DOTALL)


class _Arguments:
    """The pieces of a call's arguments, and whether they are a complete JSON object already.

    It follows strings and brackets in linear time; a parser would begin anew with each piece. Pieces are looked at when
    one of them has a closing bracket, because only that can complete an object: most have none.
    """

    def __init__(self) -> None:
        self.complete = False
        self._pieces = StringBuilder()
        self._unscanned: list[str] = []
        self._depth = 0
        self._in_string = False
        self._escaping = False  # whether the last piece ended in a backslash

    @property
    def text(self) -> str:
        return self._pieces.text

    def add(self, piece: str | None) -> None:
        if not piece:
            return
        self._pieces.add(piece)
        self._unscanned.append(piece)
        if "}" in piece or "]" in piece:
            self._scan("".join(self._unscanned))
            self._unscanned.clear()

    def _scan(self, text: str) -> None:
        start, self._escaping = int(self._escaping), False
        for mark in _STRUCTURE.findall(text, start):
            if self._in_string:
                self._in_string = mark != '"'
                self._escaping = mark == "\\"
            elif mark == '"':
                self._in_string = True
            elif mark in "{[":
                self._depth += 1
            elif mark in "}]":
                self._depth -= 1
                self.complete = self._depth == 0


class _ToolCallBuilder:
    """Joins the deltas of one tool call."""

    def __init__(self) -> None:
        self.id = ""
        self.type = "function"
        self.has_function = False
        self.name = ""
        self.arguments = _Arguments()
        self.extra = ExtraFieldsBuilder()
        self.function_extra = ExtraFieldsBuilder()  # those of `function`

    def add(self, delta: ChatCompletionDeltaToolCall) -> None:
        # The first id and the first name count. OpenAI sends them once, with the first delta; some servers repeat them
        # with every delta, so they must not be concatenated as the arguments are. A different name before the arguments
        # is the next piece of it.
        self.id = self.id or delta.id or ""
        self.type = delta.type or self.type
        if delta.function is not None:
            self.has_function = True
            if (name := delta.function.name) and not (self.name and self.arguments.text):
                self.name = name if name.startswith(self.name) else self.name + name
            self.arguments.add(delta.function.arguments)
            if delta.function.__pydantic_extra__:
                self.function_extra.add(delta.function.__pydantic_extra__)
        if delta.__pydantic_extra__:
            self.extra.add(delta.__pydantic_extra__)

    def build(self) -> dict[str, Any]:
        # Extra fields come first: one with the name of a declared field must not replace it.
        call = {**self.extra.build(), "id": self.id, "type": self.type}
        if not self.has_function and self.type != "function":  # such as a custom one
            return call
        function = {**self.function_extra.build(), "name": self.name, "arguments": self.arguments.text}
        return {**call, "function": function}


class ToolCallsBuilder:
    """Joins the tool calls of one message.

    The deltas of several calls may be interleaved. By OpenAI's rule `index` says which call a delta belongs to. Not all
    servers follow it: some give every call the index 0, some leave out the index, the id, or both. So the call is
    found by what a delta has:

    1. The call with the delta's index, or without an index the latest call, unless the delta starts another one.
    2. Otherwise the call with the delta's id: servers without usable indices may return to an earlier call.
    3. Otherwise a new call. The next deltas with this index belong to it.

    A piece that follows complete arguments starts a call of its own: nothing can be added to a JSON object. Except that
    Gemini sends ``{}`` first and the arguments after it, and that some servers end by repeating all of them.
    """

    def __init__(self) -> None:
        self._calls: list[_ToolCallBuilder] = []  # in the order of their first deltas, which is the order of the result
        self._by_index: dict[int, _ToolCallBuilder] = {}  # the latest call with each index
        self._by_id: dict[str, _ToolCallBuilder] = {}  # the first call with each id

    def add(self, deltas: list[ChatCompletionDeltaToolCall]) -> None:
        for delta in deltas:
            call = self._find_call(delta)
            call.add(delta)
            if delta.id:
                self._by_id.setdefault(call.id, call)

    def _find_call(self, delta: ChatCompletionDeltaToolCall) -> _ToolCallBuilder:
        """The call that a delta belongs to; a new one if it belongs to none so far."""
        latest = self._calls[-1] if self._calls else None
        call = latest if delta.index is None else self._by_index.get(delta.index)
        has_name = bool(delta.function and delta.function.name)
        if call is not None and not has_name and not call.arguments.complete:
            return call  # the usual case: the next piece of its arguments
        # Without a name a delta can only add to a call, so a new id alone does not start one: a server may send the id
        # late, or a different one with each delta.
        found = None
        if call is not None and not (has_name and _starts_another_call(delta, call)):
            found = _continued(call, delta)
        # A name at a new index always starts a call, even if its id is known: the index is OpenAI's rule, and ids may
        # repeat.
        elif call is not None or not has_name:
            found = self._by_id.get(delta.id or "")
        if found is None:
            found = _ToolCallBuilder()
            if call is not None and not has_name:
                found.name = call.name  # a second call of the same function: nothing else can be meant
            self._calls.append(found)
        if delta.index is not None:
            self._by_index[delta.index] = found
        return found

    def build(self) -> list[dict[str, Any]] | None:
        return [call.build() for call in self._calls] or None


def _starts_another_call(delta: ChatCompletionDeltaToolCall, call: _ToolCallBuilder) -> bool:
    """Whether a delta with a function's name starts another call than `call`, to which its index assigns it.

    It does if its id is a different one. Without an id it does if it has no index either, and `call` already has a
    name: then the name is all that tells two calls apart.
    """
    if delta.id:
        return bool(call.id) and delta.id != call.id
    return delta.index is None and bool(call.name)


def _continued(call: _ToolCallBuilder, delta: ChatCompletionDeltaToolCall) -> _ToolCallBuilder | None:
    """The call, if a delta that its index assigns to it can add to its arguments; None if it starts another one."""
    function = delta.function
    piece = ((function and function.arguments) or "").strip()
    if not piece or not call.arguments.complete:
        return call
    is_same = not (delta.id and call.id and delta.id != call.id)
    name = (function and function.name) or None
    if is_same and name in (None, call.name) and call.arguments.text.strip() == "{}" != piece:
        call.arguments = _Arguments()
        return call
    if is_same and name is None and call.arguments.text.strip() == piece:
        call.arguments = _Arguments()
        return call
    return None
