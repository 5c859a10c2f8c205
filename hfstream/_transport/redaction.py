"""Takes secrets out of the messages of httpx and httpcore: what they log of our requests, and what they raise.

httpx logs the URL of each request at INFO. httpcore logs the headers of responses, headers that it refuses to send and
the password of a SOCKS proxy at DEBUG, and hpack every header of an HTTP/2 connection. A filter on their loggers
shortens these records while a request of ours is sent; the requests of other code in the process are logged as ever.
Does not depend on how logging is configured: a configuration that resets loggers leaves their filters.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from ..core.urls import origin

__all__ = ["redact", "redacted_logs"]

_redacting: ContextVar[bool] = ContextVar("hfstream.redacting", default=False)

_HTTPX = ("httpx", "httpx2")
_HTTPCORE = tuple(
    f"{package}.{module}"
    for package in ("httpcore", "httpcore2")
    for module in ("connection", "http11", "http2", "proxy", "socks")
)
_HPACK = ("hpack.hpack", "hpack.table")

_HARMLESS_STEPS = frozenset({"close", "connect_tcp", "connect_unix_socket", "response_closed", "retry", "start_tls"})
"""Steps of httpcore whose details have neither headers nor passwords."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]+")

_QUOTED_HEADER = re.compile(r"(?i)((?<!chunk )header\b[^'\"]*?):? (?:bytearray\()?b['\"].*", re.DOTALL)
"""What h11 says of a header that it refuses, sent or received."""


@contextmanager
def redacted_logs() -> Generator[None]:
    """Marks what is logged in this thread or task as that of a request of ours."""
    token = _redacting.set(True)
    try:
        yield
    finally:
        with suppress(ValueError):  # a coroutine that is garbage-collected is closed in another context
            _redacting.reset(token)


def redact(message: str) -> str:
    """`message` with the origin of a URL in place of the URL, and without the header that it quotes."""
    return _URL.sub(lambda url: _origin(url[0]), _QUOTED_HEADER.sub(r"\1", message))


def _origin(url: str) -> str:
    try:
        return origin(url)
    except ValueError:
        return "[a URL]"


def _filter(record: logging.LogRecord) -> bool:
    """Shortens the record if it is of a request of ours; returns whether to log it."""
    if not _redacting.get():
        return True
    message = record.getMessage()
    if record.name in _HTTPCORE and message.partition(".")[0] not in _HARMLESS_STEPS:
        record.msg, record.args = message.partition(" ")[0], ()
    else:
        record.msg, record.args = redact(message), ()
    return record.name not in _HPACK


for _name in (*_HTTPX, *_HTTPCORE, *_HPACK):
    # Of each logger by itself: a record that is passed on to a parent does not go through the parent's filters.
    logging.getLogger(_name).addFilter(_filter)
