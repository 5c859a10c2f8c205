"""Faulty responses, and unusual but valid ones, for a `ScriptedServer`. Each function returns a `Response`.

    from hfstream.testing import ScriptedServer, faults, token_events

    with ScriptedServer(faults.drop(token_events("Hello", ",", " you"), after=2)) as server: ...

`events` is the result of `token_events` or `chat_events`, or any bytes; each item is sent as one chunk. For other
faults, write the steps of a `Response` yourself. Does not depend on the client, or on how it handles a fault.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable

from ..core.sse import encode
from .arguments import check_count
from .events import DONE
from .response import Fault, Response, Step

__all__ = [
    "UNICODE_LINE_SEPARATORS",
    "byte_order_mark",
    "cr_only",
    "crlf",
    "drop",
    "early_end",
    "empty",
    "html",
    "keep_alives",
    "overloaded",
    "overloaded_in_stream",
    "paced",
    "rechunk",
    "reset",
    "retry_frames",
    "split_utf8",
    "stall",
]

UNICODE_LINE_SEPARATORS: str = "\u2028\u2029\x85"
"""U+2028, U+2029 and U+0085, to use as the text of a token.

``str.splitlines`` splits lines at these characters, SSE does not, and JSON does not require them to be escaped.
"""


# The connection ------------------------------------------------------------------------------------------------------


def paced(events: Iterable[bytes], seconds: float) -> Response:
    """All events, with a pause of `seconds` before each. Not a fault."""
    return Response([step for event in events for step in (seconds, event)])


def drop(events: Iterable[bytes], *, after: int) -> Response:
    """The connection is closed after `after` events, without the end of the chunked body."""
    return _broken(events, after, Fault.DROP)


def reset(events: Iterable[bytes], *, after: int) -> Response:
    """The connection is reset (TCP RST) after `after` events."""
    return _broken(events, after, Fault.RESET)


def stall(events: Iterable[bytes], *, after: int) -> Response:
    """Nothing is sent after `after` events, and the connection stays open until the client closes it."""
    return _broken(events, after, Fault.STALL)


def early_end(events: Iterable[bytes], *, after: int) -> Response:
    """The body ends cleanly after `after` events, as if the stream were complete."""
    return Response(_first(events, after))


def _broken(events: Iterable[bytes], after: int, fault: Fault) -> Response:
    return Response([*_first(events, after), fault])


def _first(events: Iterable[bytes], after: int) -> list[Step]:
    check_count("after", after)
    return list(itertools.islice(events, after))


# Errors --------------------------------------------------------------------------------------------------------------


def overloaded(retry_after: float | None = 1) -> Response:
    """Status 429 with TGI's error body. `retry_after` is the `Retry-After` header in seconds; None omits the header."""
    wait = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return Response.error(429, "Model is overloaded", "overloaded", **wait)


def overloaded_in_stream(*, chat: bool = False) -> Response:
    """Status 200 with the error as its only event, as TGI reports overload on streams.

    `chat` selects the format of TGI's OpenAI routes, where ``[DONE]`` follows the error.
    """
    if chat:  # TGI sends 422 here for every error, and [DONE] even after an error
        error = {"message": "Model is overloaded", "http_status_code": 422}
        return Response([encode(json.dumps({"error": error})), DONE])
    return Response([encode(json.dumps({"error": "Model is overloaded", "error_type": "overloaded"}))])


def html(body: bytes = b"<!doctype html><title>Sign in</title>") -> Response:
    """An HTML page with status 200, as from a proxy or a sign-in page in front of the server."""
    return Response([body], content_type="text/html; charset=utf-8")


def empty() -> Response:
    """An empty event stream with status 200."""
    return Response()


# Unusual but valid streams: a client must read these like any other stream -------------------------------------------


def byte_order_mark(events: Iterable[bytes]) -> Response:
    """A UTF-8 byte order mark (BOM) before the first event.

    Raises:
        ValueError: `events` is empty.
    """
    first, *rest = events
    return Response([b"\xef\xbb\xbf" + first, *rest])


def cr_only(events: Iterable[bytes]) -> Response:
    """Lines end with CR only."""
    return Response([event.replace(b"\n", b"\r") for event in events])


def crlf(events: Iterable[bytes]) -> Response:
    """Lines end with CRLF."""
    return Response([event.replace(b"\n", b"\r\n") for event in events])


def retry_frames(events: Iterable[bytes], milliseconds: int = 3000) -> Response:
    """A block that only has a ``retry:`` field before each event; `milliseconds` is the field's value."""
    return Response([chunk for event in events for chunk in (b"retry: %d\n\n" % milliseconds, event)])


def keep_alives(events: Iterable[bytes]) -> Response:
    """A comment (``: keep-alive``) before each event."""
    return Response([chunk for event in events for chunk in (b": keep-alive\n\n", event)])


def rechunk(events: Iterable[bytes], size: int = 1) -> Response:
    """The same bytes in chunks of `size` bytes, regardless of event and character boundaries."""
    body = b"".join(events)
    return Response([body[at : at + size] for at in range(0, len(body), size)])


def split_utf8(events: Iterable[bytes]) -> Response:
    """Every multi-byte UTF-8 character is split across chunks: one chunk ends after each of its bytes but the last.

    Raises:
        ValueError: No character in `events` has more than one byte.
    """
    body = b"".join(events)
    cuts = [at for at, byte in enumerate(body) if byte & 0xC0 == 0x80]  # the continuation bytes
    if not cuts:
        raise ValueError("nothing to split: no character in `events` has more than one byte")
    steps: list[Step] = [body[start:end] for start, end in itertools.pairwise([0, *cuts, len(body)])]
    return Response(steps)
