"""Cuts a text off before a stop string. Does not depend on where the text comes from.

TGI's texts end with the stop string that ended them; LangChain's end before it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence

__all__ = ["StopStrings"]


class StopStrings:
    """Text in, piece by piece; out comes what is before the first stop string.

    The end of a piece that may be the beginning of a stop string is held back until more has come.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = [each for each in stop if each]
        self._held = ""
        self._found = False

    def cut(self, pieces: Iterable[str]) -> Iterator[str]:
        """What may be shown after each of the `pieces`, and after the last; some of it is empty."""
        for piece in pieces:
            yield self.feed(piece)
        yield self.finish()

    async def cut_async(self, pieces: AsyncIterable[str]) -> AsyncGenerator[str]:
        """The same for pieces that come asynchronously. To be closed if it is not read to its end."""
        async for piece in pieces:
            yield self.feed(piece)
        yield self.finish()

    def feed(self, text: str) -> str:
        """What may be shown after the next piece of text."""
        if self._found or not self._stop:
            return "" if self._found else text
        text = self._held + text
        found = [at for each in self._stop if (at := text.find(each)) >= 0]
        if found:
            self._found, self._held = True, ""
            return text[: min(found)]
        size = max(_overlap(text, each) for each in self._stop)
        shown = len(text) - size
        self._held = text[shown:]
        return text[:shown]

    def finish(self) -> str:
        """What was held back, at the end of the text."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that is a beginning of `stop`, and not all of it."""
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if stop.startswith(text[-size:])), 0)
