"""Builders that put the parts of a chat message together again from its deltas: text, tool calls, unknown fields.

Each takes what one delta has with `add` and returns the joined value with `build` or `value`. Deltas are kept as they
came and joined once: the cost is linear in their number. Does not depend on chunks and choices.
"""

from __future__ import annotations

from typing import Any, cast

from ..types import ChatCompletionDeltaToolCall

__all__ = ["ExtraFieldsBuilder", "StringBuilder", "ToolCallsBuilder"]


class StringBuilder:
    """Joins the fragments of a string; its `value` is None until the first one."""

    def __init__(self) -> None:
        self._fragments: list[str] | None = None

    def add(self, fragment: str | None) -> None:
        if fragment is None:
            return
        if self._fragments is None:
            self._fragments = []
        self._fragments.append(fragment)

    @property
    def text(self) -> str:
        return self.value or ""

    @property
    def value(self) -> str | None:
        if self._fragments is None:
            return None
        self._fragments = ["".join(self._fragments)]  # so that no fragment is joined twice
        return self._fragments[0]


class ExtraFieldsBuilder:
    """Joins fields that the types do not declare.

    Strings are concatenated and lists extended, also inside objects, as OpenAI's own client does; of any other kind of
    value the last one is kept.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[Any]] = {}

    def add(self, fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            self._values.setdefault(name, []).append(value)

    def build(self) -> dict[str, Any]:
        return {name: _merge_values(values) for name, values in self._values.items()}


def _merge_values(values: list[Any]) -> Any:
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, str) for value in present):
        return "".join(present)
    if present and all(isinstance(value, list) for value in present):
        return [part for value in present for part in cast("list[Any]", value)]
    if present and all(isinstance(value, dict) for value in present):
        merged = ExtraFieldsBuilder()
        for value in present:
            merged.add(value)
        return merged.build()
    return present[-1] if present else None


class _ToolCallBuilder:
    """Joins the deltas of one tool call."""

    def __init__(self) -> None:
        self.id = ""
        self.type = "function"
        self.name = ""
        self.arguments = StringBuilder()
        self.extra = ExtraFieldsBuilder()
        self.function_extra = ExtraFieldsBuilder()  # those of `function`

    def add(self, delta: ChatCompletionDeltaToolCall) -> None:
        # The first id and the first name count. OpenAI sends them once, with the first delta; some servers repeat them
        # with every delta, so they must not be concatenated as the arguments are.
        self.id = self.id or delta.id or ""
        self.type = delta.type or self.type
        if delta.function is not None:
            self.name = self.name or delta.function.name or ""
            self.arguments.add(delta.function.arguments)
            if delta.function.__pydantic_extra__:
                self.function_extra.add(delta.function.__pydantic_extra__)
        if delta.__pydantic_extra__:
            self.extra.add(delta.__pydantic_extra__)

    def build(self) -> dict[str, Any]:
        # Extra fields come first: one with the name of a declared field must not replace it.
        function = {**self.function_extra.build(), "name": self.name, "arguments": self.arguments.text}
        return {**self.extra.build(), "id": self.id, "type": self.type, "function": function}


class ToolCallsBuilder:
    """Joins the tool calls of one message.

    The deltas of several calls may be interleaved. By OpenAI's rule `index` says which call a delta belongs to. Not all
    servers follow it: some give every call the index 0, some leave out the index, the id, or both. So the call is
    found by what a delta has:

    1. The call with the delta's index, or without an index the latest call, unless the delta starts another one.
    2. Otherwise the call with the delta's id: servers without usable indices may return to an earlier call.
    3. Otherwise a new call. The next deltas with this index belong to it.
    """

    def __init__(self) -> None:
        self._calls: list[_ToolCallBuilder] = []  # in the order of their first deltas, which is the order of the result
        self._by_index: dict[int, _ToolCallBuilder] = {}  # the latest call with each index

    def add(self, deltas: list[ChatCompletionDeltaToolCall]) -> None:
        for delta in deltas:
            self._find_call(delta).add(delta)

    def _find_call(self, delta: ChatCompletionDeltaToolCall) -> _ToolCallBuilder:
        """The call that a delta belongs to; a new one if it belongs to none so far."""
        latest = self._calls[-1] if self._calls else None
        call = latest if delta.index is None else self._by_index.get(delta.index)
        has_name = bool(delta.function and delta.function.name)
        # Without a name a delta can only add to a call, so a new id alone does not start one: a server may send the id
        # late, or a different one with each delta.
        if call is not None and not (has_name and _starts_another_call(delta, call)):
            return call
        found = None
        # A name at a new index always starts a call, even if its id is known: the index is OpenAI's rule, and ids may
        # repeat.
        if call is not None or not has_name:
            found = next((call for call in self._calls if delta.id and call.id == delta.id), None)
        if found is None:
            found = _ToolCallBuilder()
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
