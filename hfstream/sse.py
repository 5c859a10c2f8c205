"""Server-Sent Events: an incremental decoder and an encoder, as the WHATWG standard specifies.

    decoder = SSEDecoder()
    for chunk in response.iter_raw():
        for event in decoder.feed(chunk):
            print(event.data)

The events are httpx-sse's `ServerSentEvent`, so code written for httpx-sse accepts them.
"""

from __future__ import annotations

from httpx_sse import ServerSentEvent

from .core import sse as core
from .errors import UnexpectedResponseError

__all__ = ["SSEDecoder", "ServerSentEvent", "encode"]


class SSEDecoder:
    """Bytes in, events out, however the body is divided into chunks; linear in time, bounded in memory."""

    def __init__(self, max_event_size: int = core.MAX_EVENT_SIZE) -> None:
        """`max_event_size`: limit on the size of one event, in bytes."""
        self._parser = core.SSEParser(max_event_size)

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that `chunk` completed: `event` is ``"message"`` if it has no name, `id` the last id so far.

        Raises:
            UnexpectedResponseError: an event is larger than the limit. Events that were complete before it in the same
                chunk are returned first, and the next call raises.
        """
        try:
            return [
                ServerSentEvent(event=event.name, data=event.text, id=event.id, retry=event.retry)
                for event in self._parser.feed(chunk)
            ]
        except core.EventTooLargeError as error:
            raise UnexpectedResponseError(str(error)) from error

    def finish(self) -> list[ServerSentEvent]:
        """Ends the body: an event without its blank line is discarded, so the list is always empty.

        The decoder is then ready for the next connection of the same stream; `last_event_id` and `retry` are kept.
        """
        try:
            self._parser.finish()
        except core.EventTooLargeError as error:
            raise UnexpectedResponseError(str(error)) from error
        return []

    @property
    def last_event_id(self) -> str:
        """The value of ``Last-Event-ID`` for a reconnect; ``""`` before the first id."""
        return self._parser.last_event_id

    @property
    def retry(self) -> int | None:
        """Milliseconds to wait before a reconnect, if the server sent a ``retry`` field."""
        return self._parser.retry


def encode(event: ServerSentEvent) -> bytes:
    """One event as a server sends it.

    Raises:
        ValueError: a line end in `event` or `id`, or a NUL in `id`, which SSE cannot represent; or a negative `retry`.
    """
    name = "" if event.event == "message" else event.event
    return core.encode(event.data, event=name, id=event.id, retry=event.retry)
