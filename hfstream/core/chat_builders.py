"""The builder that puts the fields of a chat message that the types do not declare together again from its deltas.

Deltas are kept as they came and joined once: the cost is linear in their number. Does not depend on chunks and choices.
"""

from __future__ import annotations

from typing import Any, cast

__all__ = ["ExtraFieldsBuilder"]


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
