"""Responses whose status, content type or content coding is unusual."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping

from ...errors import OverloadedError, UnexpectedResponseError
from ..response import Response
from .entries import HELLO, UnusualResponse

__all__ = ["HEADS"]


def _deflated(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


HEADS: Mapping[str, UnusualResponse] = {
    "Content-Encoding: none": UnusualResponse(
        "a name that is no coding", Response(HELLO, headers={"Content-Encoding": "none"})
    ),
    "a gzip member for each event": UnusualResponse(
        "a gateway compresses each event by itself",
        Response([gzip.compress(event, mtime=0) for event in HELLO], headers={"Content-Encoding": "gzip"}),
    ),
    "bare deflate": UnusualResponse(
        "deflate without zlib's header",
        Response([_deflated(b"".join(HELLO))], headers={"Content-Encoding": "deflate"}),
    ),
    "text/plain": UnusualResponse(
        "the content type of a framework's default", Response(HELLO, content_type="text/plain; charset=utf-8")
    ),
    "two content types": UnusualResponse(
        "a gateway adds its own to the server's", Response(HELLO, content_type="application/json, text/event-stream")
    ),
    "503 in br": UnusualResponse(
        "an overload whose body cannot be read", Response([b"\x0b\x00\x80"], 503, headers={"Content-Encoding": "br"}),
        "", OverloadedError,
    ),
    "a page": UnusualResponse(
        "a sign-in page with status 200", Response(["<!doctype html><title>Sign in</title>"], content_type="text/html"),
        "", UnexpectedResponseError,
    ),
}  # fmt: skip
