"""Finds stop strings in text that arrives in pieces. Does not depend on tokens."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Finds the end of the first stop string in a stream of text.

    TGI misses a stop string that ends within a token. Here it is found wherever it ends, and the caller cuts off the
    rest of that token. As in TGI, the output includes the stop string, so no text has to be held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        # A match that ends in the next piece begins at most this many characters before it.
        self._overlap = max(map(len, stops), default=1) - 1
        self._tail = ""

    def find(self, text: str) -> int | None:
        """The offset in `text`, the next piece, at which a stop string ends first; None if none does."""
        if not self._stops:
            return None
        window = self._tail + text
        ends = [start + len(stop) for stop in self._stops if (start := window.find(stop)) >= 0]
        if ends:
            return max(0, min(ends) - len(self._tail))
        self._tail = window[-self._overlap :] if self._overlap else ""
        return None
