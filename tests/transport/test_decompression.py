"""Bodies that are compressed unasked, and Content-Encodings that are none."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest

from hfstream import UnexpectedResponseError
from hfstream._transport.decompression import MAX_OUTPUT, Decompressor, is_compressed
from hfstream.testing import Response, ScriptedServer, token_events
from tests.helpers.variants import Clients, Variant


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.slow
async def test_a_stream_that_is_compressed_unasked_is_read(
    variant: Variant, clients: Clients, coding: str, size: int
) -> None:
    texts = [*(f"word{number} " * 40 for number in range(400)), "end"]
    body = b"".join(token_events(*texts))
    packed = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    with ScriptedServer(Response(pieces, headers={"Content-Encoding": coding})) as server:
        stream = await variant.open(clients(server.url))
        assert "".join(await variant.rest(stream)) == "".join(texts)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip"])
async def test_an_unsupported_content_encoding_is_an_error(variant: Variant, clients: Clients, coding: str) -> None:
    with ScriptedServer(Response([b"whatever"], headers={"Content-Encoding": coding})) as server:
        with pytest.raises(UnexpectedResponseError, match=coding):
            await variant.open(clients(server.url))
        assert server.wait_until_running(0)


async def test_a_body_that_is_not_coded_as_it_says_is_told(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([b"no gzip"], headers={"Content-Encoding": "gzip"})) as server:
        client = clients(server.url)
        with pytest.raises(UnexpectedResponseError, match="does not match its Content-Encoding"):
            await variant.open(client)


# --- Without a server ------------------------------------------------------------------------------------------------

BODY = b"".join(token_events("Hello", ",", " you"))


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


def flushed_deflate(body: bytes) -> bytes:
    """As a server that flushes after each event, and never ends the compressed data."""
    compressor = zlib.compressobj(wbits=-15)
    events = [event + b"\n\n" for event in body.split(b"\n\n")[:-1]]
    return b"".join(compressor.compress(event) + compressor.flush(zlib.Z_SYNC_FLUSH) for event in events)


def members(body: bytes) -> bytes:
    """One gzip member for each event."""
    return b"".join(gzip.compress(event + b"\n\n") for event in body.split(b"\n\n")[:-1])


def plain(body: bytes) -> bytes:
    return body


def gzip_twice(body: bytes) -> bytes:
    return gzip.compress(gzip.compress(body))


def gzip_padded(body: bytes) -> bytes:
    return gzip.compress(body) + bytes(300)


def empty_members(body: bytes) -> bytes:
    return gzip.compress(b"") * 9 + members(body)


def deflate_members(body: bytes) -> bytes:
    return raw_deflate(body[:50]) + raw_deflate(body[50:])


def deflate_gzip(body: bytes) -> bytes:
    return gzip.compress(zlib.compress(body))


CODED: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    (" GZip ;q=1", gzip.compress),
    ("gzip", members),
    ("gzip", gzip_padded),
    ("gzip", empty_members),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("deflate", flushed_deflate),
    ("deflate", deflate_members),
    ("gzip, gzip", gzip_twice),
    ("none, gzip", gzip.compress),
    ("gzip, identity", gzip.compress),
    ("gzip, gzip", gzip.compress),  # a proxy has added the header once more
    ("deflate, gzip", deflate_gzip),
    ("gzip", plain),  # a proxy has decompressed the body, and passed the header on
    ("deflate", plain),
    ("gzip, deflate", plain),
]


def decompress(encoding: str, chunks: list[bytes], *, lenient: bool = False) -> bytes:
    decompressor = Decompressor(encoding, lenient=lenient)
    output = b""
    for chunk in chunks:
        decompressor.feed(chunk)
        while part := decompressor.read():
            output += part
    return output


@pytest.mark.parametrize("size", [1, 2, 3, 17, 100_000])
@pytest.mark.parametrize(("encoding", "compress"), CODED, ids=range(len(CODED)))
def test_a_body_is_what_was_compressed(size: int, encoding: str, compress: Callable[[bytes], bytes]) -> None:
    compressed = compress(BODY)
    chunks = [compressed[at : at + size] for at in range(0, len(compressed), size)]
    assert is_compressed(encoding)
    assert decompress(encoding, chunks) == BODY


@pytest.mark.parametrize(
    "encoding", ["", "identity", "none", "UTF-8", "identity, x", "utf8,none", "chunked", "text/event-stream", ",", "*"]
)
def test_a_name_that_is_no_coding_says_nothing(encoding: str) -> None:
    """It names nothing that could be undone, so the body is read as it is; if it is compressed, it is no stream."""
    assert not is_compressed(encoding)


@pytest.mark.parametrize(
    "encoding", ["br", "zstd", "compress", "gzip, br", "identity, zstd", "BR", ",".join(["gzip"] * 9_000)], ids=range(7)
)
def test_a_coding_that_cannot_be_undone_is_an_error(encoding: str) -> None:
    with pytest.raises(UnexpectedResponseError, match="Accept-Encoding: identity") as caught:
        decompress(encoding, [b"x"])
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("garbage", [b"x", b"\x1f\x00", b"data: x\n\n"])
@pytest.mark.parametrize("compress", [gzip.compress, members])
def test_what_follows_a_member_is_another_one_or_an_error(compress: Callable[[bytes], bytes], garbage: bytes) -> None:
    """At once: the rest is neither kept nor read, however long it is."""
    decompressor = Decompressor("gzip")
    decompressor.feed(compress(BODY) + garbage * 2)
    output: list[bytes] = []
    with pytest.raises(UnexpectedResponseError, match="does not match its Content-Encoding"):
        while True:
            output.append(decompressor.read())
    assert b"".join(output) == BODY


def test_little_that_decompresses_to_much_comes_in_pieces() -> None:
    decompressor = Decompressor("gzip, gzip")
    decompressor.feed(gzip.compress(gzip.compress(bytes(50_000_000))))
    sizes: list[int] = []
    while part := decompressor.read():
        sizes.append(len(part))
    assert sum(sizes) == 50_000_000
    assert max(sizes) <= MAX_OUTPUT


def test_the_body_of_an_error_may_be_plain_words() -> None:
    assert decompress("gzip", [b"upst", b"ream busy"], lenient=True) == b"upstream busy"
