"""The server that says its lines. Threads and plain sockets: a fault is a thing one does to a socket.

It speaks just enough HTTP/1.1 for any client, and refuses to know what its lines mean.
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
    """Things to do to a connection in the middle of an answer."""

    DROP = "drop"
    """Close it, without the end of the body."""
    RESET = "reset"
    """Close it with a TCP reset."""
    STALL = "stall"
    """Say nothing more until the client leaves."""


Step = bytes | float | Fault
"""Bytes are sent as one chunk; a number is a pause in seconds."""


@dataclass(frozen=True)
class Response:
    """What one request is answered with: a head, and the steps of its body."""

    body: Iterable[Step] = ()
    status: int = 200
    content_type: str | None = "text/event-stream"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay: float = 0.0
    """Seconds before the head."""

    @classmethod
    def error(cls, status: int, message: str, error_type: str | None = None, **headers: str) -> Response:
        """TGI's refusal. Underscores in the names of `headers` are dashes: ``Retry_After="1"``."""
        body = {"error": message} | ({"error_type": error_type} if error_type else {})
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls([json.dumps(body).encode()], status, "application/json", named)

    @classmethod
    def json(cls, value: Any) -> Response:
        """A JSON value."""
        return cls([json.dumps(value, ensure_ascii=False).encode()], content_type="application/json")


@dataclass(frozen=True)
class Request:
    """What was asked."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedServer:
    """Answers each request with the next of its `answers`, and every further one with the last.

    An answer may also be a function of the `Request`. Use it as a context manager, or `start` and `close` it.
    """

    def __init__(self, *answers: Response | Callable[[Request], Response]) -> None:
        self.responses: list[Response | Callable[[Request], Response]] = list(answers)
        self.requests: list[Request] = []
        """What has been asked so far, in order."""
        self.connections: int = 0
        """How many connections have been made so far."""
        self._changed = threading.Condition()
        self._running = 0
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closing = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def running(self) -> int:
        """How many answers are being given now."""
        return self._running

    def wait_until_running(self, count: int, timeout: float = 60.0) -> bool:
        """Waits until `count` answers are being given; whether that came true within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running == count, timeout)

    def start(self) -> Self:
        self._spawn(self._accept)
        return self

    def close(self) -> None:
        """Ends every connection, and waits for its threads."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() would not
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
                    self._run(1)
                    try:
                        if not _send_response(sock, self._next_response(request)):
                            return
                    finally:
                        self._run(-1)
        except OSError:
            pass  # the client left: that is what `running` shows
        finally:
            self._sockets.discard(sock)

    def _run(self, change: int) -> None:
        with self._changed:
            self._running += change
            self._changed.notify_all()

    def _next_response(self, request: Request) -> Response:
        answer = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
        return answer if isinstance(answer, Response) else answer(request)


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


def _send_response(sock: socket.socket, answer: Response) -> bool:
    """Whether the connection can take another request."""
    if answer.delay and _client_left(sock, answer.delay):
        return False
    kind = {"Content-Type": answer.content_type} if answer.content_type else {}
    head = {**kind, **answer.headers, "Transfer-Encoding": "chunked"}
    lines = [f"{name}: {value}\r\n" for name, value in head.items()]
    sock.sendall(f"HTTP/1.1 {answer.status} Scripted\r\n{''.join(lines)}\r\n".encode("latin-1"))
    for step in answer.body:
        if isinstance(step, bytes):
            sock.sendall(b"%x\r\n%b\r\n" % (len(step), step) if step else b"")
        elif step is Fault.RESET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        elif step is Fault.DROP or _client_left(sock, None if isinstance(step, Fault) else step):
            return False
    sock.sendall(b"0\r\n\r\n")
    return True


def _client_left(sock: socket.socket, seconds: float | None) -> bool:
    """Waits; whether the client closed its side meanwhile."""
    readable: Sequence[Any] = select.select([sock], [], [], seconds)[0]
    return bool(readable) and not sock.recv(1, socket.MSG_PEEK)
