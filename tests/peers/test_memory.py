"""What a request sends of a schema, and what a client keeps of its streams."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from typing import Any

import pytest

from hfstream.testing import (
    Response,
    ScriptedServer,
)
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import WORDS, Task

pytestmark = pytest.mark.slow

NULLS = row(
    "Streams",
    "keys with the value None in a JSON schema passed by the user",
    "deleted",
    "kept; only parameters that are None are omitted",
)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"unit": {"default": None, "enum": ["C", None]}, "gone": {"const": None}},
    "examples": [{"unit": None}, None],
}


@NULLS
async def test_nulls_in_a_schema_are_kept(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS)), task.document("Hello")) as server:
        client = clients(server.url)
        options: dict[str, Any] = {"seed": None, "extra_body": {"mine": None}}
        if task.text:
            options["grammar"] = {"type": "json", "value": SCHEMA}
        else:
            options["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
            options["tools"] = [{"type": "function", "function": {"name": "x", "parameters": SCHEMA}}]
        await variant.rest(await task.open(variant, client, **options))
        await task.ask(variant, client, **options)
        assert len(server.requests) == 2
        for body in (request.json() for request in server.requests):
            assert body["mine"] is None
            assert "seed" not in body
            assert "seed" not in body.get("parameters", {})
            if task.text:
                assert body["parameters"]["grammar"]["value"] == SCHEMA
            else:
                assert body["response_format"]["json_schema"]["schema"] == SCHEMA
                assert body["tools"][0]["function"]["parameters"] == SCHEMA


MEMORY = row(
    "Streams",
    "memory kept per stream after it was read",
    "12 kB, never freed",
    "none",
)


STREAMS = 25


@MEMORY
async def test_a_client_keeps_nothing_of_a_stream(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        client = clients(server.url)

        async def after_more() -> tuple[int, int]:
            for _ in range(STREAMS):
                stream = await task.open(variant, client)
                await variant.rest(stream)
                del stream
            server.requests.clear()
            gc.collect()
            return tracemalloc.get_traced_memory()[0], len(gc.get_objects())

        tracemalloc.start(1)
        try:
            kept = [await after_more() for _ in range(5)]
        finally:
            tracemalloc.stop()
    # What is kept of each stream is kept in each round; what a thread or a cache takes, once.
    size = min(then - now for (now, _), (then, _) in itertools.pairwise(kept))
    objects = min(then - now for (_, now), (_, then) in itertools.pairwise(kept))
    assert size < STREAMS * 200
    assert objects < STREAMS / 2
