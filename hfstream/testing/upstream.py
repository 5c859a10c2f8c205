"""A real server behind a proxy: requests are sent to it in the background, and given up at any time.

The proxies of the testing kit have a thread for each client's connection, which waits for the client. What comes from
the server is read on an event loop of its own thread, where a request can be cancelled while it waits. Does not depend
on clients' connections, or on what is done with a response.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass

import httpx

from .recording import Chunk
from .request import Request

__all__ = ["Exchange", "Head", "Upstream", "UpstreamError"]

_HOP_BY_HOP_HEADERS = (
    "connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
)  # fmt: skip
"""Headers that concern one connection only and are not forwarded: the other connection has its own."""
_MAX_QUEUED = 256
"""Chunks that may wait for a client that does not read; then the server waits too."""


class UpstreamError(Exception):
    """The server cannot be reached, or the connection to it was lost."""


@dataclass(frozen=True)
class Head:
    """Status and headers of a response, without those of the connection."""

    at: float
    """When they came, in seconds since the request."""
    status: int
    headers: list[tuple[str, str]]
    """Names in lower case; repeated headers are repeated."""


class Exchange:
    """One request to the server, and its response while it comes. Used by one thread."""

    def __init__(self) -> None:
        self.started: float = time.monotonic()
        self._items: queue.SimpleQueue[Head | Chunk | UpstreamError | None] = queue.SimpleQueue()
        self._future: Future[None] | None = None

    def get(self, timeout: float) -> Head | Chunk | UpstreamError | None:
        """The head, then the chunks, then None at the end of the body; an UpstreamError where there is no more.

        Raises:
            TimeoutError: Nothing comes for `timeout` seconds.
        """
        try:
            return self._items.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None

    def cancel(self) -> None:
        """Closes the connection to the server, unless the response has ended."""
        if self._future is not None:
            self._future.cancel()

    def elapsed(self) -> float:
        """Seconds since the request."""
        return round(time.monotonic() - self.started, 6)

    async def run(self, client: httpx.AsyncClient, request: httpx.Request) -> None:
        """Sends the request, and reads the response to its end."""
        try:
            response = await client.send(request, stream=True)
            try:
                self._items.put(Head(self.elapsed(), response.status_code, _forwarded(response.headers)))
                async for data in response.aiter_raw():
                    self._items.put(Chunk(self.elapsed(), data))
                    while self._items.qsize() > _MAX_QUEUED:  # noqa: ASYNC110  the other side is a thread
                        await asyncio.sleep(0.01)
            finally:
                await response.aclose()
            self._items.put(None)
        except Exception as error:  # noqa: BLE001  the client waits for an item, whatever is wrong
            self._items.put(UpstreamError(str(error) or type(error).__name__))

    def start(self, loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient, request: httpx.Request) -> None:
        """Begins to send the request, on the loop of another thread."""
        self._future = asyncio.run_coroutine_threadsafe(self.run(client, request), loop)


def _forwarded(headers: httpx.Headers) -> list[tuple[str, str]]:
    decoded = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers.raw]
    return [(name, value) for name, value in decoded if name not in _HOP_BY_HOP_HEADERS]


def _is_port(port: int | None) -> bool:
    return port is None or 0 < port < 65_536


class Upstream:
    """The server at `url`. Call `start` before the first request, and `close` at the end.

    Args:
        url: The server's URL. Its path is put before those of the requests.
        timeout: httpx's timeout, in seconds; None: no limit.

    Raises:
        ValueError: The URL is not one of http or https, or has a query, or the environment has proxies or certificates
            that are wrong.
    """

    def __init__(self, url: str, *, timeout: float | None = None) -> None:
        try:
            self._base = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ValueError(f"{url!r} is not a URL: {error}") from error
        if self._base.scheme not in ("http", "https") or not self._base.host or not _is_port(self._base.port):
            raise ValueError(f"{url!r} is not the URL of a server: write, for example, http://127.0.0.1:8080")
        if self._base.query or self._base.fragment:
            raise ValueError(f"{url!r} has a query or a fragment: give the URL without it, the clients send theirs")
        try:
            # Without TLS there is no certificate to check, and to load the trusted ones takes a tenth of a second.
            verify = self._base.scheme == "https"
            limits = httpx.Limits(max_connections=None)
            self._client = httpx.AsyncClient(timeout=timeout, limits=limits, verify=verify)
        except (httpx.InvalidURL, ValueError, OSError) as error:
            raise ValueError(f"the environment's proxies or certificates cannot be used: {error}") from error
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="hfstream-upstream", daemon=True)

    def start(self) -> None:
        """Starts the thread of the event loop."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def close(self) -> None:
        """Closes all connections to the server, and stops the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def send(self, request: Request) -> Exchange:
        """Begins to send a request as the client has sent it.

        A compressed response would be recorded as such, and replayed to clients that do not understand it; so the
        server is asked not to compress.

        Raises:
            ValueError: The request's target is none that a URL can have.
        """
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP_HEADERS}
        headers["accept-encoding"] = "identity"
        path = self._base.raw_path.rstrip(b"/") + request.path.encode("latin-1")
        try:
            url = self._base.copy_with(raw_path=path)
        except (httpx.InvalidURL, ValueError) as error:
            raise ValueError(f"the request's target {request.path[:100]!r} must be percent-encoded") from error
        forwarded = httpx.Request(
            request.method,
            url,
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
            content=request.body if request.body or "content-length" in request.headers else None,
        )
        exchange = Exchange()
        exchange.start(self._loop, self._client, forwarded)
        return exchange

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            with contextlib.suppress(Exception):
                self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
                self._loop.run_until_complete(self._client.aclose())
        finally:
            self._loop.close()
