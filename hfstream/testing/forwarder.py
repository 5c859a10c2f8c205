"""A proxy that understands HTTP: it passes requests on to a real server, and responses back, chunk by chunk.

A client that leaves closes the connection to the server, at any time. Does not depend on what the bodies mean.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol

from .connection import Connection
from .recording import Chunk
from .request import Request
from .response import Fault, Response, Step
from .response_writer import ScriptError, send_response
from .scripted import ScriptedServer
from .upstream import Exchange, Head, Upstream, UpstreamError

__all__ = ["Forwarder", "Observer"]

_WATCH_SECONDS = 0.1
"""How often the client's connection is checked while nothing comes from the server."""


class Observer(Protocol):
    """Sees one exchange of a `Forwarder`, in the thread of its connection."""

    def on_head(self, head: Head) -> None:
        """Status and headers have come from the server."""
        ...

    def on_chunk(self, chunk: Chunk) -> None:
        """A chunk of the body has come from the server."""
        ...

    def on_end(self, exchange: Exchange, error: UpstreamError | None, *, complete: bool) -> None:
        """The exchange is over. `complete`: to the end of the body; `error`: the server's connection was lost."""
        ...


class Forwarder(ScriptedServer):
    """A proxy in front of the server at `url`. Clients connect to its own `url`.

    If the server cannot be reached, the client receives status 502.

    Args:
        url: The server's URL.
        observe: Called for each request; what it returns sees the exchange.
        timeout: httpx's timeout for the server, in seconds (default: none).
        host: The address to listen at.
        port: The port; 0 takes a free one.

    Raises:
        ValueError: `url` is not a URL of http or https, or has a query.
        OSError: The port is in use, or `host` is not an address of this machine.
    """

    def __init__(
        self,
        url: str,
        observe: Callable[[Request], Observer] | None = None,
        *,
        timeout: float | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._upstream = Upstream(url, timeout=timeout)
        self._observe = observe
        super().__init__(host=host, port=port)

    def start(self) -> Forwarder:
        """Starts to accept connections.

        Raises:
            RuntimeError: It was closed.
        """
        self._check_open()
        self._upstream.start()
        super().start()
        return self

    def close(self) -> None:
        """Closes all connections, those to the server too."""
        try:
            super().close()
        finally:
            self._upstream.close()

    def _respond(self, connection: Connection, request: Request) -> bool:
        self.requests.clear()  # a proxy may run for days
        if not request.path.startswith("/"):
            message = f"the request's target must be a path, not {request.path[:100]!r}: this is not a forward proxy"
            return send_response(connection, request, Response.error(400, message))
        try:
            exchange = self._upstream.send(request)
        except ValueError as error:
            return send_response(connection, request, Response.error(400, str(error)))
        observer = self._observe and self._observe(request)
        forwarded = _Forwarded(exchange, observer, lambda error: self._record(error, request))
        try:
            return send_response(connection, request, forwarded.response(connection, request))
        except ScriptError as error:
            self._record(error.error, request)
            return False
        finally:
            forwarded.close()


class _Forwarded:
    """One exchange, and how far it has come."""

    def __init__(self, exchange: Exchange, observer: Observer | None, on_error: Callable[[Exception], None]) -> None:
        self._exchange = exchange
        self._on_error = on_error
        self._observer = observer
        self._ended = False

    def response(self, connection: Connection, request: Request) -> Response:
        """The server's response once its headers are there."""
        head = self._wait_for_head(connection)
        if head is None:
            return Response([Fault.DROP], raw=True)  # the client has left
        if isinstance(head, UpstreamError):
            self._end(head)
            return Response.error(502, f"The proxy cannot reach its server: {head}")
        if self._observer is not None:
            self._observer.on_head(head)
        if request.method == "HEAD" or head.status in (204, 304):
            self._end()
            return Response((), head.status, None, head.headers)
        return Response(self._relay(), head.status, None, head.headers)

    def close(self) -> None:
        """Gives up what has not come yet, where the client has left."""
        self._exchange.cancel()
        self._report(None, complete=False)

    def _end(self, error: UpstreamError | None = None) -> None:
        """The server has sent all that there is. The observer knows it before the client can."""
        self._report(error, complete=error is None)

    def _report(self, error: UpstreamError | None, *, complete: bool) -> None:
        if self._observer is not None and not self._ended:
            self._ended = True
            try:
                self._observer.on_end(self._exchange, error, complete=complete)
            except Exception as raised:  # noqa: BLE001  who looks on does not disturb; `close` raises it
                self._on_error(raised)

    def _wait_for_head(self, connection: Connection) -> Head | UpstreamError | None:
        while not connection.wait_closed(0.0):
            try:
                head = self._exchange.get(_WATCH_SECONDS)
            except TimeoutError:
                continue
            return head if isinstance(head, Head | UpstreamError) else None
        return None

    def _relay(self) -> Generator[Step]:
        """The server's chunks. A pause of no length checks whether the client has left."""
        while True:
            yield 0.0
            try:
                item = self._exchange.get(_WATCH_SECONDS)
            except TimeoutError:
                continue
            if isinstance(item, Chunk):
                if self._observer is not None:
                    self._observer.on_chunk(item)
                yield item.data
            elif isinstance(item, UpstreamError):
                self._end(item)
                yield Fault.DROP
            else:
                self._end()
                return
