"""Finds stop strings in a text that comes in fragments. Does not depend on tokens."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Looks for stop strings in a text that comes in pieces.

    TGI misses one that ends within a token. Here it is found wherever it ends, and what follows it in that token is
    cut: the answer ends with the stop string, which is part of it, so nothing has to be held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._overlap = max(map(len, stops), default=1) - 1
        self._tail = ""

    def find(self, text: str) -> int | None:
        """Where in `text`, the next piece, the first stop string ends."""
        if not self._stops:
            return None
        seen = self._tail + text
        ends = [at + len(stop) for stop in self._stops if (at := seen.find(stop)) >= 0]
        if ends:
            return max(0, min(ends) - len(self._tail))
        self._tail = seen[-self._overlap :] if self._overlap else ""
        return None
