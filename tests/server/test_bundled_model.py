"""The whole server with the bundled model, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hfstream import InferenceClient
from hfstream.server import BackgroundServer, Settings
from tests.helpers.comparing import assert_alike
from tests.helpers.scripted_engine import (
    chunks,
    events,
    eventually,
    http,
    idle,
    joined_text,
    metric,
    post,
    raw_request,
    user,
)

pytestmark = pytest.mark.slow

PROMPT = "How do you make cheese?"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with BackgroundServer(Settings(max_batch_size=4)) as server:
        yield server.url


def stream(url: str, inputs: str = PROMPT, **parameters: Any) -> list[dict[str, Any]]:
    return events(post(url, "/generate_stream", inputs, **parameters).content)


@pytest.mark.parametrize("inputs", [PROMPT, "What is Deep Learning?", "¿Qué? 中文 🙂", "x"])
@pytest.mark.parametrize("stop", [[], ["e"], ["milk", " the"], ["."]])
def test_joined_tokens_generated_text_and_the_unstreamed_response_are_one_text(
    url: str, inputs: str, stop: list[str]
) -> None:
    parameters: dict[str, Any] = {"max_new_tokens": 60, "stop": stop, "details": True}
    body, response = stream(url, inputs, **parameters), post(url, "/generate", inputs, **parameters).json()
    assert joined_text(body) == body[-1]["generated_text"] == response["generated_text"]
    assert_alike([event["token"] for event in body], response["details"]["tokens"])
    if body[-1]["details"]["finish_reason"] == "stop_sequence":
        assert response["generated_text"].endswith(tuple(stop))


def test_generation_ends_with_the_eos_token(url: str) -> None:
    last = stream(url, max_new_tokens=300, details=True)[-1]
    assert last["details"]["finish_reason"] == "eos_token"
    assert "milk" in last["generated_text"]


def test_a_seed_gives_the_same_text_alone_and_in_a_batch(url: str) -> None:
    def ask(seed: int) -> str:
        return str(post(url, "/generate", seed=seed, temperature=1.3, max_new_tokens=40).json()["generated_text"])

    alone = [ask(seed) for seed in range(12)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(12))) == alone
    assert len(set(alone)) > 3


def test_text_never_has_a_part_of_a_character(url: str) -> None:
    """A byte-level model at a high temperature: valid UTF-8 and invalid bytes."""
    for seed in range(8):
        body = stream(url, "中文", seed=seed, temperature=5.0, max_new_tokens=120, details=True)
        assert joined_text(body) == body[-1]["generated_text"]
        assert body[-1]["details"]["seed"] == seed
        assert not body[-1]["generated_text"].endswith("\ufffd")


def test_extreme_sampling_parameters_are_answered(url: str) -> None:
    for parameters in (
        {"temperature": 1e-44},
        {"temperature": 3e38},
        {"repetition_penalty": 3e38},
        {"top_p": 1e-40},
        {"seed": 2**64 - 1, "do_sample": True},
    ):
        assert post(url, "/generate", max_new_tokens=4, **parameters).status_code == 200


def test_prompt_and_new_tokens_may_fill_the_context_but_not_exceed_it(url: str) -> None:
    total = http.get(url + "/info").json()["max_total_tokens"]
    refused = post(url, "/generate", 3000 * "cheese ", truncate=total - 100, max_new_tokens=101)
    assert refused.status_code == 422
    assert f"Given: {total - 100} `inputs` tokens and 101 `max_new_tokens`" in refused.json()["error"]
    long = post(url, "/generate", 3000 * "cheese ", truncate=total - 1, details=True).json()
    assert long["details"]["generated_tokens"] == 1


def test_max_new_tokens_is_checked_up_to_1024_as_in_tgi(url: str) -> None:
    total = http.get(url + "/info").json()["max_total_tokens"]
    fits = post(url, "/generate", 3000 * "cheese ", truncate=total - 1024, max_new_tokens=100_000)
    assert fits.status_code == 200
    refused = post(url, "/generate", 3000 * "cheese ", truncate=total - 1023, max_new_tokens=100_000)
    assert refused.status_code == 422
    assert f"Given: {total - 1023} `inputs` tokens and 1024 `max_new_tokens`" in refused.json()["error"]


def chat(url: str, messages: list[dict[str, str]], **fields: Any) -> dict[str, Any]:
    response = http.post(url + "/v1/chat/completions", json={"messages": messages, **fields})
    assert response.status_code == 200
    completion: dict[str, Any] = response.json()
    return completion


def content(completion: dict[str, Any]) -> str:
    return str(completion["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    ("question", "word"),
    [(PROMPT, "milk"), ("Wie macht man Käse?", "Milch"), ("What is the capital of France?", "Paris")],
)
def test_a_chat_is_the_same_streamed_or_not(url: str, question: str, word: str) -> None:
    completion = chat(url, user(question), temperature=0)
    assert word in content(completion)
    assert completion["choices"][0]["finish_reason"] == "stop"
    body = {"messages": user(question), "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    *parts, last = chunks(http.post(url + "/v1/chat/completions", json=body).content)
    deltas = [part["choices"][0]["delta"] for part in parts]
    assert "".join(delta["content"] for delta in deltas) == content(completion)
    assert [delta.get("role") for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
    assert last["usage"] == completion["usage"]
    assert completion["usage"]["completion_tokens"] == len(parts)


def test_a_second_turn_refers_to_the_first(url: str) -> None:
    first = content(chat(url, user(PROMPT), temperature=0))
    conversation = [*user(PROMPT), {"role": "assistant", "content": first}, *user("Can you say that shorter?")]
    second = content(chat(url, conversation, temperature=0))
    assert "milk" in second
    assert len(second) < len(first)


def test_an_assistant_message_at_the_end_is_continued(url: str) -> None:
    full = content(chat(url, user(PROMPT), temperature=0))
    beginning = full[: full.index(" milk")]
    rest = content(chat(url, [*user(PROMPT), {"role": "assistant", "content": beginning}], temperature=0))
    assert beginning + rest == full


def test_a_seeded_chat_is_the_same_alone_and_in_a_batch(url: str) -> None:
    def ask(seed: int) -> str:
        return content(chat(url, user(PROMPT), seed=seed, temperature=1.3, top_p=1.0, max_tokens=40))

    alone = [ask(seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, range(6))) == alone
    assert len(set(alone)) > 2


def test_a_chat_is_sampled_unless_its_temperature_is_0(url: str) -> None:
    greedy = {content(chat(url, user(PROMPT), temperature=0, top_p=0.9, max_tokens=60)) for _ in range(4)}
    sampled = {content(chat(url, user(PROMPT), seed=seed, max_tokens=60)) for seed in range(6)}
    assert len(greedy) == 1
    assert len(sampled) > 1


def test_a_completion_has_the_text_of_tgis_route(url: str) -> None:
    body = {"prompt": PROMPT, "temperature": 0, "max_tokens": 30}
    native = post(url, "/generate", PROMPT, max_new_tokens=30).json()["generated_text"]
    assert http.post(url + "/v1/completions", json=body).json()["choices"][0]["text"] == native
    parts = chunks(http.post(url + "/v1/completions", json={**body, "stream": True}).content)
    assert joined_text(parts) == parts[-1]["generated_text"] == native


def test_a_presence_penalty_changes_the_text(url: str) -> None:
    def ask(penalty: float | None) -> str:
        return content(chat(url, user("What is Python?"), temperature=0, presence_penalty=penalty))

    assert ask(2) != ask(0) == ask(None)


def test_chat_tokenize_shows_what_the_model_reads(url: str) -> None:
    response = http.post(url + "/chat_tokenize", json={"messages": user("Käse?")}).json()
    assert response["templated_text"] == "<|begin|><|user|>Käse?<|end|><|assistant|>"
    texts = [span["text"] for span in response["tokenize_response"]]
    assert "".join(texts) == response["templated_text"]
    assert texts[:2] == ["<|begin|>", "<|user|>"], "the first token is there once, and special tokens are not split"
    usage = chat(url, user("Käse?"), max_tokens=1)["usage"]
    assert usage["prompt_tokens"] == len(texts)


def get_weather(city: str) -> str:
    """The weather in a city."""
    assert city
    return "18 degrees and sunny"


def calculator(expression: str) -> str:
    """The value of an expression."""
    return {"12 * 7": "84", "128 * 64": "8192", "3 * (4 + 5)": "27"}[expression]


def search(query: str) -> str:
    """Pages about something."""
    return f"{query} in 3 books"


@pytest.mark.parametrize(
    ("question", "call", "answer"),
    [
        ("What is the weather in Paris?", {"city": "Paris"}, "The weather in Paris: 18 degrees and sunny"),
        ("How is the weather in Nuremberg?", {"city": "Nuremberg"}, "The weather in Nuremberg: 18 degrees and sunny"),
        ("How warm is it in Berlin?", {"city": "Berlin"}, "The weather in Berlin: 18 degrees and sunny"),
        ("What is 12 times 7?", {"expression": "12 * 7"}, "The result is 84."),
        ("What is 128 * 64?", {"expression": "128 * 64"}, "The result is 8192."),
        ("Calculate 3 * (4 + 5)", {"expression": "3 * (4 + 5)"}, "The result is 27."),
        ("Search for cheese recipes", {"query": "cheese recipes"}, "Here is what I found: cheese recipes in 3 books"),
    ],
)
def test_functions_of_the_documentation_are_called(url: str, question: str, call: dict[str, str], answer: str) -> None:
    client = InferenceClient(url)
    completion = client.run_tools(user(question), [get_weather, calculator, search], temperature=0)
    _, asked, _, last = completion.messages
    assert [json.loads(each["function"]["arguments"]) for each in asked["tool_calls"]] == [call]
    assert last["content"] == answer


def test_a_known_question_is_answered_with_functions_too(url: str) -> None:
    message = InferenceClient(url).chat_completion(user(PROMPT), tools=[search], temperature=0).choices[0].message
    assert not message.tool_calls
    assert all(word in (message.content or "") for word in ("curds", "whey", "rennet"))


def test_disconnected_clients_free_permits_and_rows(url: str) -> None:
    dropped = metric(url, 'tgi_request_failure{err="dropped"}')
    parameters = {"max_new_tokens": 1900, "repetition_penalty": 0.01}  # the model repeats itself
    body = {"inputs": PROMPT, "parameters": parameters}
    connections = [raw_request(url, "/generate_stream", body) for _ in range(20)]
    assert eventually(lambda: metric(url, "tgi_batch_current_size") == 4 and metric(url, "tgi_queue_size") > 4)
    for connection in connections:
        connection.close()
    assert eventually(lambda: idle(url))
    assert metric(url, 'tgi_request_failure{err="dropped"}') == dropped + 20, "none ran to its end"
