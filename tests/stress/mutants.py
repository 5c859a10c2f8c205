"""Mutated responses: whole streams, changed at random, and what a plain reader finds in them.

Mutant n of a seed is always the same. Does not depend on the client.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from hfstream import Timeouts
from hfstream.testing import chat_events, token_events
from tests.stress.fuzz_sse import plain

__all__ = ["LIMITS", "FirstChoice", "Mutant", "Reading", "mutant", "reading", "unzipped"]

LIMITS = Timeouts(connect=10, first_token=2, between_tokens=2, total=5)
QUICK = Timeouts(connect=10, first_token=0.2, between_tokens=0.2, total=2)
"""For a connection on which nothing more comes."""
# Sources -------------------------------------------------------------------------------------------------------------

TEXTS = (
    ["Hello", ",", " you"],
    ["Grüß ", "👩‍🚀", " ", "\n", 'e"\\', "nd"],
    [*"What is it, and why does it take so long?"],
)


def _event(payload: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(payload).encode()


def _chunk(choice: dict[str, Any], **more: Any) -> bytes:
    return _event(
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}
    )


def _completions(texts: Sequence[str]) -> list[bytes]:
    chunks = [_event({"id": "c", "choices": [{"index": 0, "text": text, "finish_reason": None}]}) for text in texts]
    end = _event({"id": "c", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
    return [*chunks, end, b"data: [DONE]\n\n"]


def _tools(texts: Sequence[str]) -> list[bytes]:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "find", "arguments": ""}}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    arguments = json.dumps({"text": "".join(texts)})
    deltas += [
        {"tool_calls": [{"index": 0, "function": {"arguments": arguments[at : at + 5]}}]}
        for at in range(0, len(arguments), 5)
    ]
    chunks = [_chunk({"index": 0, "delta": delta, "finish_reason": None}) for delta in deltas]
    usage = _event({"id": "c", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
    return [*chunks, _chunk({"index": 0, "delta": {}, "finish_reason": "tool_calls"}), usage, b"data: [DONE]\n\n"]


SOURCES: dict[str, Callable[[Sequence[str]], list[bytes]]] = {
    "text": lambda texts: token_events(*texts, finish_reason="eos_token"),
    "details": lambda texts: token_events(*texts, finish_reason="length"),
    "chat": lambda texts: chat_events(*texts),
    "tools": _tools,
    "completions": _completions,
}


# The plain reader ----------------------------------------------------------------------------------------------------


@dataclass
class Reading:
    """What is in a body: all of its text, and each text at which an answer may end."""

    text: str = ""
    ends: set[str] = field(default_factory=set[str])
    tokens: int = field(default=0, compare=False)


class FirstChoice:
    """Which choices are the first one: all, unless after number 0 one with another index begins, with a role alone."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._several = False

    def __call__(self, index: Any, *, begins: bool) -> bool:
        number = index if isinstance(index, int) else 0
        if self._first is None:
            self._first = number
        self._several = self._several or (begins and self._first == 0 != number)
        return number == self._first or not self._several


def reading(kind: str, body: bytes) -> Reading:
    """Reads all events of a body, as far as they are JSON, one after the other."""
    found, is_first = Reading(), FirstChoice()
    finished = False
    events, closed = plain(body)[0], plain(body + b"\n\n")[0]
    is_done = len(closed) > len(events) and closed[-1][0].strip() == "[DONE]"  # it needs no blank line
    for data, *_ in [*events, *closed[-1:]] if is_done else events:
        for payload in _payloads(data):
            if payload == "[DONE]":
                found.ends.add(found.text)
                return found
            if isinstance(payload, dict):
                text, end = _read(kind, cast("dict[str, Any]", payload), first=not found.tokens, is_first=is_first)
                found.text += text or ""
                found.tokens += text is not None
                finished = finished or end
            if finished:
                found.ends.add(found.text)
                if kind in ("text", "details"):
                    return found
    return found


