"""The whole backend with the model that is shipped, through a port."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hfstream.server import BackgroundServer, Settings
from tests.helpers.scripted_engine import (
    chunks,
    events,
    eventually,
    http,
    idle,
    joined,
    metric,
    post,
    raw_request,
    user,
)

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
    refused = post(url, "/generate", 3000 * "cheese ", truncate=total - 100, max_new_tokens=101)
    assert refused.status_code == 422
    assert f"Given: {total - 100} `inputs` tokens and 101 `max_new_tokens`" in refused.json()["error"]
    long = post(url, "/generate", 3000 * "cheese ", truncate=total - 1, details=True).json()
    assert long["details"]["generated_tokens"] == 1


def test_as_TGI_a_limit_is_judged_up_to_1024_and_the_context_is_the_end(url: str) -> None:
    total = http.get(url + "/info").json()["max_total_tokens"]
    fits = post(url, "/generate", 3000 * "cheese ", truncate=total - 1024, max_new_tokens=100_000)
    assert fits.status_code == 200
    refused = post(url, "/generate", 3000 * "cheese ", truncate=total - 1023, max_new_tokens=100_000)
    assert refused.status_code == 422
    assert f"Given: {total - 1023} `inputs` tokens and 1024 `max_new_tokens`" in refused.json()["error"]


def chat(url: str, messages: list[dict[str, str]], **fields: Any) -> dict[str, Any]:
    response = http.post(url + "/v1/chat/completions", json={"messages": messages, **fields})
    assert response.status_code == 200
    answer: dict[str, Any] = response.json()
    return answer


def said(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    ("question", "word"),
    [(PROMPT, "milk"), ("Wie macht man Käse?", "Milch"), ("What is the capital of France?", "Paris")],
)
def test_a_chat_is_answered_to_its_end_streamed_and_whole(url: str, question: str, word: str) -> None:
    whole = chat(url, user(question), temperature=0)
    assert word in said(whole)
    assert whole["choices"][0]["finish_reason"] == "stop"
    asked = {"messages": user(question), "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    *parts, account = chunks(http.post(url + "/v1/chat/completions", json=asked).content)
    deltas = [part["choices"][0]["delta"] for part in parts]
    assert "".join(delta["content"] for delta in deltas) == said(whole)
    assert [delta.get("role") for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
    assert account["usage"] == whole["usage"]
    assert whole["usage"]["completion_tokens"] == len(parts)


def test_a_conversation_goes_on(url: str) -> None:
    first = said(chat(url, user(PROMPT), temperature=0))
    conversation = [*user(PROMPT), {"role": "assistant", "content": first}, *user("Can you say that shorter?")]
    second = said(chat(url, conversation, temperature=0))
    assert "milk" in second
    assert len(second) < len(first)


def test_an_answer_that_was_begun_is_ended(url: str) -> None:
    answer = said(chat(url, user(PROMPT), temperature=0))
    begun = answer[: answer.index(" milk")]
    rest = said(chat(url, [*user(PROMPT), {"role": "assistant", "content": begun}], temperature=0))
    assert begun + rest == answer


def test_a_seeded_chat_is_the_same_alone_and_in_a_crowd(url: str) -> None:
    def ask(seed: int) -> str:
        return said(chat(url, user(PROMPT), seed=seed, temperature=1.3, top_p=1.0, max_tokens=40))

    alone = [ask(seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, range(6))) == alone
    assert len(set(alone)) > 2


def test_a_chat_is_sampled_unless_its_temperature_is_0(url: str) -> None:
    greedy = {said(chat(url, user(PROMPT), temperature=0, top_p=0.9, max_tokens=60)) for _ in range(4)}
    sampled = {said(chat(url, user(PROMPT), seed=seed, max_tokens=60)) for seed in range(6)}
    assert len(greedy) == 1
    assert len(sampled) > 1


def test_a_completion_is_the_native_answer(url: str) -> None:
    body = {"prompt": PROMPT, "temperature": 0, "max_tokens": 30}
    native = post(url, "/generate", PROMPT, max_new_tokens=30).json()["generated_text"]
    assert http.post(url + "/v1/completions", json=body).json()["choices"][0]["text"] == native
    parts = chunks(http.post(url + "/v1/completions", json={**body, "stream": True}).content)
    assert joined(parts) == parts[-1]["generated_text"] == native


def test_a_presence_penalty_is_felt(url: str) -> None:
    def ask(penalty: float | None) -> str:
        return said(chat(url, user(PROMPT), temperature=0, presence_penalty=penalty))

    assert ask(2) != ask(0) == ask(None)


def test_chat_tokenize_shows_what_the_model_reads(url: str) -> None:
    told = http.post(url + "/chat_tokenize", json={"messages": user("Käse?")}).json()
    assert told["templated_text"] == "<|begin|><|user|>Käse?<|end|><|assistant|>"
    texts = [span["text"] for span in told["tokenize_response"]]
    assert "".join(texts) == told["templated_text"]
    assert texts[:2] == ["<|begin|>", "<|user|>"], "the beginning comes once, and special tokens are whole"
    usage = chat(url, user("Käse?"), max_tokens=1)["usage"]
    assert usage["prompt_tokens"] == len(texts)


def test_many_at_once_and_all_of_them_leaving(url: str) -> None:
    connections = [
        raw_request(url, "/generate_stream", {"inputs": PROMPT, "parameters": {"temperature": 9.0}}) for _ in range(20)
    ]
    assert eventually(lambda: metric(url, "tgi_batch_current_size") == 4 and metric(url, "tgi_queue_size") > 4)
    for connection in connections:
        connection.close()
    assert eventually(lambda: idle(url), within=2)
