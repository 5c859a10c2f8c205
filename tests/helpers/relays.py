"""Servers between a client and a `ScriptedServer`: one with TLS, and a SOCKS5 proxy. Not depending on what passes."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

__all__ = ["socks_proxy", "tls_server"]

Target = tuple[str, int]
Accept = Callable[[socket.socket], tuple[socket.socket, Target]]
"""Takes a new connection; returns what to read from then on, and where its data go."""


@contextmanager
def tls_server(url: str, context: ssl.SSLContext) -> Generator[str]:
    """A server with TLS in front of the one at `url`, a http URL; its own URL, with ``127.0.0.1`` as host."""
    host, _, port = url.removeprefix("http://").partition(":")

    def accept(connection: socket.socket) -> tuple[socket.socket, Target]:
        secure = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        try:
            secure.do_handshake()
        except OSError:
            secure.close()
            raise
        return secure, (host, int(port))

    with _relay(accept) as address:
        yield f"https://{address}"


@contextmanager
def socks_proxy(asked: list[Target], *, credentials: tuple[bytes, bytes] | None = None) -> Generator[str]:
    """A SOCKS5 proxy (RFC 1928, 1929): its host and port. `asked`: gets the targets, whose name is not looked up.

    Every connection goes to ``127.0.0.1``, whatever host was asked for.
    """

    def accept(connection: socket.socket) -> tuple[socket.socket, Target]:
        _, count = _read(connection, 2)
        method = 2 if credentials else 0
        offered = method in _read(connection, count)
        connection.sendall(bytes([5, method if offered else 0xFF]))
        if credentials and offered:
            user = _read(connection, _read(connection, 2)[1])
            password = _read(connection, _read(connection, 1)[0])
            connection.sendall(bytes([1, (user, password) != credentials]))
        kind = _read(connection, 4)[3]
        host = (
            _read(connection, _read(connection, 1)[0]).decode() if kind == 3 else socket.inet_ntoa(_read(connection, 4))
        )
        port = int.from_bytes(_read(connection, 2))
        asked.append((host, port))
        connection.sendall(bytes([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
        return connection, ("127.0.0.1", port)

    with _relay(accept) as address:
        yield address


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += connection.recv(size - len(data)) or _end()
    return data


def _end() -> bytes:
    raise OSError("the client has closed the connection")


@contextmanager
def _relay(accept: Accept) -> Generator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        opened: list[socket.socket] = []

        def serve(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                client, target = accept(connection)
                with client, socket.create_connection(target) as server:
                    opened.append(server)
                    opened.append(client)
                    back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                    back.start()
                    _copy(client, server)
                    back.join()

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    opened.append(listener.accept()[0])
                    threading.Thread(target=serve, args=(opened[-1],), daemon=True).start()

        threading.Thread(target=run, daemon=True).start()
        yield "{}:{}".format(*listener.getsockname())
        for each in (listener, *opened):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
