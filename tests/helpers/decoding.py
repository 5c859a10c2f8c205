"""Bodies for decoders, and decoders driven by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from hfstream.core.decoders import ResponseDecoder
from hfstream.errors import InferenceError

__all__ = ["EVENT_STREAM", "OVERLOADED", "decode_all", "divisions", "event"]

EVENT_STREAM = {"content-type": "text/event-stream"}
OVERLOADED = {"error": "Model is overloaded", "error_type": "overloaded"}


def event(payload: Any, head: bytes = b"data: ") -> bytes:
    return head + (payload if isinstance(payload, bytes) else json.dumps(payload).encode()) + b"\n\n"


def decode_all(decoder: ResponseDecoder[Any], chunks: Iterable[bytes]) -> tuple[list[Any], InferenceError | None]:
    """The items of a body, and the error that it ends with, read as a driver does."""
    items: list[Any] = []
    try:
        for chunk in chunks:
            items += decoder.feed(chunk)
            if decoder.done:
                break
        items += decoder.finish()
    except InferenceError as error:
        return items, error
    return items, None


def divisions(raw_body: bytes, step: int = 1) -> Iterator[list[bytes]]:
    """The body whole, byte by byte, and cut in two at every place, or at one in `step` places."""
    yield [raw_body]
    yield [raw_body[position : position + 1] for position in range(len(raw_body))]
    for position in range(1, len(raw_body), step):
        yield [raw_body[:position], raw_body[position:]]
