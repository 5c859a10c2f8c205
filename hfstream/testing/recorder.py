"""A proxy that records the responses of a real server, every chunk with its time, and replays them.

    with Recorder("http://127.0.0.1:8080") as recorder:
        list(InferenceClient(recorder.url).text_generation("How do you make cheese?", stream=True))
        recorder.recordings[0].save("cheese.jsonl")

    with ScriptedServer(Recording.load("cheese.jsonl").response(speed=10)) as server: ...

Headers, query string and cookies of the request, and cookies of the response, are not recorded, because they may
contain secrets. Does not depend on the format of the bodies.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from .request import Request
from .response import Fault, Response, Step
from .scripted import ScriptedServer
from .timed import TimedSteps

__all__ = ["Chunk", "Recorder", "Recording"]

Ending = Literal["complete", "lost", "client_closed"]

_HOP_BY_HOP_HEADERS = (
    "connection",
    "content-length",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
    "host",
    "te",
    "trailer",
)
"""Headers that concern one connection only and are not forwarded: the other connection has its own."""

_SECRET_HEADERS = ("set-cookie", "www-authenticate")


@dataclass(frozen=True)
class Chunk:
    """One chunk of a recorded body."""

    at: float
    """When it arrived, in seconds since the request."""
    data: bytes
    """The chunk's bytes, as they were sent (a compressed body is not decompressed)."""


