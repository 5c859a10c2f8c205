"""The streams of the testing kit's catalogue of unusual responses. Does not depend on how a client reads them."""

from __future__ import annotations

from collections.abc import Iterator

from hfstream.testing import UNUSUAL_RESPONSES, Response, UnusualResponse

from .shapes import Stream

__all__ = ["CATALOGUE", "FAILURE", "catalogue"]

CATALOGUE = "of the catalogue"
FAILURE = "an error by the catalogue"
"""Labels of these streams."""


def catalogue() -> Iterator[Stream]:
    """Those that have nothing but events, and no tool calls, of which the catalogue has only the text."""
    for name, unusual in UNUSUAL_RESPONSES.items():
        events = tuple(step for step in unusual.response.body if isinstance(step, bytes))
        if _is_plain(unusual) and b"tool_calls" not in b"".join(events):
            labels = {CATALOGUE} if unusual.error is None else {CATALOGUE, FAILURE}
            task = "chat" if unusual.task == "chat_completion" else "text"
            yield Stream(name, task, events, unusual.text, labels=frozenset(labels))


def _is_plain(unusual: UnusualResponse) -> bool:
    head = Response(unusual.response.body)
    only_bytes = all(isinstance(step, bytes) for step in unusual.response.body)
    return unusual.stream and only_bytes and unusual.response == head
