"""Accepts connections, also when the system refuses some: too many open files, no memory, a client that is gone.

asyncio's own way tries 2,048 times in a row and reports each failure with a traceback; uvloop stops to accept at all.
Does not depend on HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

logger: logging.Logger = logging.getLogger(__name__)

_AT_ONCE = 32
"""Connections that are accepted before anything else gets its turn."""
_LONGEST_PAUSE = 1.0
_LOG_INTERVAL = 60.0


class Acceptor:
    """Opens a connection for each client of a listening socket, until it is closed. Belongs to one event loop."""

    def __init__(
        self, listening: socket.socket, make_protocol: Callable[[], asyncio.Protocol], make_room: Callable[[], None]
    ) -> None:
        """`make_room` is called when there are too many open files: it may close connections that are not needed."""
        listening.setblocking(False)
        self._listening = listening
        self._make_protocol = make_protocol
        self._make_room = make_room
        self._logged: float | None = None
        self._task = asyncio.create_task(self._accept_all())

    def close(self) -> None:
        """Accepts no more. Connections that are open stay so."""
        self._task.cancel()

    async def wait_closed(self) -> None:
        """Waits for the end of the task."""
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _accept_all(self) -> None:
        loop, pause = asyncio.get_running_loop(), 0.0
        while True:
            try:
                first, _ = await loop.sock_accept(self._listening)
            except OSError as error:
                pause = min(_LONGEST_PAUSE, pause * 2 or 0.02)
                self._log(error)
                self._make_room()
                await asyncio.sleep(pause)
                continue
            pause = 0.0
            await asyncio.gather(*map(self._open, [first, *self._accept_waiting()]))

    def _accept_waiting(self) -> list[socket.socket]:
        accepted: list[socket.socket] = []
        with contextlib.suppress(OSError):  # none waits, or what the next `sock_accept` reports
            while len(accepted) < _AT_ONCE:
                accepted.append(self._listening.accept()[0])
        return accepted

    async def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with contextlib.suppress(OSError):  # not a TCP connection, or one that is lost already
            # Otherwise the first event of a response waits for the client's delayed acknowledgement, 40 ms.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._make_protocol, connection)
        except OSError as error:
            connection.close()
            self._log(error)

    def _log(self, error: OSError) -> None:
        now = asyncio.get_running_loop().time()
        if self._logged is None or now - self._logged > _LOG_INTERVAL:
            self._logged = now
            logger.error("cannot accept connections at this time: %s", error.strerror or error)
