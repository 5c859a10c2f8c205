"""Answers that go wrong, or look odd and are right: each as an `Response` for a `ScriptedServer`.

    from hfstream.testing import ScriptedServer, faults, token_events

    with ScriptedServer(faults.drop(token_events("Hello", ",", " you"), after=2)) as server: ...

`events` are those of `token_events` or `chat_events`, or any bytes of yours, one chunk each. What is not here is a few
steps of your own. Refuses to know what a client should do about it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable

from ..core.sse import encode
from .events import DONE
from .scripted import Fault, Response, Step

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
"""Ends of lines for ``str.splitlines``, but not for SSE, and JSON needs not escape them. Say them in a token."""


# The connection ------------------------------------------------------------------------------------------------------


def paced(events: Iterable[bytes], seconds: float) -> Response:
    """No fault: a pause of so many seconds before each event."""
    return Response([step for event in events for step in (seconds, event)])


def drop(events: Iterable[bytes], *, after: int) -> Response:
    """The connection is closed after so many events, without the end of the body."""
    return _broken(events, after, Fault.DROP)


def reset(events: Iterable[bytes], *, after: int) -> Response:
    """The connection is reset after so many events."""
    return _broken(events, after, Fault.RESET)


def stall(events: Iterable[bytes], *, after: int) -> Response:
    """Nothing is said after so many events, and the connection stays open until the client leaves."""
    return _broken(events, after, Fault.STALL)


def early_end(events: Iterable[bytes], *, after: int) -> Response:
    """The body ends after so many events as if all had been said."""
    return Response(list(itertools.islice(events, after)))


def _broken(events: Iterable[bytes], after: int, fault: Fault) -> Response:
    return Response([*itertools.islice(events, after), fault])


# Refusals ------------------------------------------------------------------------------------------------------------


def overloaded(retry_after: float | None = 1) -> Response:
    """A status of 429 in TGI's words; `retry_after` seconds, or None for no such header."""
    wait = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return Response.error(429, "Model is overloaded", "overloaded", **wait)


def overloaded_in_stream(*, chat: bool = False) -> Response:
    """A status of 200, and a refusal as its only event. So a real TGI refuses streams; `chat`: on OpenAI's routes."""
    if chat:  # the number is a constant of TGI's, whatever the error, and [DONE] does not mean that all went well
        error = {"message": "Model is overloaded", "http_status_code": 422}
        return Response([encode(json.dumps({"error": error})), DONE])
    return Response([encode(json.dumps({"error": "Model is overloaded", "error_type": "overloaded"}))])


def html(body: bytes = b"<!doctype html><title>Sign in</title>") -> Response:
    """A page for people, with a status of 200: a proxy's, where the server should be."""
    return Response([body], content_type="text/html; charset=utf-8")


def empty() -> Response:
    """An event stream of status 200 with nothing in it."""
    return Response()


# Bytes: all of these are whole answers, and a client must read them as such ------------------------------------------


def byte_order_mark(events: Iterable[bytes]) -> Response:
    """A BOM before the first event."""
    first, *rest = events
    return Response([b"\xef\xbb\xbf" + first, *rest])


def cr_only(events: Iterable[bytes]) -> Response:
    """Lines end with CR."""
    return Response([event.replace(b"\n", b"\r") for event in events])


def crlf(events: Iterable[bytes]) -> Response:
    """Lines end with CR and LF."""
    return Response([event.replace(b"\n", b"\r\n") for event in events])


def retry_frames(events: Iterable[bytes], milliseconds: int = 3000) -> Response:
    """A block with nothing but a ``retry:`` field before each event."""
    return Response([chunk for event in events for chunk in (b"retry: %d\n\n" % milliseconds, event)])


def keep_alives(events: Iterable[bytes]) -> Response:
    """A comment before each event."""
    return Response([chunk for event in events for chunk in (b": keep-alive\n\n", event)])


def rechunk(events: Iterable[bytes], size: int = 1) -> Response:
    """The same bytes in chunks of `size`, wherever that cuts them."""
    body = b"".join(events)
    return Response([body[at : at + size] for at in range(0, len(body), size)])


def split_utf8(events: Iterable[bytes]) -> Response:
    """Every character of more than one byte is cut: none comes in one chunk.

    Raises:
        ValueError: there is no such character in `events`.
    """
    body = b"".join(events)
    cuts = [at for at, byte in enumerate(body) if byte & 0xC0 == 0x80]
    if not cuts:
        raise ValueError("no character here has more than one byte: there is nothing to split")
    steps: list[Step] = [body[start:end] for start, end in itertools.pairwise([0, *cuts, len(body)])]
    return Response(steps)
