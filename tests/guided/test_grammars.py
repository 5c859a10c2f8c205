"""2,000 random JSON schemas, 500 regular expressions, and schemas made to cost much, on the bundled model."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Self

import pytest

from hfstream import GenerationError, InferenceClient, ValidationError
from hfstream.server import BackgroundServer, Settings
from tests.helpers.following import check_regex, check_schema
from tests.helpers.random_grammars import COSTLY, HOSTILE

AT_ONCE = 16


@pytest.fixture(scope="module")
def client() -> Iterator[InferenceClient]:
    with BackgroundServer(Settings(port=0)) as server, InferenceClient(server.url, retry=None) as client:
        yield client


def test_random_schemas(client: InferenceClient) -> None:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        reasons = Counter(threads.map(partial(check_schema, client), range(2_000)))
    print(reasons)
    assert reasons["eos_token"] > 1_000
    assert reasons["refused"] < 200


def test_random_regexes(client: InferenceClient) -> None:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        reasons = Counter(threads.map(partial(check_regex, client), range(500)))
    print(reasons)
    assert reasons["eos_token"] > 400
    assert not reasons["refused"]


class Streams:
    """Streams that run while the block lasts, and the longest time between two tokens of one."""

    def __init__(self, client: InferenceClient, count: int = 4) -> None:
        self.longest_gap = 0.0
        self._client, self._end = client, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        time.sleep(0.5)
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            last = None
            for _ in self._client.text_generation("Hello!", stream=True, max_new_tokens=200, temperature=1.5):
                now = time.perf_counter()
                self.longest_gap = max(self.longest_gap, now - (last or now))
                last = now


def test_hostile_schemas_are_refused_within_a_second_beside_streams_that_run_on(client: InferenceClient) -> None:
    times: dict[str, float] = {}
    with Streams(client) as streams:
        for name, schema in HOSTILE.items():
            started = time.perf_counter()
            with pytest.raises(ValidationError, match="`grammar` is not valid"):
                client.text_generation("Hello!", grammar={"type": "json", "value": schema}, max_new_tokens=10)
            times[name] = time.perf_counter() - started
    print({name: f"{seconds:.3f}" for name, seconds in times.items()}, f"longest gap {streams.longest_gap:.3f}")
    assert len(times) == 10
    assert max(times.values()) < 1
    assert streams.longest_gap < 0.5


@pytest.mark.parametrize("name", list(COSTLY))
def test_streams_run_on_beside_costly_schemas(client: InferenceClient, name: str) -> None:
    def generate(number: int) -> str:
        grammar = {"type": "json", "value": COSTLY[name]}
        try:
            return client.text_generation("Hello!", grammar=grammar, max_new_tokens=100, temperature=1.0, seed=number)
        except (ValidationError, GenerationError) as error:
            assert "grammar" in str(error)
            return str(error)

    with Streams(client) as streams, ThreadPoolExecutor(4) as threads:
        texts = list(threads.map(generate, range(8)))
    print(f"{name}: longest gap {streams.longest_gap:.3f}, {texts[0][:90]!r}")
    assert all(texts)
    assert streams.longest_gap < 0.5
