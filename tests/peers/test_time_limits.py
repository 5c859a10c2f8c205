"""Servers that send nothing, and connections that break."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from hfstream import (
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    Timeouts,
)
from hfstream.testing import (
    Fault,
    Response,
    ScriptedServer,
    Step,
)
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import SOON, Task

SILENCE = row(
    "Streams",
    "a server that sends nothing, or only keep-alive comments",
    "hangs; each comment restarts the timeout",
    "`InferenceTimeoutError` with `phase` `first_token` or `between_tokens`",
)

KEEP_ALIVES: list[Step] = [b": still here\n\n", 0.02] * 10_000


@SILENCE
@pytest.mark.parametrize("silence", [[Fault.STALL], KEEP_ALIVES], ids=["silent", "keep-alives"])
@pytest.mark.parametrize("phase", ["first_token", "between_tokens"])
@pytest.mark.slow
async def test_a_silent_server_runs_into_a_named_limit(
    variant: Variant, clients: Clients, task: Task, silence: list[Step], phase: str
) -> None:
    content = [task.event("Hello")] if phase == "between_tokens" else []
    limits = Timeouts(**{"first_token": 300, "between_tokens": 300, phase: 0.15})
    with ScriptedServer(Response([*content, *silence])) as server:
        client = clients(server.url, timeout=limits, retry=None)

        async def read() -> None:
            await variant.rest(await task.open(variant, client))

        with pytest.raises(InferenceTimeoutError, match=rf"Timeouts\.{phase}") as caught:
            await asyncio.wait_for(read(), SOON)  # the keep-alives would last for 200 s
        assert caught.value.phase == phase
        assert caught.value.partial_text == "Hello" * len(content)
        assert await asyncio.to_thread(server.wait_until_running, 0, SOON)


CUT = row(
    "Streams",
    "a timeout, a reset or a lost connection in the middle of a stream",
    "httpx's exceptions, and the text so far is lost",
    "`InferenceTimeoutError` or `InferenceConnectionError`, with the text so far",
)


@CUT
@pytest.mark.parametrize(
    ("fault", "expected", "builtin"),
    [
        (Fault.DROP, InferenceConnectionError, ConnectionError),
        (Fault.RESET, InferenceConnectionError, ConnectionError),
        (Fault.STALL, InferenceTimeoutError, TimeoutError),
    ],
)
@pytest.mark.slow
async def test_a_broken_connection_is_a_typed_error_with_the_partial_text(
    variant: Variant,
    clients: Clients,
    task: Task,
    fault: Fault,
    expected: type[InferenceError],
    builtin: type[Exception],
) -> None:
    # A reset takes what was not read yet with it: it comes when the client has read.
    read = threading.Event()

    def body() -> Iterator[Step]:
        yield task.event("Hello")
        yield task.event(",")
        read.wait(SOON)
        yield fault

    with ScriptedServer(Response(body())) as server:
        client = clients(server.url, timeout=Timeouts(between_tokens=1.0 if fault is Fault.STALL else SOON))
        stream = await task.open(variant, client)
        assert task.texts([await variant.next(stream), await variant.next(stream)]) == ["Hello", ","]
        read.set()
        with pytest.raises(expected) as caught:
            await variant.rest(stream)
        assert isinstance(caught.value, builtin)
        assert caught.value.partial_text == "Hello,"
        assert len(server.requests) == 1
