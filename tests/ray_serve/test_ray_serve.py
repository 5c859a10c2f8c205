"""Two replicas on Ray Serve, over HTTP, one of them killed: ``nox -s ray``, in an environment with ray."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tenacity import stop_after_delay

from hfstream import (
    IncompleteStreamError,
    InferenceClient,
    InferenceConnectionError,
    InferenceError,
    OverloadedError,
    RetryPolicy,
)
from tests.helpers.scripted_engine import eventually
from tests.ray_serve.paced import paced_app
from tests.ray_serve.serving import Serving, serving

pytestmark = pytest.mark.slow

PROMPT = "How do you make cheese?"
PERMITS = 3
RETRY = RetryPolicy(stop=stop_after_delay(300))
"""Long enough for all: a replica takes a while to be replaced."""


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """Slow enough for a test to act while an answer comes."""
    limits = ("--max-concurrent-requests", str(PERMITS), "--tokens-per-second", "15")
    with serving("--replicas", "2", *limits) as running:
        yield running


@pytest.fixture(scope="module")
def expected(server: Serving) -> str:
    with InferenceClient(server.url, retry=RETRY) as client:
        return client.text_generation(PROMPT, max_new_tokens=60)


def test_each_token_arrives_before_the_next_is_made(server: Serving, tmp_path: Path) -> None:
    import ray  # noqa: PLC0415  the tests can be collected without it
    from ray import serve  # noqa: PLC0415

    ray.init(address="auto", log_to_driver=False)
    try:
        deployment = serve.deployment(serve.ingress(lambda: paced_app(tmp_path))(type("Paced", (), {})))
        serve.run(deployment.options(ray_actor_options={"num_cpus": 0}).bind(), name="paced", route_prefix="/paced")
        allow(tmp_path, 0)
        with (
            InferenceClient(f"{server.url}/paced") as client,
            client.text_generation("Hi", max_new_tokens=50, stream=True) as stream,
        ):
            received = []
            for number, token in enumerate(stream):  # waits for ever if tokens are collected on their way
                received.append(token)
                allow(tmp_path, number + 1)
        assert received == ["Hello", ",", " world", "!"]
    finally:
        serve.delete("paced")
        ray.shutdown()


def allow(directory: Path, number: int) -> None:
    (directory / str(number)).touch()


def test_refusals_are_the_replicas_own(server: Serving) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(2 * PERMITS):
            open_stream(stack, server.url)
        reply = httpx.post(f"{server.url}/generate", json={"inputs": "Hi", "parameters": {}})
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")
        assert reply.json() == {"error": "Model is overloaded", "error_type": "overloaded"}
        assert len(reply.headers.get_list("x-request-id")) == 1
        with pytest.raises(OverloadedError, match="Model is overloaded"):
            InferenceClient(server.url, retry=None).text_generation("Hi")


def test_clients_that_leave_free_their_permits(server: Serving) -> None:
    for _ in range(4):  # each time all permits are needed, long before the answers would have ended
        with contextlib.ExitStack() as stack:
            for _ in range(2 * PERMITS):
                open_stream(stack, server.url)


def open_stream(stack: contextlib.ExitStack, url: str) -> None:
    """A stream that has begun: it has one of the permits, and keeps it for minutes."""
    client = stack.enter_context(InferenceClient(url, retry=RETRY))
    stream = stack.enter_context(client.text_generation(PROMPT, max_new_tokens=400, stream=True))
    next(stream)


def test_a_replica_that_dies_in_mid_answer_is_a_typed_error_without_resume(server: Serving, expected: str) -> None:
    wait_until_both_answer(server)
    with InferenceClient(server.url, retry=RETRY) as client:
        stream = client.text_generation(PROMPT, max_new_tokens=60, stream=True)
        next(stream)
        kill_all(server)
        with pytest.raises((IncompleteStreamError, InferenceConnectionError)) as caught:
            stream.final()
    assert caught.value.partial_text
    assert expected.startswith(caught.value.partial_text)


def test_a_replica_that_dies_in_mid_answer_is_continued_elsewhere_with_resume(server: Serving, expected: str) -> None:
    wait_until_both_answer(server)
    killed, continued = 0, 0
    for _ in range(4):
        with InferenceClient(server.url, retry=RETRY, resume=True) as client:
            stream = client.text_generation(PROMPT, max_new_tokens=60, stream=True)
            next(stream)
            victim = server.wait_for_replicas(1)[0]
            os.kill(victim, signal.SIGKILL)
            killed += 1
            assert stream.final() == expected
            continued += stream.metrics.continued
            if continued:
                break
            server.wait_for_replicas(2, without={victim})
            wait_until_both_answer(server)
    assert continued, f"none of {killed} killed replicas ran the answer"


def test_all_of_200_clients_are_answered_with_retries(server: Serving) -> None:
    wait_until_both_answer(server)
    answers, lock = Counter[str](), threading.Lock()

    def ask() -> None:
        with InferenceClient(server.url, retry=RETRY) as client:
            text = client.text_generation(PROMPT, max_new_tokens=5, stream=True).final()
        with lock:
            answers[text] += 1

    threads = [threading.Thread(target=ask) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(answers.values()) == [200]


def kill_all(server: Serving) -> None:
    for process in server.replicas():
        os.kill(process, signal.SIGKILL)


def wait_until_both_answer(server: Serving) -> None:
    """Until as many streams run at once as both replicas have permits for: requests are refused until then."""
    server.wait_for_replicas(2)

    def all_permits() -> bool:
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(InferenceClient(server.url, retry=RetryPolicy(attempts=4), timeout=60))
            try:
                for _ in range(2 * PERMITS):
                    next(stack.enter_context(client.text_generation(PROMPT, max_new_tokens=400, stream=True)))
            except InferenceError:
                return False
        return True

    assert eventually(all_permits, within=300)
