"""Where a redirect leads, and what may travel there.

httpx takes Authorization and Cookie off a request that a redirect leads to another origin. A key may be in any other
header of the user's as well (`api-key`, `X-HF-Bill-To`), so there only those go that say nothing of anybody.
"""

from __future__ import annotations

from typing import Any

import httpx

from ..core.urls import origin

__all__ = ["next_request"]

MAX_REDIRECTS = 20
"""As many as httpx follows."""

_SAFE_HEADERS = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "prefer", "user-agent"}
)


def next_request(response: Any, redirects: int) -> Any:
    """The request that a response leads on to; None if it leads nowhere.

    Raises:
        httpx.TooManyRedirects: it has led on often enough.
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
