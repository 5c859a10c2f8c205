"""Bodies that are compressed unasked."""

from __future__ import annotations

import gzip
import zlib

import pytest

from hfstream import UnexpectedResponseError
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
