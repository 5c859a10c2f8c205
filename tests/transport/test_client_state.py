"""The httpx client behind a client: forks, and clients that are garbage-collected."""

from __future__ import annotations

import gc
import os
from typing import Any

import pytest

from hfstream import InferenceClient
from hfstream.testing import Response, ScriptedServer, token_events

STREAM = token_events("Hello", ",", " you", finish_reason="eos_token")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_leaves_the_parents_stream_alone() -> None:
    with ScriptedServer(Response([STREAM[0], 0.3, *STREAM[1:]])) as server, InferenceClient(server.url) as client:
        stream = client.text_generation("Hi", stream=True)
        child = os.fork()
        if child == 0:
            try:
                stream.__del__()
                client._http._states.__del__()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert list(stream) == ["Hello", ",", " you"]


@pytest.mark.filterwarnings("error")
@pytest.mark.slow
def test_a_client_that_is_collected_as_part_of_a_cycle_closes_its_idle_connections() -> None:
    with ScriptedServer(Response(STREAM)) as server:
        for _ in range(3):
            client = InferenceClient(server.url)
            assert client.text_generation("Hi", stream=True).final() == "Hello, you"
            state: Any = client._http._states.current()
            [transport] = state.transport._transports.values()
            cycle: list[Any] = [transport._pool, client]  # in this order sockets would be finalized first
            cycle.append(cycle)
            del client, state, transport, cycle
            gc.collect()
