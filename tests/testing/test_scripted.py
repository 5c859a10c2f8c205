"""Tests of `ScriptedServer` and `Response`."""

from __future__ import annotations

from hfstream import RetryPolicy
from hfstream.testing import Response, ScriptedServer, faults
from tests.helpers.variants import Clients, Variant
from tests.testing.common import EVENTS, TEXTS


async def test_delay_postpones_the_response_headers(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(EVENTS, delay=0.2)) as server:
        stream = await variant.open(clients(server.url))
        assert stream.metrics.time_to_first_token >= 0.2
        await variant.close(stream)


async def test_responses_are_sent_in_order(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(
        faults.overloaded(0), faults.overloaded_in_stream(), faults.empty(), Response(EVENTS)
    ) as server:
        stream = await variant.open(clients(server.url, retry=RetryPolicy(4, max_wait=0.01)))
        assert await variant.rest(stream) == TEXTS
        assert len(server.requests) == len(stream.attempts) == 4
