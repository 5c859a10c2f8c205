"""An HTTP/1.1 server that sends scripted responses and faults.

It uses threads and plain sockets, because faults such as a TCP reset need access to the socket, and implements only as
much of HTTP/1.1 as clients need. Does not depend on the format of the events it sends.
"""

from __future__ import annotations

import contextlib
import inspect
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any, Self

from .connection import Connection
from .listener import listen, url_of
from .request import InvalidRequestError, Request, read_request
from .response import Response
from .response_writer import ScriptError, send_response

__all__ = ["ScriptedServer"]

Script = Response | Callable[[Request], Response]
"""A response, or a function that makes one."""


class ScriptedServer:
    """A server that sends scripted responses, on a free port of 127.0.0.1 unless `host` and `port` say otherwise.

    The first request gets the first of `responses`, the second request the second one, and so on; the last response
    is repeated. A response can also be a function that takes the `Request` and returns a `Response`; it is called in
    the thread of the connection. Use the server as a context manager, or call `start` and `close`.

    If such a function raises, the client gets a response with status 500, and `close` raises the same error, so that a
    failed assertion in the function fails the test. Malformed requests are answered with status 400 (or 413, 417, 431,
    501, 505). A request may have up to 64 KiB of headers and 64 MiB of body.

    Raises:
        OSError: The port is in use, or `host` is not an address of this machine.
        TypeError: One of `responses` is neither a `Response` nor a function.
    """

    def __init__(
        self, *responses: Response | Callable[[Request], Response], host: str = "127.0.0.1", port: int = 0
    ) -> None:
        for response in responses:
            _check_script(response)
        self.responses: list[Response | Callable[[Request], Response]] = list(responses)
        """The responses that are still to be sent; the last one is never removed."""
        self.requests: list[Request] = []
        """All requests received so far, in order of arrival."""
        self.connections: int = 0
        """How many connections were accepted so far."""
        self._changed = threading.Condition()
        self._running = 0
        self._errors: list[BaseException] = []
        self._sent: list[object] = []
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = listen(host, port)
        self._url = url_of(self._listener)
        self._closing = False

    @property
    def url(self) -> str:
        """The server's URL, such as ``http://127.0.0.1:54321``."""
        return self._url

    @property
    def running(self) -> int:
        """How many responses are being sent now, including those that wait or stall."""
        return self._running

    def wait_until_running(self, count: int, timeout: float = 60.0) -> bool:
        """Waits until exactly `count` responses are being sent; returns False if `timeout` seconds pass first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running == count, timeout)

    def start(self) -> Self:
        """Starts to accept connections.

        Raises:
            RuntimeError: It was closed.
        """
        self._check_open()
        self._spawn(self._accept)
        return self

    def close(self) -> None:
        """Closes all connections and waits up to 5 seconds for each of their threads.

        Raises:
            BaseException: What the functions among the responses, and bodies that are iterators, raised: the first
                error. If there are more, a note says how many.
        """
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() does not
        self._listener.close()
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(5)
        errors, self._errors = self._errors, []
        if errors:
            if len(errors) > 1:
                errors[0].add_note(f"{len(errors)} responses of the ScriptedServer raised; this is the first error")
            raise errors[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closing:
            raise RuntimeError("the server is closed: make another one")

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
            self.connections += 1
            self._sockets.add(sock)
            self._spawn(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        try:
            connection = Connection(sock)
            while (request := self._read_request(connection)) is not None:
                with self._changed:
                    self.requests.append(request)
                with self._count_running():
                    if not self._respond(connection, request):
                        break
            connection.finish()
        except OSError:
            pass  # the connection was lost, which `running` shows
        finally:
            sock.close()
            self._sockets.discard(sock)

    def _read_request(self, connection: Connection) -> Request | None:
        """The next request of a connection; one that cannot be read is answered."""
        try:
            return read_request(connection)
        except InvalidRequestError as error:
            response = Response.error(error.status, f"the ScriptedServer cannot read the request: {error}")
            send_response(connection, Request("", "", {"connection": "close"}, b""), response)
            return None

    def _respond(self, connection: Connection, request: Request) -> bool:
        """Sends the response to `request`; returns whether the connection can be used for another one."""
        try:
            return self._send(connection, request)
        except ScriptError as error:  # in the middle of the body: the client sees a lost connection
            self._record(error.error, request)
            return False

    def _send(self, connection: Connection, request: Request) -> bool:
        try:
            response = self._next_response(request)
        except ScriptError as error:
            self._record(error.error, request)
            name = type(error.error).__name__
            response = Response.error(500, f"the ScriptedServer has no response: {name}: {error.error}")
        return send_response(connection, request, response)

    def _record(self, error: BaseException, request: Request) -> None:
        error.add_note(f"raised in a ScriptedServer, for {request.method} {request.path}")
        with self._changed:
            self._errors.append(error)

    @contextlib.contextmanager
    def _count_running(self) -> Generator[None]:
        self._add_running(1)
        try:
            yield
        finally:
            self._add_running(-1)

    def _add_running(self, change: int) -> None:
        with self._changed:
            self._running += change
            self._changed.notify_all()

    def _next_response(self, request: Request) -> Response:
        """Raises ScriptError if there is none."""
        try:
            script = self._next_script()
            return script if isinstance(script, Response) else _check_result(script(request))
        except BaseException as error:
            raise ScriptError(error) from error

    def _next_script(self) -> Script:
        with self._changed:
            if not self.responses:
                raise LookupError("it was made without responses; write ScriptedServer(Response(...))")
            script = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
            _check_script(script)
            if isinstance(script, Response):
                self._check_unsent(script)
            return script

    def _check_unsent(self, response: Response) -> None:
        if isinstance(response.body, Iterator):
            if any(response.body is sent for sent in self._sent):
                raise ValueError(
                    "the body of the response is an iterator, and was sent before; pass a list, or a function that "
                    "returns a new Response"
                )
            self._sent.append(response.body)


def _check_script(script: Any) -> None:
    if isinstance(script, Response) or (callable(script) and not isinstance(script, type)):
        return
    raise TypeError(
        f"a ScriptedServer sends Response objects, or what functions return, not {script!r:.100}; "
        "write ScriptedServer(Response(events))"
    )


def _check_result(result: Any) -> Response:
    if isinstance(result, Response):
        return result
    if inspect.iscoroutine(result):
        result.close()  # it would warn that it was never awaited
        raise TypeError("the function of a ScriptedServer must not be async: it runs in a thread")
    raise TypeError(f"the function of a ScriptedServer must return a Response, not {type(result).__name__}")
