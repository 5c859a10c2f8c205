"""A string that grows by fragments, in memory and time that are linear in its length.

Does not depend on what the string is.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["StringBuilder"]

MAX_FRAGMENTS = 1024


class StringBuilder:
    """Joins the fragments of a string; its `value` is None until the first one.

    They are joined a thousand at a time: an object of its own for each token takes ten times the memory of its text.
    """

    __slots__ = ("_blocks", "_fragments")

    def __init__(self) -> None:
        self._blocks: list[str] = []  # joined fragments, which come before those that are not
        self._fragments: list[str] | None = None

    def add(self, fragment: str | None) -> None:
        if fragment is None:
            return
        if self._fragments is None:
            self._fragments = []
        self._fragments.append(fragment)
        if len(self._fragments) >= MAX_FRAGMENTS:
            self._join()

    def extend(self, fragments: Iterable[str]) -> None:
        """Adds fragments; if there are none, the string is empty, and not None."""
        if self._fragments is None:
            self._fragments = []
        self._fragments += fragments
        if len(self._fragments) >= MAX_FRAGMENTS:
            self._join()

    @property
    def text(self) -> str:
        return self.value or ""

    @property
    def value(self) -> str | None:
        if self._fragments is None:
            return None
        if self._fragments or not self._blocks:
            self._join()
        if len(self._blocks) > 1:
            self._blocks = ["".join(self._blocks)]  # so that none is joined again by the next use
        return self._blocks[0]

    def _join(self) -> None:
        self._blocks.append("".join(self._fragments or ()))
        self._fragments = []
