"""Sends requests and reads responses with httpx; the one place where its exceptions become ours.

Adds what httpx does not offer: a read limit that changes while a response is read, a close that wakes a blocked reader,
a client for each event loop. Does not depend on what the bytes mean, nor on whether a request is retried.

Importing this package imports none of its modules: httpx takes longer to import than all of hfstream, and is not needed
to make a client. Each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._async.http import AsyncHTTP
    from ._async.responses import AsyncStreamedResponse
    from ._sync.http import SyncHTTP
    from ._sync.responses import SyncStreamedResponse
    from .exceptions import map_exception

__all__ = ["AsyncHTTP", "AsyncStreamedResponse", "SyncHTTP", "SyncStreamedResponse", "map_exception"]

_MODULES = {
    "AsyncHTTP": "_async.http",
    "AsyncStreamedResponse": "_async.responses",
    "SyncHTTP": "_sync.http",
    "SyncStreamedResponse": "_sync.responses",
    "map_exception": "exceptions",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value
