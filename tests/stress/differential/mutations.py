"""Changes of a stream that leave its text as it is: other values in side fields, further events, another framing.

Seeded: the same seed makes the same streams. Does not depend on hfstream or on another client.
"""

from __future__ import annotations

import copy
import itertools
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from .shapes import Stream

__all__ = ["MUTATIONS", "mutated"]

NEEDED = frozenset({
    "choices", "delta", "content", "tool_calls", "function", "name", "arguments", "id in a call", "text", "token",
    "special", "generated_text", "role", "refusal", "function_call", "reasoning", "reasoning_content", "base_resp",
    "status_code",
})  # fmt: skip
"""Fields that carry the answer, or say that it failed: they stay as they are."""

VALUES: tuple[Any, ...] = (
    None, "", "x", "2026-01-01T00:00:00Z", "0", 0, 1, -1, 1.5, 10**20, True, False, [], {}, [None], [0], {"a": 1},
    [{"a": None}], {"prompt_tokens": "7"}, [[]],
)  # fmt: skip

ADDED = (
    "x_extra", "obfuscation", "error", "usage", "cost", "citations", "service_tier", "timings", "detail", "status",
    "provider", "logprobs", "top_logprobs", "metadata", "object", "created", "model", "id", "type", "message",
)  # fmt: skip
EMPTY: tuple[Any, ...] = (None, "", [], {}, False, 0)
"""Values for fields that would say something otherwise."""

EXTRA_EVENTS: tuple[bytes, ...] = (
    b"data: {}\n\n", b'data: {"type":"ping"}\n\n', b'data: {"cost":0.1}\n\n', b'data: {"citations":["u"]}\n\n',
    b'data: {"message":"queued"}\n\n', b'data: {"choices":[]}\n\n', b'data: {"choices":null}\n\n', b"data: null\n\n",
    b"data: []\n\n", b"data:\n\n", b"data\n\n", b": keep-alive\n\n", b":\n\n", b"event: ping\ndata: {}\n\n",
    b"event: keep-alive\ndata: x\n\n", b"event: ping\n\n", b"id: 7\n\n", b"retry: 3000\n\n", b"\n\n",
    b"unknown: field\n\n",
    b'data: {"usage":{"prompt_tokens":1}}\n\n', b'data: {"id":"1","object":"x","model":"m"}\n\n',
    b'data: {"choices":[{"index":0,"delta":{}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n',
)  # fmt: skip


