"""A server with a port: in the foreground until a signal ends it, or on a thread of this process while a `with` lasts.

The port is bound first; the model is loaded while clients are told to wait. Refuses to know routes, and prints nothing.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from types import FrameType, TracebackType
from typing import Self

import uvicorn

from .app import build_app
from .engine.protocol import EngineProtocol
from .service.backend import Backend
from .settings import Settings

KEEP_ALIVE_TIMEOUT = 75
"""Seconds that a connection is kept for the next request. More than clients keep theirs, or a request can meet the
server's closing: uvicorn's 5 are httpx's too. TGI never closes one."""


class StartError(RuntimeError):
    """The server could not start, or broke down; the message is for people to read."""


def serve(settings: Settings | None = None, *, started: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; running answers get `settings.shutdown_grace` seconds to finish, or until a second signal.

    `started` is called with the URL once the port is open; the model is then still being loaded.

    Raises:
        StartError: the port is taken, or the model could not be loaded.
    """
    server = _Server(settings or Settings(), started=started)
    server.run()
    server.raise_if_failed()


class BackgroundServer:
    """The same server on a thread of this process and a free port::

        with BackgroundServer() as server:
            client = InferenceClient(server.url)

    It is ready when the block begins. When the block ends, so does it, and with it whatever it was still saying.
    """

    def __init__(self, settings: Settings | None = None, *, engine: EngineProtocol | None = None) -> None:
        self._settings = replace(settings or Settings(), port=0)
        self._engine = engine
        self._server: _Server
        self._thread: threading.Thread

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._server.url

    def __enter__(self) -> Self:
        on_ready = threading.Event()
        self._server = _Server(self._settings, engine=self._engine, on_ready=on_ready.set)
        self._thread = threading.Thread(target=self._run, args=(on_ready,), name="hfstream-server", daemon=True)
        self._thread.start()
        try:
            on_ready.wait()
            self._server.raise_if_failed()
        except BaseException:  # a Ctrl-C too
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _run(self, on_ready: threading.Event) -> None:
        try:
            self._server.run()
        finally:
            on_ready.set()  # or who waits would wait for ever

    def _stop(self) -> None:
        self._server.stop(grace=0)
        self._thread.join()


class _Server(uvicorn.Server):
    """uvicorn, with a backend."""

    def __init__(
        self,
        settings: Settings,
        *,
        engine: EngineProtocol | None = None,
        started: Callable[[str], None] | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        if engine is None and not (settings.model_path / "config.json").is_file():
            raise StartError(f"there is no model in {settings.model_path}: no config.json")
        self._backend = Backend(settings, engine)
        self._on_started, self._on_ready = started, on_ready
        self._socket = _listen(settings.host, settings.port)
        self.url = _url(self._socket)
        super().__init__(
            uvicorn.Config(
                build_app(self._backend),
                lifespan="on",
                access_log=False,
                log_config=None,  # a library leaves logging as it finds it
                timeout_keep_alive=KEEP_ALIVE_TIMEOUT,
            )
        )
        self._set_shutdown_grace(settings.shutdown_grace)

    def raise_if_failed(self) -> None:
        """Say what went wrong, if anything did."""
        if error := self._backend.fatal_error:
            raise StartError(f"the model could not be loaded, or broke down: {error}") from error
        if not self.started:
            raise StartError("the server did not start")

    def stop(self, *, grace: float) -> None:
        """Begin to end. From any thread."""
        self._set_shutdown_grace(grace)
        self.should_exit = True

    def _set_shutdown_grace(self, seconds: float) -> None:
        self._shutdown_grace = seconds
        # Later than ours, which ends every answer with an event; this one is for clients that do not read.
        self.config.timeout_graceful_shutdown = int(seconds) + 2

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        with self._socket:
            super().run([self._socket])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_started:
            self._on_started(self.url)
        self._ready_task = asyncio.create_task(self._signal_ready())

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._backend.fatal_error is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ready_task.cancel()
        end = asyncio.get_running_loop().call_later(self._shutdown_grace, self._backend.abort_all)
        await super().shutdown(sockets)
        end.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal ends politely, the second at once.

        uvicorn's own would note the signal and raise it again when all is done: a clean end would become death by
        SIGTERM, or a KeyboardInterrupt.
        """
        if self.should_exit:
            self._backend.abort_all_threadsafe()
        self.should_exit = True

    async def _signal_ready(self) -> None:
        await self._backend.ready.wait()
        if self._on_ready:
            self._on_ready()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (while attempting")[0]
        raise StartError(f"cannot listen on {host}, port {port}: {why}. Port 0 takes a free one") from error


def _url(listening: socket.socket) -> str:
    address: tuple[str, int] = listening.getsockname()[:2]
    host, port = address
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - one cannot call everywhere
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
