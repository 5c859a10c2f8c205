"""Sends scripted responses on a connection: the head, the framing that the client understands, the steps.

Does not depend on where the responses come from.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from http import HTTPStatus
from typing import Any

from .connection import Connection
from .request import Request
from .response import Fault, Response, Step, check_step

__all__ = ["ScriptError", "send_response"]

Send = Callable[[bytes], None]


class ScriptError(Exception):
    """The script raised while its response was being made or sent. `error` is what it raised."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


def send_response(connection: Connection, request: Request, response: Response) -> bool:
    """Sends one response; returns whether the connection can be used for another request.

    Raises:
        ScriptError: The body raised, or has a step of a wrong type.
        OSError: The connection was lost.
    """
    if response.delay and connection.wait_closed(response.delay):
        return False
    if response.raw:
        return _send_steps(connection, response.body, connection.send) and False
    head = _Head(request, response)
    connection.send(head.encode())
    if head.bodiless:
        return head.keeps_alive
    if not _send_steps(connection, response.body, _chunks(connection) if head.chunked else connection.send):
        return False
    if head.chunked:
        connection.send(b"0\r\n\r\n")
    return head.keeps_alive


class _Head:
    """The status line and headers of a response, and how its body is framed."""

    def __init__(self, request: Request, response: Response) -> None:
        items = response.header_items()
        names = {name.lower() for name, _ in items}
        old = request.http_version == "1.0"
        size = _known_size(response.body)
        self.bodiless: bool = request.method == "HEAD" or response.status in (204, 304)
        self.chunked: bool = not (old or self.bodiless or names & {"content-length", "transfer-encoding"})
        if self.chunked:
            items.append(("Transfer-Encoding", "chunked"))
        elif size is not None and not self.bodiless and not names & {"content-length", "transfer-encoding"}:
            items.append(("Content-Length", str(size)))
        framed = self.chunked or self.bodiless or _values(items, "content-length") == [str(size)]
        closes = "close" in ", ".join(_values(items, "connection")).lower()
        self.keeps_alive: bool = request.keeps_alive and framed and not closes
        if "connection" not in names and (old or not self.keeps_alive):
            items.append(("Connection", "keep-alive" if self.keeps_alive else "close"))
        self._status, self._items = response.status, items

    def encode(self) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in self._items)
        return f"HTTP/1.1 {self._status} {_reason(self._status)}\r\n{lines}\r\n".encode("latin-1")


def _values(items: list[tuple[str, str]], wanted: str) -> list[str]:
    return [value for name, value in items if name.lower() == wanted]


def _known_size(body: Iterable[Step]) -> int | None:
    """The number of bytes of a body that is a list of nothing but bytes."""
    if isinstance(body, list) and all(isinstance(step, bytes) for step in body):
        return sum(len(step) for step in body if isinstance(step, bytes))
    return None


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Scripted"


def _chunks(connection: Connection) -> Send:
    def send(data: bytes) -> None:
        if data:  # an empty chunk would end the body
            connection.send(b"%x\r\n%b\r\n" % (len(data), data))

    return send


def _send_steps(connection: Connection, body: Iterable[Step], send: Send) -> bool:
    """Carries out the steps; returns whether the end was reached, without a fault or a client that left."""
    steps = _checked(body)
    try:
        for step in steps:
            if isinstance(step, bytes):
                send(step)
            elif step is Fault.RESET:
                connection.reset()
                return False
            elif step is Fault.DROP or connection.wait_closed(None if isinstance(step, Fault) else step):
                return False
    finally:
        steps.close()
    return True


def _checked(body: Iterable[Any]) -> Generator[bytes | float | Fault]:
    """The steps as they are sent. What the body raises is a ScriptError: it is not a lost connection."""
    try:
        steps = iter(body)
    except BaseException as error:
        raise ScriptError(error) from error
    try:
        while True:
            try:
                step = check_step(next(steps))
            except StopIteration:
                return
            except BaseException as error:
                raise ScriptError(error) from error
            yield step
    finally:
        if isinstance(steps, Generator):
            steps.close()
