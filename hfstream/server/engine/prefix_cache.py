"""Keys and values of requests that have ended, for requests that begin with the same tokens.

The next turn of a chat begins with all of the turns before, and many chats with the same system prompt: what is found
here is not computed again. An entry is used only for exactly the same tokens, so results do not change.

Does not depend on requests, sampling or time.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from .kv_cache import KVCache, Row

MIN_TOKENS = 32
"""Shorter beginnings are computed faster than they are found and copied."""

MAX_ENTRIES = 64
"""Each request is compared with all of them."""


@dataclass(slots=True, eq=False)
class Entry:
    """The tokens of a row, which has keys and values for all of them."""

    tokens: array[int]
    row: Row


@dataclass(frozen=True, slots=True)
class Match:
    """Tokens that a new request has in common with an entry."""

    entry: Entry
    length: int
    taken_over: Entry | None
    """The entry, if the request has all of its tokens: then it needs it no longer, nor does it need more memory."""


class PrefixCache:
    """What is kept, least recently used first."""

    def __init__(self, cache: KVCache) -> None:
        self._cache = cache
        self._entries: list[Entry] = []
        self.cost: int = 0
        """What all entries count against the budget, in tokens."""

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, tokens: array[int], row: Row) -> None:
        """Move a row's keys and values here, and free the row. `tokens`: those of the row, and perhaps more."""
        tokens = tokens[: row.length]
        if len(tokens) < MIN_TOKENS or self._find_extension(tokens):
            self._cache.free(row)
            return
        try:
            kept = self._cache.allocate_exactly(len(tokens))
        except (MemoryError, torch.OutOfMemoryError):
            self._cache.free(row)
            return
        self._cache.move(row, kept)
        for entry in [entry for entry in self._entries if entry.tokens == tokens[: len(entry.tokens)]]:
            self._drop(entry)
        self._add(Entry(tokens, kept))
        if len(self._entries) > MAX_ENTRIES:
            self._drop(self._entries[0])

    def find(self, tokens: array[int], running: Iterable[Entry]) -> Match | None:
        """The entry that has most of the first tokens; the last one is left out: it is computed for its logits.

        `running`: what rows that are in use have.
        """
        best: Entry | None = None
        length = MIN_TOKENS - 1
        for entry in [*self._entries, *running]:
            common = min(common_length(tokens, entry.tokens), entry.row.length, len(tokens) - 1)
            if common > length:
                best, length = entry, common
        if best is None:
            return None
        if best not in self._entries:
            return Match(best, length, None)
        self._use(best)
        return Match(best, length, best if length == best.row.length else None)

    def fill(self, row: Row, match: Match) -> None:
        """Give an empty row the tokens of a match, unless its entry has made room for the row in the meantime."""
        if match.taken_over:
            self._remove(match.entry)
            self._cache.move(match.entry.row, row)
        elif match.entry.row.length >= match.length:
            self._cache.copy(match.entry.row, row, match.length)

    def shrink(self, limit: int, taken_over: Entry | None = None) -> None:
        """Drop entries, the least recently used first, until all count for `limit` tokens at most.

        `taken_over` is not dropped and does not count.
        """
        spared = self._cache.cost(taken_over.row.length) if taken_over else 0
        for entry in [*self._entries]:
            if self.cost - spared <= limit:
                return
            if entry is not taken_over:
                self._drop(entry)

    def clear(self) -> None:
        """Drop all entries."""
        for entry in [*self._entries]:
            self._drop(entry)

    def _find_extension(self, tokens: array[int]) -> bool:
        """Whether an entry has all these tokens already; it then counts as used."""
        for entry in self._entries:
            if entry.tokens[: len(tokens)] == tokens:
                self._use(entry)
                return True
        return False

    def _use(self, entry: Entry) -> None:
        self._entries.remove(entry)
        self._entries.append(entry)

    def _add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self.cost += self._cache.cost(entry.row.length)

    def _remove(self, entry: Entry) -> None:
        self._entries.remove(entry)
        self.cost -= self._cache.cost(entry.row.length)

    def _drop(self, entry: Entry) -> None:
        self._remove(entry)
        self._cache.free(entry.row)
        entry.row.length = 0  # for a `Match` that still has it


def common_length(first: array[int], second: array[int]) -> int:
    """How many tokens both begin with. 0 if they are fewer than `MIN_TOKENS`, which is the common case."""
    low, high = MIN_TOKENS, min(len(first), len(second))
    if high < low or first[:low] != second[:low]:
        return 0
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
