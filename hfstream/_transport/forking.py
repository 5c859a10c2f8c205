"""What a forked child does with what its parent has open: nothing of it is used, closed or shut down.

A child inherits the parent's sockets, and both would read from the same connection: the responses of one process would
appear in the other. So in a child every such descriptor is pointed at the null device, pools are made anew, and locks
that another thread of the parent held are replaced. Does not depend on what the objects are.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Protocol
from weakref import WeakSet

__all__ = ["keep_forever", "register_socket", "renew_in_child"]


class _Renewable(Protocol):
    def _after_fork(self) -> None: ...


_renewable: WeakSet[_Renewable] = WeakSet()
_network_streams: WeakSet[Any] = WeakSet()
_kept: list[object] = []


def renew_in_child(thing: _Renewable) -> None:
    """Calls `thing._after_fork()` in a forked child, for as long as `thing` exists."""
    _renewable.add(thing)


def register_socket(network_stream: Any) -> None:
    """The socket of an httpcore network stream, ours or a user's client's, belongs to this process only."""
    with contextlib.suppress(TypeError):  # of another library, without weak references
        _network_streams.add(network_stream)


def keep_forever(*things: object) -> None:
    """Keeps what a child has inherited: a finalizer might wait for a lock, or reach the parent's event loop."""
    _kept.extend(things)


def _disconnect(null: int) -> None:
    # Not closed: the number stays taken, so that whatever still knows it reaches the null device and nothing else. An
    # epoll instance, which parent and child share as well, keeps the parent's entry.
    for network_stream in list(_network_streams):
        with contextlib.suppress(Exception):
            os.dup2(null, network_stream.get_extra_info("socket").fileno(), inheritable=False)
        keep_forever(network_stream)
    _network_streams.clear()


def _in_child() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    try:
        _disconnect(null)
    finally:
        os.close(null)
    for thing in list(_renewable):
        thing._after_fork()  # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_child)