def _payloads(data: str) -> list[Any]:
    """The JSON values of one event's data: one, or one a line, or what is in a list."""
    for parts in ([data], [line.removeprefix("data:").strip() for line in data.split("\n")]):
        values: list[Any] = []
        for part in parts:
            if part.strip() in ("[DONE]", ""):
                values.append(part.strip())
                continue
            with contextlib.suppress(ValueError, RecursionError):
                value = json.loads(part)
                values += cast("list[Any]", value) if isinstance(value, list) else [value]
        if len(values) >= len(parts):
            return values
    return values


def _read(kind: str, payload: dict[str, Any], *, first: bool, is_first: FirstChoice) -> tuple[str | None, bool]:
    """The text of one event, None without a token, and whether it ends the answer.

    If the `first` token has no text, but the whole text is there, then that is it.
    """
    if kind in ("text", "details"):
        token, details = _fields(payload.get("token")), _fields(payload.get("details"))
        whole = payload.get("generated_text")
        text = None
        if "text" in token:
            text = "" if token.get("special") is True else _string(token["text"])
        elif first and isinstance(whole, str):
            text = _string(whole)
        return text, isinstance(whole, str) or bool(details.get("finish_reason"))
    text, end = "", False
    for choice in map(_fields, _entries(payload.get("choices"))):
        delta = _fields(choice.get("delta"))
        end = end or bool(choice.get("finish_reason"))
        content = _string(choice.get("text")) + _string(choice.get("delta")) + _string(delta.get("content"))
        has_more = bool(content or delta.get("tool_calls") or choice.get("finish_reason"))
        if is_first(choice.get("index"), begins=isinstance(delta.get("role"), str) and not has_more):
            text += content
            for call in map(_fields, _entries(delta.get("tool_calls"))):
                function = _fields(call.get("function"))
                text += _string(function.get("name")) + _string(function.get("arguments"))
    return text, end


