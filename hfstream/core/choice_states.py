"""Which choices of a response are still being generated, by their indices and finish reasons.

Does not depend on what a choice contains.
"""

from __future__ import annotations

__all__ = ["ChoiceIndices", "ChoiceStates"]


class ChoiceIndices:
    """Which choice the index of a chunk's choice means.

    OpenAI's indices are those of the `n` choices. Some servers number a single choice with 1, or count its tokens (TGI
    1.4): if no choice has the index 0, and only one was asked for (`several` is false), then there is only one.
    """

    __slots__ = ("_first", "_several")

    def __init__(self, *, several: bool = False) -> None:
        self._several = several
        self._first: int | None = None

    def key(self, index: int) -> int:
        """The index under which the choice is kept: the first one that came, if there is only one choice."""
        if self._first is None or index == 0:
            self._first = index
        return index if self._several or self._first == 0 else self._first


class ChoiceStates:
    """The choices so far: `open` are the keys of those without a finish reason.

    Some servers send a finish reason with every chunk. So content after a finish means that it was none, and that of
    this choice only a finish without content counts.
    """

    __slots__ = ("_finished", "_indices", "_misleading", "open")

    def __init__(self, *, several: bool = False) -> None:
        self.open: set[int] = set()
        self._finished: set[int] = set()
        self._misleading: set[int] = set()  # have had content after a finish
        self._indices = ChoiceIndices(several=several)

    @property
    def all_finished(self) -> bool:
        """Whether there is a choice, and every one has finished."""
        return bool(self._finished) and not self.open

    def add(self, index: int, *, has_content: bool) -> None:
        """Takes a choice without a finish reason."""
        key = self._indices.key(index)
        if key not in self._finished:
            self.open.add(key)
        elif has_content:  # else a usage, or the result of a filter: they may follow with the same choice
            self._reopen(key)

    def finish(self, index: int, *, has_content: bool) -> None:
        """Takes a choice with a finish reason."""
        key = self._indices.key(index)
        if has_content and key in self._finished:
            self._reopen(key)
        if not (has_content and key in self._misleading):
            self.open.discard(key)
            self._finished.add(key)

    def _reopen(self, key: int) -> None:
        self._finished.discard(key)
        self._misleading.add(key)
        self.open.add(key)
