"""Tests of `ChaosProxy` and `FaultRates`."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from hfstream import InferenceConnectionError, InferenceError, InferenceTimeoutError
from hfstream.testing import ChaosProxy, FaultRates, Response, ScriptedServer, Step, token_events
from tests.helpers.variants import Clients, Variant
from tests.testing.common import EVENTS, SHORT_TIMEOUTS, TEXTS

LONG = token_events(*[f" {number}" for number in range(200)])


def test_faults_depend_only_on_the_seed_and_the_connection() -> None:
    def plan(seed: str) -> list[Any]:
        steps = FaultRates().plan(seed)
        return [next(steps) for _ in range(50)]

    assert plan("1/1/down") == plan("1/1/down")
    assert len({str(plan(seed)) for seed in ("1/1/down", "1/1/up", "1/2/down", "2/1/down")}) == 4


@pytest.mark.parametrize(
    ("rates", "error"),
    [
        ({"mean_bytes_between": 0}, ValueError),
        ({"mean_bytes_between": float("inf")}, ValueError),
        ({"cut": -1}, ValueError),
        ({"cut": "1"}, TypeError),
        ({"longest_delay": float("nan")}, ValueError),
        ({"split": 0, "delay": 0, "cut": 0, "reset": 0, "stall": 0}, ValueError),
    ],
    ids=str,
)
def test_rates_that_cannot_be_are_refused(rates: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="must be"):
        FaultRates(**rates)


@pytest.mark.parametrize(
    ("url", "options", "error", "message"),
    [
        ("127.0.0.1:8080", {}, ValueError, "not the URL of a server: write"),
        ("http://127.0.0.1:99999", {}, ValueError, "not the URL of a server: write"),
        (None, {}, TypeError, "not the URL of a server: write"),
        ("http://127.0.0.1", {"rates": {"cut": 1}}, TypeError, "rates must be FaultRates"),
        ("http://127.0.0.1", {"on_close": 5}, TypeError, "on_close must be a function"),
    ],
)
def test_wrong_arguments_are_refused(url: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ChaosProxy(url, **options)


async def receive(url: str, *, seed: int, rates: FaultRates) -> tuple[list[bytes], dict[str, int]]:
    """The bytes received on three consecutive connections, and the injected faults."""
    bodies: list[bytes] = []
    with ChaosProxy(url, seed=seed, rates=rates) as proxy:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(proxy.url).port)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            body = b""
            try:
                while not body.endswith(b"\r\n0\r\n\r\n") and (data := await asyncio.wait_for(reader.read(65536), 60)):
                    body += data
            except ConnectionResetError:
                pass
            bodies.append(body)
            writer.close()
            await writer.wait_closed()
        return bodies, dict(proxy.fault_counts)


async def test_the_same_seed_injects_the_same_faults() -> None:
    # No resets: a reset may discard bytes that were sent before it.
    rates = FaultRates(mean_bytes_between=9000, reset=0, stall=0, longest_delay=0.001)
    with ScriptedServer(Response(LONG)) as server:
        first, second, other = [await receive(server.url, seed=seed, rates=rates) for seed in (3, 3, 4)]
    assert first == second
    assert first != other
    assert {body.endswith(b"\r\n0\r\n\r\n") for body in first[0] + other[0]} == {True, False}


async def test_splits_and_delays_do_not_change_the_stream(variant: Variant, clients: Clients) -> None:
    harmless = FaultRates(mean_bytes_between=20, cut=0, reset=0, stall=0, longest_delay=0.002)
    with ScriptedServer(Response(EVENTS)) as server, ChaosProxy(server.url, rates=harmless) as proxy:
        assert await variant.rest(await variant.open(clients(proxy.url, retry=None))) == TEXTS
        assert proxy.fault_counts["split"] > 5
        assert proxy.fault_counts["delay"] > 2


@pytest.mark.parametrize(
    ("rates", "kind"),
    [
        (FaultRates(mean_bytes_between=8000, split=0, delay=0, cut=1, reset=0, stall=0), InferenceConnectionError),
        (FaultRates(mean_bytes_between=8000, split=0, delay=0, cut=0, reset=1, stall=0), InferenceConnectionError),
        (FaultRates(mean_bytes_between=8000, split=0, delay=0, cut=0, reset=0, stall=1), InferenceTimeoutError),
    ],
    ids=["cut", "reset", "stall"],
)
@pytest.mark.slow
async def test_cut_reset_and_stall_raise_the_matching_errors(
    variant: Variant, clients: Clients, rates: FaultRates, kind: type[InferenceError]
) -> None:
    endless: list[Step] = [*LONG[:-1], *LONG[1:-1] * 20]
    with ScriptedServer(Response(endless)) as server, ChaosProxy(server.url, seed=1, rates=rates) as proxy:
        with pytest.raises(kind) as caught:
            await variant.rest(await variant.open(clients(proxy.url, timeout=SHORT_TIMEOUTS if rates.stall else 60)))
        expected = "".join(f" {number}" for number in range(199))
        assert (caught.value.partial_text or "")[: len(expected)] == expected[: len(caught.value.partial_text or "")]
        assert server.wait_until_running(0)


def test_a_proxy_without_a_server_closes_its_connections() -> None:
    with ScriptedServer() as server:
        unused_url = server.url
    with ChaosProxy(unused_url) as proxy, pytest.raises(httpx.TransportError):
        httpx.get(proxy.url)
    ChaosProxy(unused_url).close()  # never started
