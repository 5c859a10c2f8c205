"""What a `Recorder` records: one request and its response, every chunk with its time. Saved, loaded and replayed.

Does not depend on how it is recorded, or on the format of the bodies.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from .response import Fault, Response, Step
from .timed import TimedSteps

__all__ = ["Chunk", "Ending", "Recording"]

Ending = Literal["complete", "lost", "client_closed"]


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
    finished: bool = field(default=True, compare=False, repr=False, kw_only=True)
    """False while its response is being recorded: until then, the body may have a credential of the request."""

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
            ValueError: There is no response: the server was not reached, or the client left before.
        """
        if not self.status:
            raise ValueError(
                f"no response to {self.method} {self.path} was recorded: the request ended before one came"
            )
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
            ValueError: The response has not ended.
        """
        if not self.finished:
            raise ValueError("the response has not ended: read it to its end, or close the recorder, before `save`")
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
            except (KeyError, TypeError, ValueError, RecursionError) as error:
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
