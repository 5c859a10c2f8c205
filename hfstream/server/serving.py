"""A server with a port: in the foreground until a signal stops it, or on a thread while a ``with`` block lasts.

The port is bound first; while the model is loaded, requests get a 503. Does not depend on routes, and prints nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, cast

import uvicorn

from .connections.acceptor import Acceptor
from .connections.guarded import IDLE_SECONDS, MAX_HEAD_SIZE, GuardedConnection, available_connections, make_room
from .connections.protocols import protocol_class
from .engine.protocol import EngineProtocol
from .model_files import ModelFilesError
from .services import make_served
from .settings import Settings

logger: logging.Logger = logging.getLogger(__name__)

ABORT_SECONDS = 1.0
"""Seconds after the grace in which clients can read why their requests were ended."""


class StartError(RuntimeError):
    """The server could not start, or failed later. The message is written for the user of the command line."""


def serve(
    settings: Settings | None = None,
    *,
    started: Callable[[str], None] | None = None,
    ready: Callable[[str], None] | None = None,
    stopping: Callable[[int, float], None] | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Running requests get `settings.shutdown_grace` seconds to finish, or until a second signal. `started` is called with
    the URL once the port is open; the model is then still being loaded, and requests get a 503. `ready` is called with
    the URL once the model is loaded. `stopping` is called when the server begins to wait for running requests, with
    their number and the seconds that they get.

    Raises:
        StartError: the port is taken, or the model could not be loaded.
    """

    def on_ready(url: str) -> None:
        # What is there by now stays. The garbage collector would look through all of it now and then, for 50 ms, in
        # which no request is answered.
        gc.freeze()
        if ready:
            ready(url)

    server = _Server(settings or Settings(), on_started=started, on_ready=on_ready, on_stopping=stopping)
    server.run()
    server.raise_if_failed()


class BackgroundServer:
    """The same server on a thread of this process and a free port::

        with BackgroundServer() as server:
            client = InferenceClient(server.url)

    The model is loaded when the block begins. When it ends the server stops, and requests that still run are aborted.

    Raises:
        StartError: the model could not be loaded.
    """

    def __init__(self, settings: Settings | None = None, *, engine: EngineProtocol | None = None) -> None:
        """`engine`: another engine in place of the one that runs the model.

        `settings.port` and `settings.uds` are ignored.

        Raises:
            TypeError: `settings` are not `Settings`.
        """
        given: Any = settings  # annotations are not checked at run time
        if given is not None and not isinstance(given, Settings):
            raise TypeError(f"settings must be Settings, such as Settings(model=...), not {given!r:.100}")
        self._settings = replace(settings or Settings(), port=0, uds=None)
        self._engine = engine
        self._server: _Server
        self._thread: threading.Thread

    @property
    def url(self) -> str:
        """Where the server listens.

        Raises:
            RuntimeError: It was not started.
        """
        if not hasattr(self, "_server"):
            raise RuntimeError("the server has no URL yet: write `with BackgroundServer() as server:`")
        return self._server.url

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._server = _Server(self._settings, engine=self._engine, on_settled=ready.set)
        self._thread = threading.Thread(target=self._run, args=(ready,), name="hfstream-server", daemon=True)
        self._thread.start()
        try:
            # A Ctrl-C between Python's check for signals and the system call that waits is only seen after the call.
            while not ready.wait(0.2):
                pass
            self._server.raise_if_failed()
        except BaseException:  # also a Ctrl-C
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _run(self, ready: threading.Event) -> None:
        try:
            self._server.run()
        finally:
            ready.set()  # also when the server fails, or `__enter__` would wait for ever

    def _stop(self) -> None:
        self._server.stop(grace=0)
        self._thread.join()


