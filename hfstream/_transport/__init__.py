"""Sends requests and reads responses with httpx; the one place where its exceptions become ours.

Adds what httpx does not offer: a read limit that changes while a response is read, a close that wakes a blocked reader,
a client for each event loop. Does not depend on what the bytes mean, nor on whether a request is retried.
"""

from ._async.http import AsyncHTTP
from ._async.responses import AsyncStreamedResponse
from ._sync.http import SyncHTTP
from ._sync.responses import SyncStreamedResponse
from .exceptions import map_exception
from .forking import keep_forever, renew_in_child

__all__ = [
    "AsyncHTTP",
    "AsyncStreamedResponse",
    "SyncHTTP",
    "SyncStreamedResponse",
    "keep_forever",
    "map_exception",
    "renew_in_child",
]
