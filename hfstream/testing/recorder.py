"""A recorder between a client and a real server, and what it keeps: every chunk as it came, and when.

    with Recorder("http://127.0.0.1:8080") as recorder:
        list(InferenceClient(recorder.url).text_generation("How do you make cheese?", stream=True))
        recorder.recordings[0].save("cheese.jsonl")

    with ScriptedServer(Recording.load("cheese.jsonl").response(speed=10)) as server: ...

It keeps no header of the request, no query and no cookie: secrets are there. It refuses to know what the bytes mean.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from .scripted import Fault, Request, Response, ScriptedServer, Step

__all__ = ["Chunk", "Recorder", "Recording"]

Ending = Literal["complete", "lost", "left"]

_HOP = ("connection", "content-length", "keep-alive", "transfer-encoding", "upgrade", "host", "te", "trailer")
"""Headers of one connection, which the other one has its own of."""

_SECRET = ("set-cookie", "www-authenticate")


@dataclass(frozen=True)
class Chunk:
    """One piece of a body."""

    at: float
    """Seconds since the request."""
    data: bytes


@dataclass
class Recording:
    """One request, and what it was answered with."""

    method: str
    path: str
    """Without the query."""
    request: bytes
    """The request's body."""
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    head_at: float = 0.0
    """Seconds from the request to the answer's head."""
    chunks: list[Chunk] = field(default_factory=list[Chunk])
    """Boundaries are those of the HTTP chunks, as far as the network left them."""
    ending: Ending = "left"
    """The body's end came ("complete"), or the server's connection broke ("lost"), or the client went ("left")."""
    ended_at: float = 0.0

    @property
    def body(self) -> bytes:
        """The chunks joined."""
        return b"".join(chunk.data for chunk in self.chunks)

    def response(self, speed: float | None = 1.0) -> Response:
        """The same again, for a `ScriptedServer`: `speed` times as fast, or as fast as can be (None).

        A recording whose client had gone ends in a stall: what the server would have said is not known.
        """
        pace = 0.0 if speed is None else 1 / speed
        return Response(_Playback(self, pace), self.status, None, self.headers, delay=self.head_at * pace)

    def save(self, path: str | Path) -> None:
        """Writes JSON lines: the head, each chunk, the end. What is UTF-8 can be read there, the rest is base64."""
        head = {
            "method": self.method,
            "path": self.path,
            "request": _written(self.request),
            "status": self.status,
            "headers": dict(self.headers),
            "at": self.head_at,
        }
        lines = [head, *({"at": chunk.at, **_written(chunk.data)} for chunk in self.chunks)]
        lines.append({"at": self.ended_at, "end": self.ending})
        Path(path).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """Reads what `save` wrote.

        Raises:
            ValueError: this is no recording, or only the beginning of one.
        """
        try:
            head, *chunks, end = map(json.loads, Path(path).read_text(encoding="utf-8").splitlines())
            return cls(
                head["method"],
                head["path"],
                _read(head["request"]),
                head["status"],
                head["headers"],
                head["at"],
                [Chunk(chunk["at"], _read(chunk)) for chunk in chunks],
                end["end"],
                end["at"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no whole recording: {error!r}") from error


def _written(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def _read(line: Mapping[str, Any]) -> bytes:
    if "text" in line:
        text: str = line["text"]
        return text.encode("utf-8")
    return base64.b64decode(line["base64"], validate=True)


class _Playback:
    """The steps of a recording, paced by the clock and not by sums of pauses, which would drift."""

    def __init__(self, recording: Recording, pace: float) -> None:
        self._recording = recording
        self._pace = pace

    def __iter__(self) -> Iterator[Step]:
        recording = self._recording
        began = time.monotonic() - recording.head_at * self._pace
        for chunk in recording.chunks:
            if (pause := began + chunk.at * self._pace - time.monotonic()) > 0:
                yield pause
            yield chunk.data
        if (pause := began + recording.ended_at * self._pace - time.monotonic()) > 0:
            yield pause
        if recording.ending != "complete":
            yield Fault.DROP if recording.ending == "lost" else Fault.STALL


class Recorder:
    """Stands before the server at `url`, and keeps what it says; clients talk to the recorder's own `url`.

    Every request has a `Recording` of its own, in the order in which they came.
    """

    def __init__(self, url: str, *, timeout: float | None = None) -> None:
        self.recordings: list[Recording] = []
        self._lock = threading.Lock()
        self._server = ScriptedServer(self._forward)
        self._upstream = httpx.Client(base_url=url, timeout=timeout, limits=httpx.Limits(max_connections=None))

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._server.url

    def start(self) -> Self:
        """Begins to listen."""
        self._server.start()
        return self

    def close(self) -> None:
        """Ends every connection."""
        self._server.close()
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
        began = time.monotonic()
        headers = {name: value for name, value in request.headers.items() if name not in _HOP}
        with ExitStack() as held:
            try:
                response = held.enter_context(
                    self._upstream.stream(request.method, request.path, headers=headers, content=request.body)
                )
            except httpx.TransportError as error:
                recording.status, recording.ending = 502, "complete"
                recording.head_at = recording.ended_at = time.monotonic() - began
                return Response.error(502, f"The recorder cannot reach its server: {error}")
            recording.status = response.status_code
            recording.headers = {
                name: value for name, value in response.headers.items() if name not in _HOP and name not in _SECRET
            }
            recording.head_at = time.monotonic() - began
            passed = {name: value for name, value in response.headers.items() if name not in _HOP}
            body = _relayed(recording, response, began, held.pop_all())
            return Response(body, response.status_code, None, passed)


def _relayed(recording: Recording, response: httpx.Response, began: float, held: ExitStack) -> Generator[Step]:
    with held:
        try:
            for data in response.iter_raw():
                recording.chunks.append(Chunk(round(time.monotonic() - began, 6), data))
                yield 0.0  # looks whether the client is still there, or one more chunk would be read for nobody
                yield data
            recording.ending = "complete"
        except httpx.TransportError:
            recording.ending = "lost"
            yield Fault.DROP
        finally:
            recording.ended_at = round(time.monotonic() - began, 6)
