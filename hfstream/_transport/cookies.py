"""The cookies that servers set, such as those of a load balancer: few, small, and the newest ones.

httpx's own jar has no limit, and would send two thousand cookies in a header of megabytes. Does not depend on httpx.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from http.cookiejar import Cookie, CookieJar
from typing import Any

__all__ = ["BoundedCookieJar"]

MAX_COOKIE_SIZE = 4096
"""Bytes of a name and its value, as in browsers (RFC 6265, 6.1). A larger cookie is not kept."""

MAX_COOKIES_PER_DOMAIN = 50

MAX_COOKIES = 180

MAX_HEADER_SIZE = 8192
"""Bytes of all cookies of a domain together: servers refuse longer headers."""


class BoundedCookieJar(CookieJar):
    """A jar in which the oldest cookies make room for new ones."""

    _cookies: dict[str, dict[str, dict[str, Cookie]]]
    _cookies_lock: Any

    def set_cookie(self, cookie: Cookie) -> None:
        """Keeps `cookie`, unless it is too large."""
        if _size(cookie) > MAX_COOKIE_SIZE:
            return
        with self._cookies_lock:
            self._cookies.get(cookie.domain, {}).get(cookie.path, {}).pop(cookie.name, None)  # set again: the newest
            super().set_cookie(cookie)
            # In the order in which they were set, for each path; paths are few.
            same_domain = list(_in(self._cookies[cookie.domain]))
            size = sum(map(_size, same_domain))
            while len(same_domain) > MAX_COOKIES_PER_DOMAIN or size > MAX_HEADER_SIZE:
                oldest = same_domain.pop(0)
                size -= _size(oldest)
                self._remove(oldest)
            while sum(1 for _ in self) > MAX_COOKIES:
                self._remove(next(iter(self)))

    def _remove(self, cookie: Cookie) -> None:
        paths = self._cookies[cookie.domain]
        del paths[cookie.path][cookie.name]
        if not paths[cookie.path]:
            del paths[cookie.path]
        if not paths:
            del self._cookies[cookie.domain]


def _in(paths: dict[str, dict[str, Cookie]]) -> Iterator[Cookie]:
    return itertools.chain.from_iterable(by_name.values() for by_name in paths.values())


def _size(cookie: Cookie) -> int:
    return len(cookie.name) + len(cookie.value or "") + len("=; ")
