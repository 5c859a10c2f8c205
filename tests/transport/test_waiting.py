"""Waits that another thread ends."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from hfstream import AsyncInferenceClient, InferenceConnectionError, RetryPolicy
from hfstream.testing import Response, ScriptedServer


async def test_an_alarm_rings_in_another_thread_too() -> None:
    client: Any = None

    async def wait_for_a_retry() -> None:
        nonlocal client
        client = AsyncInferenceClient(server.url, retry=RetryPolicy(max_wait=30))
        with pytest.raises(InferenceConnectionError, match="client was closed"):
            await client.text_generation("Hi", stream=True)

    with ScriptedServer(Response.error(429, "Model is overloaded", Retry_After="30")) as server:
        thread = threading.Thread(target=lambda: asyncio.run(wait_for_a_retry()))
        thread.start()
        while not server.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        await client.aclose()
        await asyncio.to_thread(thread.join, 60)
        assert not thread.is_alive()
