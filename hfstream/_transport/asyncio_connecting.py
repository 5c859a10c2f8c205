"""Connects to the first address of a host that answers (RFC 8305), on any event loop of asyncio's interface.

asyncio's own loop does so by itself, uvloop's does not. Does not depend on what the connection is for.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Callable
from typing import TypeVar

import anyio

__all__ = ["connect"]

CONNECTION_ATTEMPT_DELAY = 0.25
"""Seconds until the next address is tried beside the one before: RFC 8305, section 8."""

ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol | asyncio.BufferedProtocol)


async def connect(
    make_protocol: Callable[[], ProtocolT], host: str, port: int, local_address: str | None = None
) -> ProtocolT:
    """The protocol of the connection.

    Raises:
        OSError: there is no such host, or no address of it answers; with the system's words.
    """
    loop = asyncio.get_running_loop()
    local = (local_address, 0) if local_address else None
    connections: list[tuple[asyncio.WriteTransport, ProtocolT]] = []
    errors: list[OSError] = []

    async def attempt(address: str, failed: asyncio.Event) -> None:
        try:
            connections.append(await loop.create_connection(make_protocol, address, port, local_addr=local))
        except OSError as error:
            errors.append(error)
            failed.set()
        else:
            group.cancel_scope.cancel()

    addresses = await _resolve(host, port)
    connected: ProtocolT | None = None
    try:
        async with anyio.create_task_group() as group:
            for address in addresses:
                failed = asyncio.Event()
                group.start_soon(attempt, address, failed)
                if address is not addresses[-1]:
                    with anyio.move_on_after(CONNECTION_ATTEMPT_DELAY):
                        await failed.wait()
        connected = connections[0][1] if connections else None
    finally:
        for transport, protocol in connections:
            if protocol is not connected:
                transport.abort()
    if connected is None:
        raise _joined(errors)
    return connected


async def _resolve(host: str, port: int) -> list[str]:
    """The addresses of `host`, those of the two families in turn."""
    if _is_address(host):  # to ask the system would take a thread
        return [host]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    first_family = found[0][0]
    by_family: tuple[list[str], list[str]] = ([], [])
    for family, *_, address in found:
        by_family[family != first_family].append(str(address[0]))
    ranked = [(place, other, address) for other, each in enumerate(by_family) for place, address in enumerate(each)]
    return [address for *_, address in sorted(ranked)]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _joined(errors: list[OSError]) -> OSError:
    """The one reason, in the system's words, or all of them."""
    reasons = {os.strerror(error.errno) if error.errno else str(error) for error in errors}
    if len(reasons) > 1:
        return OSError("; ".join(sorted(reasons)))
    return OSError(errors[0].errno, *reasons)
