"""Which of a host's addresses a connection is made to."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import httpcore
import pytest

from hfstream._transport import asyncio_connecting
from hfstream._transport.asyncio_streams import AsyncioBackend


class Host:
    """A name with several addresses: some refuse, some never answer, some do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *addresses: tuple[Any, str]) -> None:
        self.tried: list[str] = []
        loop = asyncio.get_running_loop()
        create_connection = loop.create_connection

        async def getaddrinfo(host: str, port: int, **options: Any) -> Any:
            return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address in addresses]

        async def create(factory: Any, host: str, port: int, **options: Any) -> Any:
            self.tried.append(host)
            if host == "silent":
                await asyncio.sleep(3600)
            if host in ("refuses", "unreachable"):
                raise OSError(errno.ECONNREFUSED if host == "refuses" else errno.ENETUNREACH, "not shown")
            return await create_connection(factory, "127.0.0.1", port, **options)

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr(loop, "create_connection", create)


V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.mark.parametrize(
    ("addresses", "tried"),
    [
        ([(V6, "refuses"), (V6, "unreachable"), (V4, "answers")], ["refuses", "answers"]),
        ([(V6, "silent"), (V4, "answers"), (V4, "refuses")], ["silent", "answers"]),
        ([(V4, "answers"), (V6, "refuses")], ["answers"]),
    ],
)
async def test_the_addresses_of_a_host_are_tried_by_turns(
    monkeypatch: pytest.MonkeyPatch, addresses: list[tuple[Any, str]], tried: list[str]
) -> None:
    monkeypatch.setattr(asyncio_connecting, "CONNECTION_ATTEMPT_DELAY", 0.5 if "silent" in tried else 60.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        host = Host(monkeypatch, *addresses)
        stream = await AsyncioBackend().connect_tcp("example.org", port, timeout=60)
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", port)
        await stream.aclose()
    assert host.tried == tried


async def test_a_host_none_of_whose_addresses_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    Host(monkeypatch, (V6, "unreachable"), (V4, "refuses"))
    with pytest.raises(httpcore.ConnectError, match=r"^Connection refused; Network is unreachable$"):
        await AsyncioBackend().connect_tcp("example.org", 1, timeout=60)
    Host(monkeypatch, (V6, "silent"), (V4, "refuses"))
    monkeypatch.setattr(asyncio_connecting, "CONNECTION_ATTEMPT_DELAY", 0.01)
    with pytest.raises(httpcore.ConnectTimeout):
        await AsyncioBackend().connect_tcp("example.org", 1, timeout=0.1)


async def test_an_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch)  # which has no address
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream = await AsyncioBackend().connect_tcp("127.0.0.1", listener.getsockname()[1], timeout=60)
        await stream.aclose()
    assert host.tried == ["127.0.0.1"]
