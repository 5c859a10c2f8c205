"""The whole backend with the model that is shipped, through a port."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from speaking import events, eventually, http, idle, joined, metric, post, raw_request

from hfstream.server import BackgroundServer, Settings

PROMPT = "How do you make cheese?"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with BackgroundServer(Settings(max_batch_size=4)) as server:
        yield server.url


def streamed(url: str, inputs: str = PROMPT, **parameters: Any) -> list[dict[str, Any]]:
    return events(post(url, "/generate_stream", inputs, **parameters).content)


@pytest.mark.parametrize("inputs", [PROMPT, "What is Deep Learning?", "¿Qué? 中文 🙂", "x"])
@pytest.mark.parametrize("stop", [[], ["e"], ["milk", " the"], ["."]])
def test_streamed_joined_and_whole_are_one_text(url: str, inputs: str, stop: list[str]) -> None:
    asked: dict[str, Any] = {"max_new_tokens": 60, "stop": stop, "details": True}
    body, whole = streamed(url, inputs, **asked), post(url, "/generate", inputs, **asked).json()
    assert joined(body) == body[-1]["generated_text"] == whole["generated_text"]
    assert [event["token"] for event in body] == whole["details"]["tokens"]
    if body[-1]["details"]["finish_reason"] == "stop_sequence":
        assert whole["generated_text"].endswith(tuple(stop))


def test_a_question_is_answered_to_its_end(url: str) -> None:
    last = streamed(url, max_new_tokens=300, details=True)[-1]
    assert last["details"]["finish_reason"] == "eos_token"
    assert "milk" in last["generated_text"]


def test_a_seed_gives_the_same_text_alone_and_in_a_crowd(url: str) -> None:
    def ask(seed: int) -> str:
        return str(post(url, "/generate", seed=seed, temperature=1.3, max_new_tokens=40).json()["generated_text"])

    alone = [ask(seed) for seed in range(12)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(12))) == alone
    assert len(set(alone)) > 3


def test_random_tokens_never_show_half_a_character(url: str) -> None:
    """Hot sampling of a byte-level model: bytes that make sense and bytes that do not."""
    for seed in range(8):
        body = streamed(url, "中文", seed=seed, temperature=5.0, max_new_tokens=120, details=True)
        assert joined(body) == body[-1]["generated_text"]
        assert body[-1]["details"]["seed"] == seed
        assert not body[-1]["generated_text"].endswith("\ufffd")


def test_the_edges_of_sampling_do_no_harm(url: str) -> None:
    for parameters in (
        {"temperature": 1e-44},
        {"temperature": 3e38},
        {"repetition_penalty": 3e38},
        {"top_p": 1e-40},
        {"seed": 2**64 - 1, "do_sample": True},
    ):
        assert post(url, "/generate", max_new_tokens=4, **parameters).status_code == 200


def test_the_context_can_be_filled_and_not_overfilled(url: str) -> None:
    total = http.get(url + "/info").json()["max_total_tokens"]
    length = len(post(url, "/tokenize").json())
    refused = post(url, "/generate", max_new_tokens=total - length + 1)
    assert refused.status_code == 422
    assert f"Given: {length} `inputs` tokens and {total - length + 1} `max_new_tokens`" in refused.json()["error"]
    long = post(url, "/generate", 3000 * "cheese ", truncate=total - 1, details=True).json()
    assert long["details"]["generated_tokens"] == 1


def test_many_at_once_and_all_of_them_leaving(url: str) -> None:
    connections = [
        raw_request(url, "/generate_stream", {"inputs": PROMPT, "parameters": {"temperature": 9.0}}) for _ in range(20)
    ]
    assert eventually(lambda: metric(url, "tgi_batch_current_size") == 4 and metric(url, "tgi_queue_size") > 4)
    for connection in connections:
        connection.close()
    assert eventually(lambda: idle(url), within=2)
