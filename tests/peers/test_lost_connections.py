"""Streams that are resumed after their connection was lost."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Self

import httpx
import pytest

from hfstream import (
    InferenceConnectionError,
)
from hfstream.server import BackgroundServer
from tests.helpers.robustness_rows import row
from tests.helpers.shared_engine import SharedEngine
from tests.helpers.variants import Clients, Variant
from tests.peers.common import AGAIN, SOON, Task, loaded

RESUME = row(
    "Streams",
    "the connection is lost after n tokens",
    "the output is lost",
    "with `resume=True` the stream continues: no token is lost or received twice",
)


class CuttingProxy:
    """Stands between a client and a server, and cuts each of its first connections after so many bytes of answer."""

    def __init__(self, url: str, cuts: Iterable[int], *, reset: bool) -> None:
        self._to = httpx.URL(url)
        self._cuts = iter(cuts)
        self._reset = reset
        self.cut = 0
        """How many connections have been cut."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._closing = False

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(SOON)

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._relay, args=(client, next(self._cuts, None)), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _relay(self, client: socket.socket, left: int | None) -> None:
        with client, socket.create_connection((self._to.host, self._to.port or 80)) as server:
            while not self._closing:
                for ready in select.select([client, server], [], [], 0.1)[0]:
                    try:
                        piece = ready.recv(65536 if left is None else min(left, 65536))
                    except OSError:
                        return
                    if not piece:
                        return
                    with contextlib.suppress(OSError):  # the other side left: its own recv() tells
                        (server if ready is client else client).sendall(piece)
                    if left is not None and ready is server:
                        left -= len(piece)
                        if left == 0:
                            self.cut += 1
                            if self._reset:
                                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                            return


PARAMETERS: dict[str, dict[str, Any]] = {"text": {"max_new_tokens": 40}, "chat": {"max_tokens": 40, "temperature": 0}}
SAMPLED = {"temperature": 0.9, "seed": 7}


@pytest.fixture(scope="module")
def quick(shared_engine: SharedEngine) -> Iterator[str]:
    with BackgroundServer(engine=shared_engine.connect()) as server, loaded():
        yield server.url


@RESUME
@pytest.mark.parametrize("options", [{}, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.slow
async def test_a_lost_stream_is_resumed(
    variant: Variant, clients: Clients, task: Task, quick: str, options: dict[str, Any], reset: bool
) -> None:
    parameters = {**PARAMETERS[task.name], **options}
    expected = await variant.rest(await task.open(variant, clients(quick), **parameters))
    assert len(task.texts(expected)) > 20
    with CuttingProxy(quick, [1500, 1501, 2300], reset=reset) as proxy:
        stream = await task.open(variant, clients(proxy.url, resume=True, retry=AGAIN), **parameters)
        assert task.texts(await variant.rest(stream)) == task.texts(expected)
        assert stream.text == "".join(task.texts(expected))
        assert proxy.cut == 3
        assert stream.metrics.resumed >= 1


@RESUME
async def test_without_resume_a_lost_stream_is_an_error(
    variant: Variant, clients: Clients, task: Task, quick: str
) -> None:
    with CuttingProxy(quick, [2000], reset=False) as proxy:
        with pytest.raises(InferenceConnectionError) as caught:
            await variant.rest(await task.open(variant, clients(proxy.url), **PARAMETERS[task.name]))
        assert caught.value.partial_text
        assert proxy.cut == 1
