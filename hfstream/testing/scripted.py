"""An HTTP/1.1 server that sends scripted responses and faults.

It uses threads and plain sockets, because faults such as a TCP reset need access to the socket, and implements only as
much of HTTP/1.1 as clients need. Does not depend on the format of the events it sends.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any, Self

__all__ = ["Fault", "Request", "Response", "ScriptedServer", "Step"]


class Fault(Enum):
    """What to do with the connection in the middle of a response. Nothing is sent after a fault."""

    DROP = "drop"
    """Close it without the end of the chunked body."""
    RESET = "reset"
    """Close it with a TCP reset."""
    STALL = "stall"
    """Send nothing more, and keep it open until the client closes it."""


Step = bytes | float | Fault
"""One step of a response body: bytes are sent as one HTTP chunk, a number is a pause in seconds."""


@dataclass(frozen=True)
class Response:
    """A scripted response: status, headers, and the steps of its body."""

    body: Iterable[Step] = ()
    """The steps, sent in order. If the response is sent more than once, this must be reiterable, such as a list."""
    status: int = 200
    """The HTTP status code."""
    content_type: str | None = "text/event-stream"
    """The `Content-Type` header; None omits it."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Further headers. The body is always sent with `Transfer-Encoding: chunked`."""
    delay: float = 0.0
    """Seconds to wait before the status line and headers are sent."""

    @classmethod
    def error(cls, status: int, message: str, error_type: str | None = None, **headers: str) -> Response:
        """An error in TGI's JSON format.

        Args:
            status: The HTTP status code.
            message: The value of `error`.
            error_type: The value of `error_type`, such as ``"overloaded"``; None leaves it out.
            headers: Further headers, with underscores for hyphens in their names: ``Retry_After="1"``.
        """
        body = {"error": message} | ({"error_type": error_type} if error_type else {})
        hyphenated = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls([json.dumps(body).encode()], status, "application/json", hyphenated)

    @classmethod
    def json(cls, value: Any) -> Response:
        """`value` as a JSON response with status 200.

        Raises:
            TypeError: `value` is not JSON-serializable.
        """
        return cls([json.dumps(value, ensure_ascii=False).encode()], content_type="application/json")


@dataclass(frozen=True)
class Request:
    """A request that a `ScriptedServer` received."""

    method: str
    path: str
    """The request target, including the query string."""
    headers: Mapping[str, str]
    """The request's headers; the names are in lower case."""
    body: bytes

    def json(self) -> Any:
        """The body, decoded from JSON.

        Raises:
            ValueError: The body is not valid JSON.
        """
        return json.loads(self.body)


class ScriptedServer:
    """A server on a free port of 127.0.0.1 that sends scripted responses.

    The first request gets the first of `responses`, the second request the second one, and so on; the last response
    is repeated. A response can also be a function that takes the `Request` and returns a `Response`; it is called in
    the thread of the connection. Use the server as a context manager, or call `start` and `close`.

    Raises:
        OSError: No local port is available.
    """

    def __init__(self, *responses: Response | Callable[[Request], Response]) -> None:
        self.responses: list[Response | Callable[[Request], Response]] = list(responses)
        """The responses that are still to be sent; the last one is never removed."""
        self.requests: list[Request] = []
        """All requests received so far, in order of arrival."""
        self.connections: int = 0
        """How many connections were accepted so far."""
        self._changed = threading.Condition()
        self._running = 0
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closing = False

    @property
    def url(self) -> str:
        """The server's URL, such as ``http://127.0.0.1:54321``."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def running(self) -> int:
        """How many responses are being sent now, including those that wait or stall."""
        return self._running

    def wait_until_running(self, count: int, timeout: float = 60.0) -> bool:
        """Waits until exactly `count` responses are being sent; returns False if `timeout` seconds pass first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running == count, timeout)

    def start(self) -> Self:
        """Starts to accept connections."""
        self._spawn(self._accept)
        return self

    def close(self) -> None:
        """Closes all connections and waits up to 5 seconds for each of their threads."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() does not
        self._listener.close()
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _spawn(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True, name="hfstream-scripted")
        self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._sockets.add(sock)
            self._spawn(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        try:
            with sock, sock.makefile("rb") as reader:
                while (request := _read_request(reader)) is not None:
                    self.requests.append(request)
                    self._count_running(1)
                    try:
                        if not _send_response(sock, self._next_response(request)):
                            return
                    finally:
                        self._count_running(-1)
        except OSError:
            pass  # the client closed the connection, which `running` shows
        finally:
            self._sockets.discard(sock)

    def _count_running(self, change: int) -> None:
        with self._changed:
            self._running += change
            self._changed.notify_all()

    def _next_response(self, request: Request) -> Response:
        response = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
        return response if isinstance(response, Response) else response(request)


def _read_request(reader: Any) -> Request | None:
    line = reader.readline()
    if not line:
        return None
    method, path, _ = line.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    while (header := reader.readline().decode("latin-1").strip()) != "":
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    return Request(method, path, headers, reader.read(int(headers.get("content-length", 0))))


def _send_response(sock: socket.socket, response: Response) -> bool:
    """Sends one response; returns whether the connection can be used for another request."""
    if response.delay and _client_closed(sock, response.delay):
        return False
    content_type = {"Content-Type": response.content_type} if response.content_type else {}
    head = {**content_type, **response.headers, "Transfer-Encoding": "chunked"}
    lines = [f"{name}: {value}\r\n" for name, value in head.items()]
    sock.sendall(f"HTTP/1.1 {response.status} Scripted\r\n{''.join(lines)}\r\n".encode("latin-1"))
    for step in response.body:
        if isinstance(step, bytes):
            sock.sendall(b"%x\r\n%b\r\n" % (len(step), step) if step else b"")
        elif step is Fault.RESET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        elif step is Fault.DROP or _client_closed(sock, None if isinstance(step, Fault) else step):
            return False
    sock.sendall(b"0\r\n\r\n")
    return True


def _client_closed(sock: socket.socket, seconds: float | None) -> bool:
    """Waits for `seconds` (None: without limit), and returns whether the client closed the connection meanwhile."""
    readable: Sequence[Any] = select.select([sock], [], [], seconds)[0]
    return bool(readable) and not sock.recv(1, socket.MSG_PEEK)
