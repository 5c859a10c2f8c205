"""Server-Sent Events for everyone: a decoder and an encoder, exact to the WHATWG text.

    decoder = SSEDecoder()
    for chunk in response.iter_raw():
        for event in decoder.feed(chunk):
            print(event.data)

The events are httpx-sse's own `ServerSentEvent`, so code that was written for httpx-sse takes them.
"""

from __future__ import annotations

from httpx_sse import ServerSentEvent

from .core import sse as core
from .errors import UnexpectedResponseError

__all__ = ["SSEDecoder", "ServerSentEvent", "encode"]


class SSEDecoder:
    """Bytes in, events out, however the wire is cut; linear in time, bounded in memory."""

    def __init__(self, max_event_size: int = core.MAX_EVENT_SIZE) -> None:
        """`max_event_size`: bytes that one event may hold."""
        self._parser = core.SSEParser(max_event_size)

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that `chunk` completed: `event` is ``"message"`` where it has no name, `id` the last id seen.

        Raises:
            UnexpectedResponseError: an event is larger than the bound. Events that were complete before it in the same
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
        """Ends the body: an event that no blank line has closed is discarded, so the list is empty.

        The decoder is then ready for the next connection of the same stream; `last_event_id` and `retry` are kept.
        """
        try:
            self._parser.finish()
        except core.EventTooLargeError as error:
            raise UnexpectedResponseError(str(error)) from error
        return []

    @property
    def last_event_id(self) -> str:
        """What to send as ``Last-Event-ID`` when connecting again; ``""`` before any id."""
        return self._parser.last_event_id

    @property
    def retry(self) -> int | None:
        """Milliseconds to wait before connecting again, if the server said."""
        return self._parser.retry


def encode(event: ServerSentEvent) -> bytes:
    """One event as a server sends it.

    Raises:
        ValueError: a line end in `event` or `id`, or a NUL in `id`, would change what the client reads.
    """
    name = "" if event.event == "message" else event.event
    return core.encode(event.data, event=name, id=event.id, retry=event.retry)
