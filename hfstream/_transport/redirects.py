"""Redirects, and the headers that a redirected request may carry.

httpx removes Authorization and Cookie from a request that is redirected to another origin. Other headers may hold a key
as well (`api-key`), or name an account (`X-HF-Bill-To`), so only headers known to hold neither are sent there.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx

from ..core.urls import check_host, is_url, origin
from ..errors import InferenceError, UnexpectedResponseError

__all__ = [
    "INVALID_LOCATION",
    "REDIRECTION",
    "Redirection",
    "encode_headers",
    "mark_invalid_redirect",
    "mark_redirection",
    "next_request",
]

REDIRECTION = "_hfstream_redirection"
"""Attribute of an exception: the `Redirection` of the request that raised it."""


class Redirection(NamedTuple):
    """Where a request was redirected to."""

    url: str
    method_changed: bool
    """Whether it is a GET there, without a body: what 301, 302 and 303 do to a POST (RFC 9110, 15.4)."""

    @classmethod
    def of(cls, original: httpx.Request, redirected: httpx.Request) -> Redirection | None:
        """What `redirected` is to the `original` request; None if it is the same."""
        if redirected is original:
            return None
        return cls(str(redirected.url), redirected.method != original.method)

    def explain(self, error: InferenceError) -> None:
        """Adds to an error that a response says what the user cannot see: which server sent it, and why."""
        how = " as a GET without its body: pass that URL to the client" if self.method_changed else ""
        error.add_note(f"the request was redirected to {origin(self.url)}{how}")


@contextmanager
def mark_redirection(original: httpx.Request, redirected: httpx.Request) -> Generator[None]:
    """Marks an exception as that of a redirected request, for `map_exception`."""
    try:
        yield
    except Exception as error:
        setattr(error, REDIRECTION, Redirection.of(original, redirected))
        raise


MAX_REDIRECTS = 20
"""The same limit as httpx's."""

_SAFE_HEADERS = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "prefer", "user-agent"}
)


def next_request(response: Any, redirects: int) -> Any:
    """The request to which `response` redirects. `redirects` is how many came before.

    Raises:
        httpx.TooManyRedirects: there were `MAX_REDIRECTS` already.
        UnexpectedResponseError: nothing can be sent to the URL to which it redirects.
    """
    request = response.next_request
    _check_target(str(request.url), str(response.request.url))
    if redirects >= MAX_REDIRECTS:
        raise httpx.TooManyRedirects("too many redirects", request=response.request)
    if origin(str(request.url)) != origin(str(response.request.url)):
        for name in [name for name in request.headers if name.lower() not in _SAFE_HEADERS]:
            del request.headers[name]
    return request


def encode_headers(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    """Headers as bytes: httpx encodes text as ASCII, but the id of an event is sent back in UTF-8, as it came."""
    return {name.encode(): value.strip().encode() for name, value in headers.items()}


@contextmanager
def mark_invalid_redirect() -> Generator[None]:
    """Names what httpx raises, in several ways, if a response redirects to a URL that it cannot parse.

    The request itself has been made before, and so its own URL is none of these.
    """
    try:
        yield
    except (UnicodeError, httpx.InvalidURL) as error:  # the former of idna
        raise httpx.RemoteProtocolError(f"{INVALID_LOCATION}: {error}") from error


INVALID_LOCATION = "Invalid URL in location header"
"""How httpx itself begins the message where it notices."""


def _check_target(url: str, source: str) -> None:
    try:
        if not is_url(url):
            raise ValueError("it does not start with http:// or https://")  # noqa: TRY301
        check_host(url)
    except ValueError as error:
        raise UnexpectedResponseError(f"{origin(source)} redirects to an invalid URL: {error}") from None
