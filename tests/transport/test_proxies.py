"""Proxies from the environment, and the hosts of NO_PROXY."""

from __future__ import annotations

import time

import pytest

from hfstream import InferenceTimeoutError, Timeouts
from hfstream.testing import Fault, Response, ScriptedServer, token_events
from tests.helpers.variants import Clients, Variant

STREAM = token_events("Hello", ",", " you", finish_reason="eos_token")
ENDLESS = Response([STREAM[0], Fault.STALL])


@pytest.mark.parametrize("named", ["localhost,127.0.0.1", "*", ".example.com, 127.0.0.1", "::1,http://127.0.0.1"])
@pytest.mark.slow
async def test_a_host_that_needs_no_proxy_gets_our_sockets(
    variant: Variant, clients: Clients, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("NO_PROXY", named)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with ScriptedServer(ENDLESS) as server:
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError, match="between_tokens"):
            stream = await variant.open(clients(server.url, timeout=Timeouts(first_token=300, between_tokens=0.2)))
            await variant.rest(stream)
        assert time.monotonic() - started < 60


async def test_a_proxy_from_the_environment_is_used(
    variant: Variant, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with ScriptedServer(Response([*STREAM, Fault.STALL])) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        started = time.monotonic()
        limits = Timeouts(first_token=300, between_tokens=300)
        stream = await variant.open(clients("http://model.invalid", timeout=limits))
        assert await variant.rest(stream) == ["Hello", ",", " you"]
        assert time.monotonic() - started < 60  # its sockets know no deadline, and the end is still bounded
        assert proxy.requests[0].path == "http://model.invalid/generate_stream"
