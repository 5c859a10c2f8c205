"""A decoder on a second connection rejects a stream that starts from the beginning."""

from __future__ import annotations

import pytest

from hfstream.core.resume import _ContinuedDecoder
from hfstream.core.stream_decoders import TGIStreamDecoder
from hfstream.errors import (
    IncompleteStreamError,
)
from hfstream.testing import token_event


@pytest.mark.parametrize("again", ["1", "2"])
def test_a_server_that_restarts_the_stream_is_detected(again: str) -> None:
    """It numbers its events, and passes over Last-Event-ID: no token comes twice."""
    reply = TGIStreamDecoder()
    reply.feed(b"id: 1\n" + token_event(1, "a") + b"id: 2\n" + token_event(2, "b"))
    reply.resume()
    assert reply.feed(f"id: {again}\n".encode() + token_event(1, "a")) == []
    with pytest.raises(IncompleteStreamError, match="restarted") as caught:
        reply.finish()
    assert not caught.value.retryable


def test_a_restart_without_ids_is_detected() -> None:
    reply = TGIStreamDecoder()
    reply.feed(b"id: 1\n" + token_event(1, "a"))
    reply.resume()
    assert reply.feed(token_event(1, "a")) == []
    with pytest.raises(IncompleteStreamError, match="restarted"):
        reply.finish()


def test_events_without_an_index_stay_without_one() -> None:
    decoder = _ContinuedDecoder("ab", 2, 7)
    [response] = decoder.feed(b'data: {"token": {"id": 1, "text": "c"}}\n\n')
    assert response.index is None