def _fields(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _entries(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _string(value: Any) -> str:
    """A number is its digits; half a surrogate pair, which no text can have, is U+FFFD."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return ""
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def unzipped(packed: bytes) -> bytes:
    """What a gzip body holds until its first fault."""
    unpacker, out = zlib.decompressobj(31), b""
    with contextlib.suppress(zlib.error):
        for at in range(len(packed)):
            out += unpacker.decompress(packed[at : at + 1])
    return out


# Mutants -------------------------------------------------------------------------------------------------------------


@dataclass
class Mutant:
    """One response as it is sent, and what a plain reader finds in it."""

    name: str
    kind: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    framing: str
    pieces: list[int]
    expected: Reading
    damage: int | None = None
    """Where one byte of the bytes on the wire, head and framing included, is another one."""
    stalls: bool = False
    """Whether the connection stays open after the last byte, in silence."""

    @property
    def limits(self) -> Timeouts:
        return QUICK if self.stalls else LIMITS

    def chunks(self) -> Iterator[bytes]:
        at = 0
        for size in self.pieces:
            yield self.body[at : at + size]
            at += size
        if at < len(self.body):
            yield self.body[at:]

    def wire(self, rng: random.Random) -> bytes:
        """The bytes that a server sends."""
        lines = [f"HTTP/1.1 {self.status} Some", *(f"{name}: {value}" for name, value in self.headers)]
        sent = b"".join(self.chunks())
        if self.framing in ("chunked", "cut", "both"):
            lines.append("Transfer-Encoding: chunked")
            sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in self.chunks() if chunk) + b"0\r\n\r\n"
        if self.framing in ("length", "short", "long", "both"):
            wrong = {"short": -rng.randint(1, 99), "long": rng.randint(1, 99)}.get(self.framing, 0)
            lines.append(f"Content-Length: {max(0, len(self.body) + wrong)}")
        if self.framing == "encoding":
            lines.append(f"Transfer-Encoding: {rng.choice(['gzip', 'identity', 'chunked, chunked', 'x'])}")
        wire = "\r\n".join([*lines, "", ""]).encode("utf-8", "replace") + sent
        if self.framing == "cut":
            wire = wire[: rng.randrange(len(wire))]
        if self.damage is not None:
            at = self.damage % max(1, len(wire))
            wire = wire[:at] + bytes([rng.randrange(256)]) + wire[at + 1 :]
        return wire


GARBAGE = (
    b"\0",
    b"\xff\xfe",
    b"\r",
    b"\n\n",
    b"data:",
    b": x\n\n",
    b"{}",
    b"data: {}\n\n",
    b"data: null\n\n",
    b"data: [",
    b"<html>",
)
TYPES = (
    "text/event-stream; charset=latin-1",
    "application/json",
    "text/html",
    "",
    "text/plain",
    "x",
    "TEXT/EVENT-STREAM",
)
STATUSES = (200, 201, 204, 206, 302, 304, 400, 401, 404, 410, 418, 422, 424, 429, 500, 502, 503, 529, 599, 999)
FRAMINGS = ("chunked", "chunked", "length", "close", "cut", "cut", "short", "long", "both", "encoding")


def _change_events(events: list[bytes], rng: random.Random) -> str:
    at, other = rng.randrange(len(events)), rng.randrange(len(events))
    change = rng.choice(["duplicate", "drop", "swap", "comment", "crlf", "cut in two"])
    if change == "duplicate":
        events.insert(other, events[at])
    elif change == "drop":
        del events[at]
    elif change == "swap":
        events[at], events[other] = events[other], events[at]
    elif change == "comment":
        events.insert(at, b": hello\n\n" * rng.randint(1, 3))
    elif change == "crlf":
        events[at] = events[at].replace(b"\n", rng.choice([b"\r\n", b"\r"]))
    else:
        events[at] = events[at].replace(b"\n\n", b"\n")
    return change


def _change_bytes(body: bytes, rng: random.Random) -> tuple[str, bytes]:
    at = rng.randrange(len(body) + 1)
    change = rng.choice(["flip", "flip", "bit", "truncate", "insert", "remove", "repeat"])
    size = rng.randint(1, 40)
    if change == "flip":
        return change, body[:at] + bytes([rng.randrange(256)]) + body[at + 1 :]
    if change == "bit":
        return change, body[:at] + bytes([byte ^ (1 << rng.randrange(8)) for byte in body[at : at + 1]]) + body[
            at + 1 :
        ]
    if change == "truncate":
        return change, body[:at]
    if change == "insert":
        return change, body[:at] + rng.choice([*GARBAGE, rng.randbytes(size)]) + body[at:]
    if change == "remove":
        return change, body[:at] + body[at + size :]
    return change, body[: at + size] + body[at:]


def mutant(seed: int, number: int) -> Mutant:
    """The mutant of this number."""
    rng = random.Random(f"{seed}:{number}")
    kind = rng.choice([*SOURCES])
    events = list(SOURCES[kind](rng.choice(TEXTS)))
    names: list[str] = []
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        if events:
            names.append(_change_events(events, rng))  # noqa: PERF401  it changes the events
    body = b"".join(events)
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        name, body = _change_bytes(body, rng)
        names.append(name)
    headers = [("Content-Type", "text/event-stream")]
    expected = body
    zipping = rng.random()
    if zipping < 0.15:
        headers.append(("Content-Encoding", "gzip"))
        body = gzip.compress(body, mtime=0)
        if zipping < 0.1:
            name, body = _change_bytes(body, rng)
            names.append(f"gzip {name}")
        expected = unzipped(body)
    elif zipping < 0.17:
        headers.append(("Content-Encoding", rng.choice(["gzip", "deflate", "br", "zstd", "x", "gzip, gzip"])))
        names.append("coding")
    status = 200
    if rng.random() < 0.1:
        headers[0] = ("Content-Type", rng.choice(TYPES))
        names.append("type")
    if rng.random() < 0.1:
        status = rng.choice(STATUSES)
        names.append("status")
    if rng.random() < 0.05:
        headers.append(("X-Odd", "".join(chr(rng.choice([*range(32, 127), 0xE9])) for _ in range(30))))
    pieces = [rng.randint(1, rng.choice([3, 50, 500])) for _ in range(rng.choice([0, 5, 60]))]
    damage = rng.randrange(10_000) if rng.random() < 0.15 else None
    framing, stalls = rng.choice(FRAMINGS), rng.random() < 0.003
    found = reading(kind, expected)
    return Mutant("+".join(names), kind, status, headers, body, framing, pieces, found, damage, stalls)
