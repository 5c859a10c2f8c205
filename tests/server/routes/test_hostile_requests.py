"""Requests that ask for too much: refused in the words of their route, while others are answered."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hfstream.server import BackgroundServer, Settings
from hfstream.server.service import backend as backend_module
from tests.helpers.scripted_engine import ScriptedEngine, http, post, save_tokenizer, user

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
BODIES: dict[str, dict[str, Any]] = {CHAT: {"messages": user("Hi")}, COMPLETIONS: {"prompt": "Hi"}}
LOOPING = (
    "{% for m in messages %}{% if m.content == 'loop' %}{% for a in range(99999) %}{% for b in range(99999) %}"
    "{% endfor %}{% endfor %}{% endif %}{{ m.content }}{% endfor %}"
)


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, engine: ScriptedEngine) -> Iterator[str]:
    model: Path = save_tokenizer(tmp_path_factory.mktemp("looping"))
    (model / "chat_template.jinja").write_text(LOOPING, "utf-8")
    with BackgroundServer(Settings(model=str(model)), engine=engine) as server:
        yield server.url


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"max_tokens": 0}, "max_tokens"),
        (CHAT, {"max_completion_tokens": 0}, "max_completion_tokens"),
        (CHAT, {"top_logprobs": 21}, "top_logprobs"),
        (CHAT, {"messages": []}, "messages"),
        (CHAT, {"messages": user("a" * 500)}, "messages"),
        (CHAT, {"messages": 1}, "messages"),
        (CHAT, {"messages": [{"role": 1}]}, "messages[0].role"),
        (CHAT, {"stop": [""]}, "stop"),
        (CHAT, {"stop": ["a" * 2000]}, "stop"),
        (CHAT, {"model": "a" * 1_900_000}, "model"),
        (CHAT, {"seed": 10**5000}, None),  # no JSON for the parser
        (COMPLETIONS, {"max_tokens": 0}, "max_tokens"),
        (COMPLETIONS, {"logprobs": 6}, "logprobs"),
        (COMPLETIONS, {"prompt": ""}, "prompt"),
        (COMPLETIONS, {"temperature": -1}, "temperature"),
        (COMPLETIONS, {"temperature": "a" * 1_900_000}, "temperature"),
    ],
)
def test_an_error_names_the_field_that_was_sent(url: str, path: str, fields: dict[str, Any], param: str | None) -> None:
    with_long_integer = json.dumps({**BODIES[path], **{k: v for k, v in fields.items() if k != "seed"}})[:-1]
    if "seed" in fields:
        with_long_integer += ', "seed": 1' + "0" * 5000
    headers = {"content-type": "application/json"}
    response = http.post(url + path, content=with_long_integer + "}", headers=headers)
    assert response.status_code in (400, 422)
    error = response.json()["error"]
    assert error["param"] == param
    assert len(response.content) < 1000
    assert "max_new_tokens" not in error["message"]
    assert "`inputs`" not in error["message"]


def test_numbers_that_leave_no_distribution_are_bounded(url: str, engine: ScriptedEngine) -> None:
    assert post(url, "/generate", temperature=3e38, repetition_penalty=1e-40, top_n_tokens=5).status_code == 200
    sampling = engine.submitted[-1].sampling
    assert (sampling.temperature, sampling.repetition_penalty) == (100, 1e-4)
    assert post(url, "/generate", stop=[""]).json() == {
        "error": "Input validation error: `stop` must not contain an empty string",
        "error_type": "validation",
    }


@pytest.mark.parametrize("path", ["/tokenize", "/chat_tokenize"])
def test_long_texts_are_not_tokenized_without_a_permit(url: str, path: str) -> None:
    body = {"inputs": "ab" * 150_000} if path == "/tokenize" else {"messages": user("ab" * 150_000)}
    response = http.post(url + path, json=body)
    assert response.status_code == 422
    assert "at most 131072 characters" in response.json()["error"]


@pytest.mark.slow
def test_a_template_that_loops_is_ended_and_stops_no_one(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "TEMPLATE_SECONDS", 1.0)
    statuses: list[int] = []

    def loop() -> None:
        response = http.post(url + CHAT, json={"messages": user("loop")})
        assert response.json()["error"]["message"] == "Template error: the chat template took longer than 1 seconds"
        statuses.append(response.status_code)

    looping = [threading.Thread(target=loop) for _ in range(3)]
    for thread in looping:
        thread.start()
    for _ in range(10):
        assert http.get(url + "/health").status_code == 200
    assert http.post(url + CHAT, json=BODIES[CHAT]).status_code == 200
    for thread in looping:
        thread.join()
    assert statuses == [422, 422, 422]
