"""A proxy that records the responses of a real server, every chunk with its time, and replays them.

    with Recorder("http://127.0.0.1:8080") as recorder:
        list(InferenceClient(recorder.url).text_generation("How do you make cheese?", stream=True))
        recorder.recordings[0].save("cheese.jsonl")

    with ScriptedServer(Recording.load("cheese.jsonl").response(speed=10)) as server: ...

Headers, query string and cookies of the request, and cookies of the response, are not recorded, because they may
contain secrets. Does not depend on the format of the bodies.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from .arguments import check_function
from .forwarder import Forwarder
from .recording import Chunk, Recording
from .request import Request
from .secrets import SECRET_HEADERS, credentials, mask, mask_chunks, url_credentials
from .upstream import Exchange, Head, UpstreamError

__all__ = ["Recorder"]


class Recorder:
    """A proxy in front of the server at `url` that records its responses. Clients connect to the recorder's `url`.

    Use it as a context manager, or call `start` and `close`. If the server cannot be reached, the client receives
    status 502. A client that leaves closes the connection to the server. The server is asked not to compress, so that
    any client can read what is replayed.

    Where a server repeats a credential of the request (a key, a password, a cookie) in its response, the recording has
    asterisks in its place when it has ended; so have the request's path and body.

    Args:
        url: The server's URL.
        timeout: httpx's timeout for the server, in seconds (default: none).
        host: The address to listen at.
        port: The port; 0 takes a free one.
        on_recording: Called with each recording when it has ended, in the thread of its connection. It is not kept in
            `recordings` then. What it raises, `close` raises; the client's connection goes on.

    Raises:
        ValueError: `url` is not a URL of http or https, or has a query.
        OSError: The port is in use, or `host` is not an address of this machine.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        on_recording: Callable[[Recording], None] | None = None,
    ) -> None:
        check_function("on_recording", on_recording)
        self.recordings: list[Recording] = []
        """One recording per request, in order of arrival. A recording grows until its response has ended."""
        self._lock = threading.Lock()
        self._on_recording = on_recording
        self._server = Forwarder(url, self._observe, timeout=timeout, host=host, port=port)
        self._url_secrets = url_credentials(url)

    @property
    def url(self) -> str:
        """The recorder's own URL, such as ``http://127.0.0.1:54321``."""
        return self._server.url

    def start(self) -> Self:
        """Starts to accept connections.

        Raises:
            RuntimeError: It was closed.
        """
        self._server.start()
        return self

    def close(self) -> None:
        """Closes all connections.

        Raises:
            Exception: What `on_recording` has raised: the first error.
        """
        self._server.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _observe(self, request: Request) -> _Recorded:
        secrets = [*self._url_secrets, *credentials(request)]
        path = mask(request.path.partition("?")[0].encode("latin-1"), secrets).decode("latin-1")
        recording = Recording(request.method, path, mask(request.body, secrets), finished=False)
        if self._on_recording is None:
            with self._lock:
                self.recordings.append(recording)
        return _Recorded(recording, secrets, self._on_recording)


class _Recorded:
    """An `Observer` that writes what it sees into a recording."""

    def __init__(
        self, recording: Recording, secrets: Sequence[bytes], on_recording: Callable[[Recording], None] | None
    ) -> None:
        self._recording = recording
        self._secrets = secrets
        self._on_recording = on_recording

    def on_head(self, head: Head) -> None:
        recording = self._recording
        recording.status, recording.head_at = head.status, head.at
        recording.headers = {
            name: mask(value.encode("latin-1"), self._secrets).decode("latin-1")
            for name, value in head.headers
            if name not in SECRET_HEADERS
        }

    def on_chunk(self, chunk: Chunk) -> None:
        self._recording.chunks.append(chunk)

    def on_end(self, exchange: Exchange, error: UpstreamError | None, *, complete: bool) -> None:
        recording = self._recording
        masked = mask_chunks([chunk.data for chunk in recording.chunks], self._secrets)
        recording.chunks = [Chunk(chunk.at, data) for chunk, data in zip(recording.chunks, masked, strict=True)]
        recording.ending = "complete" if complete else "lost" if error else "client_closed"
        recording.ended_at = exchange.elapsed()
        recording.finished = True
        if self._on_recording is not None:
            self._on_recording(recording)
