"""Where a head ends, and chunked coding, cut at every position."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfstream._transport.chunked import ChunkDecoder, HeadSplitter, LengthSplitter, body_length

HEADS = [
    b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n",
    b"HTTP/1.1 200 OK\nA: b\n\n",
    b"HTTP/1.1 200 OK\r\nA: b\n\r\n",
    b"HTTP/1.1 200 OK\nA: b\r\n\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("body", [b"", b"\n\n", b"5\r\nhello\r\n\r\n"])
def test_a_head_ends_at_its_blank_line(head: bytes, body: bytes) -> None:
    wire = head + body
    for cut in range(len(wire) + 1):
        splitter = HeadSplitter()
        first, rest = splitter.split(wire[:cut])
        if rest or first.endswith(head[-3:]):
            assert (first, rest) == (head, wire[len(head) : cut])
            continue
        second, rest = splitter.split(wire[cut:])
        assert (first + second, rest) == (head, body)


def test_a_body_of_known_length_ends_there() -> None:
    wire = b"body, rest"
    for cut in range(len(wire) + 1):
        splitter = LengthSplitter(4)
        first, rest = splitter.split(wire[:cut])
        second, rest = splitter.split(rest + wire[cut:])
        assert (first + second, rest) == (b"body", b", rest")


@pytest.mark.parametrize(
    ("headers", "length"),
    [({"content-length": "5"}, 5), ({}, None), ({"content-length": "5", "transfer-encoding": "chunked"}, None)],
)
def test_a_head_tells_the_length_of_its_body_unless_that_has_chunks(
    headers: dict[str, str], length: int | None
) -> None:
    assert body_length(headers) == length


def test_each_of_several_heads_ends_at_its_own_blank_line() -> None:
    splitter = HeadSplitter()
    wire = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nbody"
    first, rest = splitter.split(wire)
    assert first == b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert splitter.split(rest) == (b"HTTP/1.1 200 OK\r\n\r\n", b"body")


def test_what_is_no_head_is_not_divided() -> None:
    reply = b"\x05\x00\x00\x01\x0a\x0a\x00\x01\x0a\x0a"  # of a SOCKS proxy, with an address in 10.10.0.0/16
    splitter = HeadSplitter(b"H")
    assert splitter.split(reply) == (reply, b"")
    assert splitter.split(b"H") == (b"H", b"")
    assert splitter.split(b"TTP/1.1 200 OK\n\nbody") == (b"TTP/1.1 200 OK\n\n", b"body")


def decoded(wire: bytes, cuts: list[int]) -> tuple[bytes, bytes | None, bool]:
    """The body, what is left and whether it was malformed, with `wire` cut at `cuts`."""
    decoder = ChunkDecoder()
    body, left = b"", b""
    bounds = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    for start, end in pairwise(bounds):
        if decoder.left is None and not decoder.malformed:
            body += decoder.feed(wire[start:end])
            left = decoder.left or b""
        else:
            left += wire[start:end]
    return body, None if decoder.left is None else left, decoder.malformed


PARTS = st.lists(st.binary(min_size=1, max_size=40) | st.sampled_from([b"\r\n", b"0\r\n\r\n", b"a" * 300]), max_size=6)


@given(
    PARTS, st.lists(st.integers(1, 200)), st.sampled_from([b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"5;a=b\r\nhello\r\n"])
)
def test_chunks_are_joined_and_the_last_one_is_left(parts: list[bytes], cuts: list[int], end: bytes) -> None:
    wire = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + end
    assert decoded(wire, cuts) == (b"".join(parts), end, False)


def test_a_chunk_is_returned_as_far_as_it_has_come() -> None:
    decoder = ChunkDecoder()
    assert decoder.feed(b"a\r\nhel") == b"hel"
    assert decoder.feed(b"lo you!") == b"lo you!"
    assert decoder.feed(b"\r") == b""
    assert decoder.feed(b"\n1\r\n!\r\n") == b"!"
    assert decoder.left is None


@pytest.mark.parametrize("size", [b"", b"x", b"-1", b"+1", b"0x1", b"1_0", b" 1", b"1 ", b"00000000000000001", b"1\r"])
def test_a_size_that_is_not_as_usual_is_left_to_the_http_library(size: bytes) -> None:
    wire = b"1\r\na\r\n" + size + b"\r\nb\r\n"
    decoder = ChunkDecoder()
    assert decoder.feed(wire) == b"a"
    assert decoder.left == size + b"\r\nb\r\n"


@pytest.mark.parametrize("end", [b"XX", b"\rX", b"X\n", b"\n\r"])
def test_data_without_a_line_end_after_it_is_malformed_wherever_it_is_cut(end: bytes) -> None:
    wire = b"5\r\nhello" + end
    for cut in range(len(wire)):
        assert decoded(wire, [cut])[::2] == (b"hello", True)