def _side_fields(value: Any, within: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Containers, keys and names of all fields that do not carry the answer."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in NEEDED and not (within == "tool_calls" and key in ("id", "index", "type")):
                yield value, key, key
            yield from _side_fields(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _side_fields(inner, within)


def _payload(data: bytes) -> Any:
    """The JSON of one event, or None."""
    if not data.startswith((b"data: {", b"data:{")) or data.count(b"\n") != 2:
        return None
    return json.loads(data.partition(b":")[2])


def _with_payload(events: tuple[bytes, ...], at: int, payload: Any) -> tuple[bytes, ...]:
    data = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    return (*events[:at], b"data: " + data + b"\n\n", *events[at + 1 :])


def _change_field(stream: Stream, rng: random.Random) -> Stream:
    at = rng.choice([at for at, data in enumerate(stream.events) if _payload(data)] or [-1])
    if at < 0:
        return stream
    payload = copy.deepcopy(_payload(stream.events[at]))
    fields = list(_side_fields(payload))
    if stream.name == "OpenAI, n=2":
        fields = [each for each in fields if each[2] != "index"]
    if not fields:
        return stream
    parent, key, name = rng.choice(fields)
    label = f"{name} changed"
    if rng.random() < 0.25:
        del parent[key]
        label = f"{name} removed"
    elif name == "index":
        parent[key] = rng.choice((None, "", "x", str(parent[key]), [], {}, False))  # another number is another choice
    elif name == "finish_reason":
        parent[key] = rng.choice((*EMPTY, "x", "end_turn")) if parent[key] is not None else rng.choice(EMPTY)
    elif name == "error":
        parent[key] = rng.choice(EMPTY)
    else:
        parent[key] = rng.choice(VALUES)
    return replace(stream, events=_with_payload(stream.events, at, payload), labels=stream.labels | {label})


def _add_field(stream: Stream, rng: random.Random) -> Stream:
    at = rng.choice([at for at, data in enumerate(stream.events) if _payload(data)] or [-1])
    if at < 0:
        return stream
    payload = copy.deepcopy(_payload(stream.events[at]))
    places = [payload]
    places += [each for each in payload.get("choices") or () if isinstance(each, dict)]
    places += [each["delta"] for each in places[1:] if isinstance(each.get("delta"), dict)]
    place, name = rng.choice(places), rng.choice(ADDED)
    if name in place:
        return stream
    place[name] = rng.choice(EMPTY if name in ("error", "detail", "message", "status") else VALUES)
    return replace(stream, events=_with_payload(stream.events, at, payload), labels=stream.labels | {f"{name} added"})


def _renumber(stream: Stream, rng: random.Random) -> Stream:
    """Another index for the one choice, in all chunks: 1, or it counts up from 1 (TGI 1.4), or none."""
    kind = rng.choice(("index 1", "index counts", "no index"))
    if stream.name == "OpenAI, n=2":
        return stream
    for at, data in enumerate(stream.events):
        payload = _payload(data)
        choices = payload.get("choices") if isinstance(payload, dict) else None
        for choice in choices if isinstance(choices, list) else ():
            choice.pop("index", None)
            choice |= {"index 1": {"index": 1}, "index counts": {"index": at + 1}, "no index": {}}[kind]
            stream = replace(stream, events=_with_payload(stream.events, at, payload))
    return replace(stream, labels=stream.labels | {kind})


def _add_events(stream: Stream, rng: random.Random) -> Stream:
    events = list(stream.events)
    extra = rng.choice(EXTRA_EVENTS)
    for _ in range(rng.choice((1, 1, 3))):
        events.insert(rng.randrange(len(events) + 1), extra)
    label = extra.decode().strip().replace("\n", "⏎") or "blank lines"
    return replace(stream, events=tuple(events), labels=stream.labels | {f"event {label}"})


def _reframed(label: str, change: Callable[[bytes], bytes]) -> Callable[[Stream, random.Random], Stream]:
    def mutate(stream: Stream, rng: random.Random) -> Stream:
        return replace(stream, events=tuple(map(change, stream.events)), labels=stream.labels | {label})

    return mutate


def _escape(data: bytes) -> bytes:
    payload = _payload(data)
    return data if payload is None else b"data: " + json.dumps(payload).encode() + b"\n\n"


def _divide_json(data: bytes) -> bytes:
    payload = _payload(data)
    if payload is None:
        return data
    return b"".join(b"data: %b\n" % line.encode() for line in json.dumps(payload, indent=1).split("\n")) + b"\n"


def _byte_order_mark(stream: Stream, rng: random.Random) -> Stream:
    return replace(stream, events=(b"\xef\xbb\xbf", *stream.events), labels=stream.labels | {"byte order mark"})


def _cut_end(stream: Stream, rng: random.Random) -> Stream:
    if len(stream.events) == 1:
        return stream
    keep = rng.randrange(1, len(stream.events))
    return replace(stream, events=stream.events[:keep], labels=stream.labels | {"cut"})


def _separators(stream: Stream, rng: random.Random) -> Stream:
    """Characters in the text that some parsers take for line ends."""
    character = rng.choice("\u2028\u2029\x85")
    events = tuple(data.replace("ë".encode(), character.encode()) for data in stream.events)
    text = stream.text.replace("ë", character)
    return (
        stream if text == stream.text else replace(stream, events=events, text=text, labels=stream.labels | {"U+2028"})
    )


def _divided(stream: Stream, rng: random.Random) -> Stream:
    """Other chunks of the same bytes."""
    body = b"".join(stream.events)
    count = rng.choice((0, 3, 20, 20, len(body) // 2))
    bounds = sorted({0, len(body), *(rng.randrange(len(body) + 1) for _ in range(count))})
    chunks = [body[a:b] for a, b in itertools.pairwise(bounds)]
    return replace(stream, events=tuple(chunks), labels=stream.labels)


MUTATIONS: tuple[tuple[int, Callable[[Stream, random.Random], Stream]], ...] = (
    (2, _separators),
    (50, _change_field),
    (20, _add_field),
    (20, _add_events),
    (4, _renumber),
    (3, _reframed("CRLF", lambda data: data.replace(b"\n", b"\r\n"))),
    (2, _reframed("CR", lambda data: data.replace(b"\n", b"\r"))),
    (3, _reframed("no space", lambda data: data.replace(b"data: ", b"data:"))),
    (2, _reframed("event: message", lambda data: b"event: message\n" + data if data[:5] == b"data:" else data)),
    (2, _reframed("id", lambda data: b"id: 1\n" + data if data[:5] == b"data:" else data)),
    (2, _reframed("escaped", _escape)),
    (2, _reframed("JSON of several lines", _divide_json)),
    (1, _byte_order_mark),
    (3, _cut_end),
)
"""What can be done, and how often of about a hundred."""


def mutated(stream: Stream, rng: random.Random, count: int) -> Stream:
    """`stream` with `count` changes, in other chunks."""
    weights, mutations = zip(*MUTATIONS, strict=True)
    # What changes the framing comes last: the others find whole events.
    chosen = sorted(rng.choices(range(len(mutations)), weights, k=count))
    for at in chosen:
        stream = mutations[at](stream, rng)
    return _divided(stream, rng)