class _Server(uvicorn.Server):
    """uvicorn with a service."""

    def __init__(
        self,
        settings: Settings,
        *,
        engine: EngineProtocol | None = None,
        on_started: Callable[[str], None] | None = None,
        on_ready: Callable[[str], None] | None = None,
        on_settled: Callable[[], None] | None = None,
        on_stopping: Callable[[int, float], None] | None = None,
    ) -> None:
        """`on_settled` is called when the model is loaded or could not be. For the others see `serve`."""
        try:
            self._service, build_app = make_served(settings, engine)
        except ModelFilesError as error:
            raise StartError(str(error)) from error
        self._on_started, self._on_ready, self._on_stopping = on_started, on_ready, on_stopping
        self._on_settled = on_settled
        self._uds = settings.uds
        self._socket = listen(settings.host, settings.port) if self._uds is None else _listen_uds(self._uds)
        self.url = url_of(self._socket) if self._uds is None else f"unix:{self._uds}"
        self._serving: Coroutine[Any, Any, None] | None = None
        self._local = self._uds is not None or is_loopback(settings.host)
        if not self._local and settings.api_key is None:
            logger.warning(
                "listening on %s without an API key: anyone who can reach this computer can use the model. "
                "Set api_key (HFSTREAM_API_KEY), or host to 127.0.0.1",
                f"the address {settings.host}" if settings.host.strip("0.:") else "every network of this computer",
            )
        super().__init__(
            uvicorn.Config(
                build_app(check_host=self._local),
                http=protocol_class(client_timeout=settings.client_timeout, max_connections=available_connections()),
                ws="none",
                lifespan="on",
                access_log=False,
                root_path=settings.root_path,
                log_config=None,  # logging is configured by the application, not by a library
                timeout_keep_alive=IDLE_SECONDS,
                h11_max_incomplete_event_size=MAX_HEAD_SIZE,
            )
        )
        self._check_interval = min(10, max(1, int(settings.client_timeout)))
        self._set_grace(settings.shutdown_grace)

    def raise_if_failed(self) -> None:
        """Raises StartError if the server did not start, or its engine failed."""
        if error := self._service.fatal_error:
            raise StartError(f"the model could not be loaded, or the engine failed: {error}") from error
        if not self.started:
            raise StartError("the server did not start")

    def stop(self, *, grace: float) -> None:
        """Starts to stop. May be called from any thread."""
        self._set_grace(grace)
        self._service.stopping = True
        self.should_exit = True

    def _set_grace(self, seconds: float) -> None:
        self._grace = seconds
        # uvicorn's limit is later than ours. Ours ends every request with an error that its client can read; uvicorn's
        # would end them with a traceback for each.
        self.config.timeout_graceful_shutdown = int(seconds + ABORT_SECONDS) + 2

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            with self._socket:
                super().run([self._socket])
        finally:
            if self._serving is not None:
                self._serving.close()  # a Ctrl-C may have come before its first step
            if self._uds is not None:
                Path(self._uds).unlink(missing_ok=True)

    def serve(
        self, sockets: list[socket.socket] | None = None
    ) -> Any:  # of a coroutine, mypy and pyright have different types
        self._serving = super().serve(sockets)
        return self._serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        self.servers = [cast("asyncio.Server", Acceptor(self._socket, self._make_connection, self._make_room))]
        if self._on_started:
            self._on_started(self.url)
        self._ready_task = asyncio.create_task(self._signal_ready())

    async def on_tick(self, counter: int) -> bool:
        if counter % self._check_interval == 0:
            now = asyncio.get_running_loop().time()
            for connection in self._connections:
                connection.check(now)
        return await super().on_tick(counter) or self._service.fatal_error is not None

    @property
    def _connections(self) -> list[GuardedConnection]:
        return cast("list[GuardedConnection]", list(self.server_state.connections))

    def _make_connection(self) -> asyncio.Protocol:
        protocol = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def _make_room(self) -> None:
        make_room(self._connections)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ready_task.cancel()
        loop = asyncio.get_running_loop()
        timers = [
            loop.call_later(self._grace, self._service.abort_all),
            loop.call_later(self._grace + ABORT_SECONDS, self._drop_connections),
        ]
        running = self._service.limiter.running
        if running and self._on_stopping:
            self._on_stopping(running, self._grace)
        await super().shutdown(sockets)
        for timer in timers:
            timer.cancel()

    def _drop_connections(self) -> None:
        for connection in self._connections:
            connection.drop("the server is stopping")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets running requests finish, the second aborts them.

        uvicorn's own method would record the signal and raise it again after a clean shutdown: the process would die by
        SIGTERM, or with a KeyboardInterrupt.
        """
        if self.should_exit:
            self._service.abort_all_threadsafe()
        self._service.stopping = True
        self.should_exit = True

    async def _signal_ready(self) -> None:
        await self._service.ready.wait()
        if self._on_ready and self._service.fatal_error is None:
            self._on_ready(self.url)
        if self._on_settled:
            self._on_settled()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises StartError if there can be none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    host = host or "0.0.0.0"  # noqa: S104 - as the socket takes it
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while attempting")[0]
        raise StartError(f"cannot listen on {host}, port {port}: {reason}. Port 0 takes a free one") from error


def _listen_uds(name: str) -> socket.socket:
    """A Unix domain socket. One that an earlier server has left behind is replaced, one that is in use is not."""
    if not hasattr(socket, "AF_UNIX"):
        raise StartError("this system has no Unix domain sockets: use host and port")
    listening = socket.socket(socket.AF_UNIX)
    try:
        _remove_stale_socket(name)
        listening.bind(name)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise StartError(f"cannot listen on {name}: {error.strerror or error}") from error
    return listening


def _remove_stale_socket(name: str) -> None:
    path = Path(name)
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            path.unlink()


def is_loopback(host: str) -> bool:
    """Whether only programs on this computer can reach `host`."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host.lower() == "localhost"


def url_of(listening: socket.socket) -> str:
    """Where programs on this computer reach a server that listens so."""
    address: tuple[str, int] = listening.getsockname()[:2]
    host, port = address
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not an address that can be connected to
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