@dataclass
class Recording:
    """One recorded request and its response."""

    method: str
    path: str
    """The request's path, without the query string."""
    request: bytes
    """The request's body."""
    status: int = 0
    """The response's status code; 0 until its headers arrive."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """The response's headers, without cookies and without those of the connection."""
    head_at: float = 0.0
    """When the response's headers arrived, in seconds since the request."""
    chunks: list[Chunk] = field(default_factory=list[Chunk])
    """The body. The boundaries are those of the HTTP chunks, unless the network merged or split them."""
    ending: Ending = "client_closed"
    """How the response ended: `"complete"`, `"lost"` (the connection to the server was lost), or `"client_closed"`."""
    ended_at: float = 0.0
    """When it ended, in seconds since the request."""

    @property
    def body(self) -> bytes:
        """All chunks, joined."""
        return b"".join(chunk.data for chunk in self.chunks)

    def response(self, speed: float | None = 1.0) -> Response:
        """The recorded response, for a `ScriptedServer`. It can be sent any number of times.

        `speed` is a factor: 1 replays at the original speed, 10 ten times as fast, None without pauses. A lost
        connection is replayed as `Fault.DROP`. If the client closed the connection, the replay ends with
        `Fault.STALL`, because it is not known what the server would have sent.

        Raises:
            ZeroDivisionError: `speed` is 0.
        """
        pace = 0.0 if speed is None else 1 / speed
        end: Step = b"" if self.ending == "complete" else Fault.DROP if self.ending == "lost" else Fault.STALL
        steps = [*((chunk.at * pace, chunk.data) for chunk in self.chunks), (self.ended_at * pace, end)]
        body = TimedSteps(steps, start=self.head_at * pace)
        return Response(body, self.status, None, self.headers, delay=self.head_at * pace)

    def save(self, path: str | Path, *, append: bool = False) -> None:
        """Writes a file with one JSON value per line: the request and response headers, each chunk, and the ending.

        Bytes are stored as text if they are valid UTF-8, otherwise as base64. `append` adds the recording to those that
        the file has; `load_all` reads them.

        Raises:
            OSError: The file cannot be written.
        """
        head = {
            "method": self.method,
            "path": self.path,
            "request": _to_json(self.request),
            "status": self.status,
            "headers": dict(self.headers),
            "at": self.head_at,
        }
        lines = [head, *({"at": chunk.at, **_to_json(chunk.data)} for chunk in self.chunks)]
        lines.append({"at": self.ended_at, "end": self.ending})
        with Path(path).open("a" if append else "w", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a file that `save` wrote, with one recording.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is not a recording, or an incomplete one, or has several.
        """
        recordings = cls.load_all(path)
        if len(recordings) > 1:
            raise ValueError(f"{path} has {len(recordings)} recordings: read them with Recording.load_all")
        return recordings[0]

    @classmethod
    def load_all(cls, path: str | Path) -> list[Self]:
        """Reads all recordings of a file, which `save` or `hfstream record` wrote.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is not a recording, or an incomplete one. The message names the line.
        """
        recordings: list[Self] = []
        lines: list[Any] = []
        for number, text in enumerate(Path(path).read_bytes().split(b"\n"), 1):
            try:
                if text:
                    lines.append(json.loads(text))
                    if "end" in lines[-1]:
                        recordings.append(cls._from_lines(lines))
                        lines = []
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path} is not a complete recording: line {number}: {error!r}") from error
        if lines or not recordings:
            raise ValueError(f"{path} is not a complete recording: it has no end")
        return recordings

    @classmethod
    def _from_lines(cls, lines: list[Any]) -> Self:
        head, *chunks, end = lines
        return cls(
            head["method"],
            head["path"],
            _from_json(head["request"]),
            head["status"],
            head["headers"],
            head["at"],
            [Chunk(chunk["at"], _from_json(chunk)) for chunk in chunks],
            end["end"],
            end["at"],
        )


def _to_json(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def _from_json(line: Mapping[str, Any]) -> bytes:
    if "text" in line:
        text: str = line["text"]
        return text.encode("utf-8")
    return base64.b64decode(line["base64"], validate=True)


class Recorder:
    """A proxy in front of the server at `url` that records its responses. Clients connect to the recorder's `url`.

    Use it as a context manager, or call `start` and `close`. If the server cannot be reached, the client receives
    status 502.

    Args:
        url: The server's URL.
        timeout: httpx's timeout for the server, in seconds (default: none).

    Raises:
        OSError: No local port is available.
    """

    def __init__(self, url: str, *, timeout: float | None = None) -> None:
        self.recordings: list[Recording] = []
        """One recording per request, in order of arrival. A recording grows until its response has ended."""
        self._lock = threading.Lock()
        self._server = ScriptedServer(self._forward)
        self._upstream = httpx.Client(base_url=url, timeout=timeout, limits=httpx.Limits(max_connections=None))

    @property
    def url(self) -> str:
        """The recorder's own URL, such as ``http://127.0.0.1:54321``."""
        return self._server.url

    def start(self) -> Self:
        """Starts to accept connections."""
        self._server.start()
        return self

    def close(self) -> None:
        """Closes all connections."""
        try:
            self._server.close()
        finally:
            self._upstream.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _forward(self, request: Request) -> Response:
        recording = Recording(request.method, request.path.partition("?")[0], request.body)
        with self._lock:
            self.recordings.append(recording)
        started = time.monotonic()
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP_HEADERS}
        with ExitStack() as stack:
            try:
                response = stack.enter_context(
                    self._upstream.stream(request.method, request.path, headers=headers, content=request.body)
                )
            except httpx.TransportError as error:
                recording.status, recording.ending = 502, "complete"
                recording.head_at = recording.ended_at = time.monotonic() - started
                return Response.error(502, f"The recorder cannot reach its server: {error}")
            recording.status = response.status_code
            recording.headers = {
                name: value
                for name, value in response.headers.items()
                if name not in _HOP_BY_HOP_HEADERS and name not in _SECRET_HEADERS
            }
            recording.head_at = time.monotonic() - started
            decoded = [
                (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers.raw
            ]
            forwarded = [(name, value) for name, value in decoded if name not in _HOP_BY_HOP_HEADERS]
            body = _relay(recording, response, started, stack.pop_all())
            return Response(body, response.status_code, None, forwarded)


def _relay(recording: Recording, response: httpx.Response, started: float, stack: ExitStack) -> Generator[Step]:
    """Passes the server's chunks on, and records them. `stack` closes the response from the server."""
    with stack:
        try:
            for data in response.iter_raw():
                recording.chunks.append(Chunk(round(time.monotonic() - started, 6), data))
                yield 0.0  # a pause of no length checks for a closed connection, before the next chunk is read in vain
                yield data
            recording.ending = "complete"
        except httpx.TransportError:
            recording.ending = "lost"
            yield Fault.DROP
        finally:
            recording.ended_at = round(time.monotonic() - started, 6)
