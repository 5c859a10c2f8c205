"""Ray's own ``serve run``, with autoscaling: ``nox -s ray``, in an environment with ray."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest
from tenacity import stop_after_delay

from hfstream import InferenceClient, RetryPolicy
from tests.helpers.scripted_engine import eventually
from tests.ray_serve.serving import serve_run

pytestmark = pytest.mark.slow

PROMPT = "How do you make cheese?"
SOON = {"upscale_delay_s": 1, "downscale_delay_s": 5, "look_back_period_s": 2, "metrics_interval_s": 1}
"""Ray's own delays are half a minute and ten minutes."""


def test_replicas_are_started_and_stopped_as_there_are_requests(tmp_path: Path) -> None:
    arguments = {"max_batch_size": 4, "max_concurrent_requests": 8, "tokens_per_second": 20}
    scaling = {"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 3, **SOON}
    with serve_run(tmp_path, arguments, {"autoscaling_config": scaling}) as server:
        assert len(server.replicas()) == 1
        refused = httpx.post(f"{server.url}/generate", json={"inputs": "Hi", "parameters": {"temperature": -1}})
        assert refused.json()["error_type"] == "validation"
        stop, answers = threading.Event(), list[str]()

        def ask() -> None:
            with InferenceClient(server.url, retry=RetryPolicy(stop=stop_after_delay(300))) as client:
                while not stop.is_set():
                    answers.append(client.text_generation(PROMPT, max_new_tokens=40, stream=True).final())

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        try:
            server.wait_for_replicas(2)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert len(set(answers)) == 1
        assert eventually(lambda: len(server.replicas()) == 1, within=300)
        with InferenceClient(server.url) as client:
            assert client.text_generation(PROMPT, max_new_tokens=40) == answers[0]
