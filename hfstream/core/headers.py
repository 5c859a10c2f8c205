"""Which headers can be sent with a request."""

from __future__ import annotations

import re

__all__ = ["HEADER_NAME", "check_header"]

HEADER_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
"""A token of RFC 9110."""


def check_header(name: str, value: str | None) -> None:
    """Checks a header that is added, or with None taken away.

    Raises:
        ValueError: it cannot be sent. The message does not show the value.
    """
    if not HEADER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a header: it may have letters, digits and hyphens")
    if value is not None and name.lower() in ("content-length", "transfer-encoding"):
        raise ValueError(f"the header {name!r} cannot be set, because it depends on the body: leave it out")
    if value is not None and not (value.isascii() and value.replace("\t", " ").isprintable()):
        raise ValueError(
            f"the value of the header {name!r} has a line break, another control character, or one outside ASCII: "
            "encode it, for example with urllib.parse.quote"
        )
