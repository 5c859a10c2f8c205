"""Keeps credentials out of recordings. Does not depend on how recordings are stored."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qsl, urlsplit

from .request import Request

__all__ = ["SECRET_HEADERS", "credentials", "mask", "mask_chunks"]

SECRET_HEADERS = frozenset(
    {
        "set-cookie", "www-authenticate", "proxy-authenticate", "authentication-info", "authorization", "x-api-key",
        "api-key", "openai-organization", "openai-project",
    }
)  # fmt: skip
"""Headers of responses that are not recorded."""

_CREDENTIAL_HEADERS = ("authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "x-auth-token")
_CREDENTIAL_PARAMETERS = ("key", "api_key", "api-key", "apikey", "token", "access_token", "sig", "signature", "code")
_SHORTEST = 6
"""Characters of a credential. Shorter values may be ordinary words, which would be masked wherever they are."""


def credentials(request: Request) -> Sequence[bytes]:
    """The credentials that a request carries: keys, passwords, cookies. Only those in its headers and its URL."""
    values = [request.headers.get(name, "") for name in _CREDENTIAL_HEADERS]
    found = {part for value in values for part in (value, value.partition(" ")[2]) if part}
    found.update(_passwords(values))
    found.update(cookie.partition("=")[2].strip() for cookie in request.headers.get("cookie", "").split(";"))
    query = urlsplit(request.path).query
    found.update(value for name, value in parse_qsl(query) if name.lower() in _CREDENTIAL_PARAMETERS)
    usable = [value.encode("utf-8", "surrogateescape") for value in found if len(value) >= _SHORTEST]
    return sorted(usable, key=len, reverse=True)  # the whole header before the key in it


def _passwords(values: Iterable[str]) -> Iterable[str]:
    """The passwords of headers with ``Basic`` authentication."""
    for value in values:
        scheme, _, encoded = value.partition(" ")
        if scheme.lower() == "basic":
            try:
                yield base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                continue


def mask(data: bytes, secrets: Iterable[bytes]) -> bytes:
    """`data` with each secret replaced by as many asterisks: lengths and boundaries stay as they were."""
    for secret in secrets:
        if secret in data:
            data = data.replace(secret, b"*" * len(secret))
    return data


def mask_chunks(chunks: Sequence[bytes], secrets: Iterable[bytes]) -> Sequence[bytes]:
    """The chunks of a body without secrets, also where a boundary divides one."""
    body = b"".join(chunks)
    masked = mask(body, secrets)
    if masked == body:
        return chunks
    pieces: list[bytes] = []
    at = 0
    for chunk in chunks:
        pieces.append(masked[at : at + len(chunk)])
        at += len(chunk)
    return pieces
