"""How the doctor writes figures and foreign text. Does not depend on what they say."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

__all__ = ["base_url", "count", "duration", "plain", "quote", "redact", "shown_url"]

REDACTED_FROM = 6
"""Characters of a secret that are one."""

EXCERPT = 160
"""Characters of foreign text that are shown."""


def duration(seconds: float) -> str:
    """``0.4 ms``, ``41 ms``, ``1.25 s``."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def count(number: int, thing: str) -> str:
    """``1 token``, ``12 tokens``."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def plain(text: str) -> str:
    """Text of a server on one line, without control characters that a terminal would obey, and not too long."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1] + "…"


def quote(text: str) -> str:
    """The same, in quotation marks; ``nothing`` for none."""
    return f'"{plain(text)}"' if text.strip() else "nothing"


def base_url(url: str) -> str:
    """What a client is given as URL, of the URL of one of its requests."""
    for route in ("/chat/completions", "/completions", "/generate_stream"):
        if url.endswith(route):
            return url.removesuffix(route)
    return url


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text with ``[secret]`` in place of each secret, and of the beginning of one that an excerpt has cut off."""
    for secret in secrets:
        start = secret[:REDACTED_FROM]
        position = text.find(start)
        while position >= 0:
            shared = next(size for size in range(len(secret), 0, -1) if text.startswith(secret[:size], position))
            text = f"{text[:position]}[secret]{text[position + shared :]}"
            position = text.find(start, position + len("[secret]"))
    return text


def shown_url(url: str) -> str:
    """A URL without user, password and query, which may be secret."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
