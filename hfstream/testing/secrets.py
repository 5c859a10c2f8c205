"""Keeps credentials out of recordings. Does not depend on how recordings are stored."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlsplit

from .request import Request

__all__ = ["SECRET_HEADERS", "credentials", "mask", "mask_chunks", "url_credentials"]

SECRET_HEADERS = frozenset(
    {
        "set-cookie", "www-authenticate", "proxy-authenticate", "authentication-info", "authorization", "x-api-key",
        "api-key", "openai-organization", "openai-project",
    }
)  # fmt: skip
"""Headers of responses that are not recorded."""

_CREDENTIAL_HEADERS = re.compile(r"(.*[-_])?(authorization|auth|key|token|secret|password|signature)|apikey")
"""Names of headers of requests. Every gateway has its own, such as ``Ocp-Apim-Subscription-Key``."""
_CREDENTIAL_PARAMETERS = ("key", "api_key", "api-key", "apikey", "token", "access_token", "sig", "signature", "code")
_SHORTEST = 6
"""Characters of a credential. Shorter values may be ordinary words, which would be masked wherever they are."""


def credentials(request: Request) -> Sequence[bytes]:
    """The credentials that a request carries: keys, passwords, cookies. Only those in its headers and its URL.

    Each in the forms in which a server may repeat it; the longest first.
    """
    headers = {name: _as_sent(value) for name, value in request.headers.items()}
    values = [value for name, value in headers.items() if _CREDENTIAL_HEADERS.fullmatch(name)]
    found = {value.partition(" ")[2] or value for value in values}
    found.update(_passwords(values))
    found.update(cookie.partition("=")[2].strip() for cookie in headers.get("cookie", "").split(";"))
    for parameter in urlsplit(request.path).query.split("&"):
        name, _, value = parameter.partition("=")
        if unquote_plus(name).lower() in _CREDENTIAL_PARAMETERS:
            found.update((value, unquote_plus(value, errors="surrogateescape")))
    usable = {form for value in found if len(value) >= _SHORTEST for form in _forms(value)}
    usable.update(value.encode("utf-8", "surrogateescape") for value in values if len(value) >= _SHORTEST)
    return _longest_first(usable)


def url_credentials(url: str) -> Sequence[bytes]:
    """The credentials in a server's URL, also as the header in which they are sent."""
    parts = urlsplit(url)
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    if pair == ":":
        return []
    sent = f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"
    usable = {form for form in _forms(parts.password or "") if len(form) >= _SHORTEST}
    return _longest_first({*usable, *credentials(Request("GET", "/", {"authorization": sent}, b""))})


def _longest_first(secrets: Iterable[bytes]) -> Sequence[bytes]:
    return sorted(secrets, key=len, reverse=True)  # the whole header before the key in it


def _as_sent(value: str) -> str:
    """A header's value with the characters that its bytes are in UTF-8."""
    return value.encode("latin-1").decode("utf-8", "surrogateescape")


def _forms(value: str) -> Iterable[bytes]:
    """How a server may write a value: as it is, in a URL, and in JSON."""
    urls = (quote(value, safe="", errors="surrogateescape"), quote_plus(value, errors="surrogateescape"))
    texts = (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])
    return [form.encode("utf-8", "surrogateescape") for form in (value, *urls, *texts)]


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
