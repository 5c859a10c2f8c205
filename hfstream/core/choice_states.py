"""Which choices of a response are still being generated, by their indices and finish reasons.

Does not depend on what a choice contains.
"""

from __future__ import annotations

from typing import Any

__all__ = ["ChoiceIndices", "ChoiceStates", "requested_choices"]


def requested_choices(n: Any) -> int:
    """How many choices a request with this `n` asks for; 1 if it is no number, which the server judges."""
    try:
        return max(int(n), 1)
    except (TypeError, ValueError, OverflowError):
        return 1


class ChoiceIndices:
    """Which choice the index of a chunk's choice means.

    OpenAI's indices are those of the `n` choices. If only one was asked for (`several` is false), then there is one,
    whatever its indices are, and it is kept under the first: some servers number it with 1 or count its tokens (TGI
    1.4), and gateways to Anthropic's API number the blocks of its content. So `text` is what a loop over the chunks
    joins. A server that sends several choices nevertheless is known by a chunk that has more than one, or by one that
    begins after number 0 as OpenAI's do, with a role alone.
    """

    __slots__ = ("_first", "_several")

    def __init__(self, *, several: bool = False) -> None:
        self._several = several
        self._first: int | None = None

    def key(self, index: int, *, begins: bool = False, beside: bool = False) -> int:
        """The index under which a choice is kept: one that `begins` with a role, or has others beside it."""
        if self._first is None:
            self._first = index
        elif index != self._first and (beside or (begins and self._first == 0)):
            self._several = True
        return index if self._several else self._first


class ChoiceStates:
    """The choices so far: `open` are the keys of those without a finish reason. `n` is how many were asked for.

    Some servers send a finish reason with every chunk. So content after a finish means that it was none, and that of
    this choice only a finish without content counts.
    """

    __slots__ = ("_finished", "_indices", "_misleading", "_n", "open")

    def __init__(self, n: int = 1) -> None:
        self.open: set[int] = set()
        self._n = n
        self._finished: set[int] = set()
        self._misleading: set[int] = set()  # have had content after a finish
        self._indices = ChoiceIndices(several=n > 1)

    @property
    def all_finished(self) -> bool:
        """Whether all choices that were asked for have come, maybe one after the other, and every one has finished."""
        return len(self._finished) >= self._n and not self.open

    def add(self, index: int, *, has_content: bool, begins: bool = False, beside: bool = False) -> None:
        """Takes a choice without a finish reason; for `begins` and `beside` see `ChoiceIndices`."""
        key = self._indices.key(index, begins=begins, beside=beside)
        if key not in self._finished:
            self.open.add(key)
        elif has_content:  # else a usage, or the result of a filter: they may follow with the same choice
            self._reopen(key)

    def finish(self, index: int, *, has_content: bool, beside: bool = False) -> None:
        """Takes a choice with a finish reason."""
        key = self._indices.key(index, beside=beside)
        if has_content and key in self._finished:
            self._reopen(key)
        if not (has_content and key in self._misleading):
            self.open.discard(key)
            self._finished.add(key)

    def _reopen(self, key: int) -> None:
        self._finished.discard(key)
        self._misleading.add(key)
        self.open.add(key)
