"""Redirects, and the headers that a redirected request may carry.

httpx removes Authorization and Cookie from a request that is redirected to another origin. Other headers may hold a key
as well (`api-key`), or name an account (`X-HF-Bill-To`), so only headers known to hold neither are sent there.
"""

from __future__ import annotations

from typing import Any

import httpx

from ..core.urls import origin

__all__ = ["next_request"]

MAX_REDIRECTS = 20
"""The same limit as httpx's."""

_SAFE_HEADERS = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "prefer", "user-agent"}
)


def next_request(response: Any, redirects: int) -> Any:
    """The request to which `response` redirects; None if it is not a redirect. `redirects` is how many came before.

    Raises:
        httpx.TooManyRedirects: there were `MAX_REDIRECTS` already.
    """
    request = response.next_request
    if request is None:
        return None
    if redirects >= MAX_REDIRECTS:
        raise httpx.TooManyRedirects("too many redirects", request=response.request)
    if origin(str(request.url)) != origin(str(response.request.url)):
        for name in [name for name in request.headers if name.lower() not in _SAFE_HEADERS]:
            del request.headers[name]
    return request
