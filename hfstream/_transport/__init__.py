"""Where bytes come from: httpx, its sockets, and the one place where its exceptions become ours.

Knows what httpx does not offer: a read limit that changes while a response is read, a close that wakes a blocked
reader, a client for each event loop. Refuses to know what bytes mean and whether to try again.
"""

from .exceptions import map_exception
from .http import AsyncHTTP, SyncHTTP

__all__ = ["AsyncHTTP", "SyncHTTP", "map_exception"]
