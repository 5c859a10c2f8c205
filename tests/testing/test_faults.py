"""Tests of `hfstream.testing.faults`, and of how clients handle each of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hfstream import (
    IncompleteStreamError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    OverloadedError,
    UnexpectedResponseError,
)
from hfstream.testing import Response, ScriptedServer, chat_events, faults, token_events
from tests.helpers.variants import Clients, Variant
from tests.testing.common import CHAT, EVENTS, SHORT_TIMEOUTS, TEXT, TEXTS

UNUSUAL_BUT_VALID = [
    faults.byte_order_mark,
    faults.cr_only,
    faults.crlf,
    faults.keep_alives,
    faults.rechunk,
    faults.retry_frames,
    faults.split_utf8,
]


@pytest.mark.parametrize("fault", UNUSUAL_BUT_VALID, ids=lambda fault: fault.__name__)
async def test_unusual_but_valid_streams_are_read_completely(variant: Variant, clients: Clients, fault: Any) -> None:
    with ScriptedServer(fault(EVENTS), fault(CHAT)) as server:
        client = clients(server.url, retry=None)
        assert await variant.rest(await variant.open(client)) == TEXTS
        assert (await variant.final(await variant.open_chat(client))).choices[0].message.content == TEXT


async def test_paced_pauses_before_each_event(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(faults.paced(EVENTS, 0.05)) as server:
        stream = await variant.open(clients(server.url))
        assert await variant.rest(stream) == TEXTS
        assert stream.metrics.duration >= 0.2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.drop, InferenceConnectionError),
        (faults.reset, InferenceConnectionError),
        (faults.stall, InferenceTimeoutError),
        (faults.early_end, IncompleteStreamError),
    ],
)
@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.slow
async def test_an_interrupted_stream_keeps_the_tokens_before_the_fault(
    variant: Variant, clients: Clients, fault: Any, kind: type[InferenceError], after: int
) -> None:
    with ScriptedServer(fault(EVENTS, after=after), fault(CHAT, after=after + 1)) as server:
        client = clients(server.url, timeout=SHORT_TIMEOUTS if fault is faults.stall else 60)
        streams = await variant.open(client), await variant.open_chat(client)
        errors = await asyncio.gather(*map(variant.rest, streams), return_exceptions=True)
        for error in errors:
            assert isinstance(error, kind)
            assert error.partial_text == "".join(TEXTS[:after])


@pytest.mark.parametrize(
    ("response", "retry_after"),
    [
        (faults.overloaded(), 1),
        (faults.overloaded(0.5), 0.5),
        (faults.overloaded(None), None),
        (faults.overloaded_in_stream(), None),
        (faults.overloaded_in_stream(chat=True), None),
    ],
)
async def test_every_format_of_overload_raises_the_same_error(
    variant: Variant, clients: Clients, response: Response, retry_after: float | None
) -> None:
    with ScriptedServer(response) as server:
        client = clients(server.url, retry=None)
        for open_stream in (variant.open, variant.open_chat):
            with pytest.raises(OverloadedError, match="Model is overloaded") as caught:
                await open_stream(client)
            assert (caught.value.status_code, caught.value.retry_after) == (429, retry_after)


async def test_html_and_empty_responses_raise_errors(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(faults.html(), faults.empty()) as server:
        client = clients(server.url, retry=None)
        with pytest.raises(UnexpectedResponseError, match="Sign in"):
            await variant.open(client)
        with pytest.raises(IncompleteStreamError):
            await variant.open(client)


@pytest.mark.parametrize("fault", [faults.drop, faults.reset, faults.stall, faults.early_end])
@pytest.mark.parametrize(("after", "error"), [(None, TypeError), (1.5, TypeError), (True, TypeError), (-1, ValueError)])
def test_a_fault_comes_after_a_number_of_events(fault: Any, after: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="after must be"):
        fault(EVENTS, after=after)


@pytest.mark.parametrize("make", [chat_events, token_events])
def test_the_texts_of_events_are_arguments(make: Any) -> None:
    with pytest.raises(TypeError, match=f"{make.__name__} takes each text as an argument"):
        make(["a", "b"])


def test_split_utf8_splits_every_multi_byte_character() -> None:
    body = list(faults.split_utf8(EVENTS).body)
    assert b"".join(chunk for chunk in body if isinstance(chunk, bytes)) == b"".join(EVENTS)
    for chunk in body:
        assert isinstance(chunk, bytes)
        assert chunk.decode("utf-8", "ignore").isascii()
    with pytest.raises(ValueError, match="nothing to split"):
        faults.split_utf8([b"data: plain\n\n"])
