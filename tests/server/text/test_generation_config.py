"""EOS tokens of all places that name some, and the checkpoint's defaults of sampling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from hfstream.server import BackgroundServer, Settings
from hfstream.server.schemas.completions import CompletionRequest
from hfstream.server.schemas.openai import ChatRequest
from hfstream.server.schemas.sampling_defaults import SamplingDefaults
from hfstream.server.text.chat_template import ChatTemplate
from hfstream.server.text.generation_config import end_of_text_ids, read_generation_config
from hfstream.server.text.tokenizer import Tokenizer
from tests.helpers.scripted_engine import ScriptedEngine, ids, save_tokenizer, user

TURN = 1
"""The id of <turn>, a special token that the scripted engine does not end a text at."""
TEMPLATE = "{% for message in messages %}[{{ message.role }}]{{ message.content }}END{% endfor %}"


@pytest.mark.parametrize(
    ("config", "template", "expected"),
    [
        ({}, None, set()),
        ({"eos_token": "<turn>"}, None, {TURN}),
        ({"eos_token": {"content": "<turn>"}}, None, {TURN}),
        ({"eos_token": "<unknown>"}, None, set()),
        ({}, TEMPLATE.replace("END", "<turn>\n"), {TURN}),
        ({"eos_token": "<eos>"}, TEMPLATE.replace("END", "<turn>"), {0, TURN}),
        ({"eos_token": "<turn>"}, TEMPLATE.replace("END", "{{ eos_token }}"), {TURN}),
        ({}, TEMPLATE.replace("END", "\n"), set()),
        ({}, TEMPLATE.replace("END", " <turn>"), set()),
        ({}, "{{ raise_exception('no') }}", set()),
    ],
)
def test_the_tokens_that_end_a_text(
    config: dict[str, Any], template: str | None, expected: set[int], tmp_path: Path
) -> None:
    save_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    if template is not None:
        (tmp_path / "chat_template.jinja").write_text(template)
    assert end_of_text_ids(tmp_path, Tokenizer.load(tmp_path), ChatTemplate.load(tmp_path)) == expected


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/completions", "/generate"])
def test_a_response_ends_at_a_token_that_only_the_tokenizer_names(route: str, tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<turn>"}))
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    engine = ScriptedEngine(lambda request: [*ids("Hello"), TURN, *ids(" and so on")])
    with BackgroundServer(Settings(model=str(tmp_path)), engine=engine) as server:
        body = {"messages": user("Hi"), "prompt": "Hi", "inputs": "Hi", "parameters": {"details": True}}
        response = httpx.post(server.url + route, json=body).json()
    if route == "/generate":
        assert response["generated_text"] == "Hello"
        assert response["details"]["finish_reason"] == "eos_token"
    else:
        [choice] = response["choices"]
        assert choice.get("text", choice.get("message", {}).get("content")) == "Hello"
        assert choice["finish_reason"] == "stop"


ADVICE = {"temperature": 0.6, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.1}


def test_defaults_hold_where_a_request_says_nothing() -> None:
    defaults = SamplingDefaults.from_config({**ADVICE, "do_sample": True, "max_length": 20})
    chat = ChatRequest.model_validate({"messages": user("Hi")}).to_parameters(defaults)
    completion = CompletionRequest.model_validate({"prompt": "Hi"}).to_parameters(defaults)
    for parameters in (chat, completion):
        assert {name: getattr(parameters, name) for name in ADVICE} == pytest.approx(ADVICE)


def test_a_request_comes_before_the_defaults() -> None:
    defaults = SamplingDefaults.from_config(ADVICE)
    own = {"temperature": 1.5, "top_k": 5, "top_p": 0.5, "repetition_penalty": 1.0}
    parameters = CompletionRequest.model_validate({"prompt": "Hi", **own}).to_parameters(defaults)
    assert {name: getattr(parameters, name) for name in own} == pytest.approx(own)
    greedy = ChatRequest.model_validate({"messages": user("Hi"), "temperature": 0}).to_parameters(defaults)
    assert not greedy.sampled
    everything = ChatRequest.model_validate({"messages": user("Hi"), "top_p": 1}).to_parameters(defaults)
    assert everything.top_p is None


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"temperature": 0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 0},
        {"temperature": "hot", "top_k": 2.5, "top_p": True, "repetition_penalty": None},
        {"temperature": float("inf"), "top_k": 2**31, "top_p": -1, "repetition_penalty": float("nan")},
    ],
)
def test_values_that_are_out_of_range_are_no_defaults(config: dict[str, Any]) -> None:
    assert SamplingDefaults.from_config(config) == SamplingDefaults()


@pytest.mark.parametrize("content", ["[]", "null", "{}"])
def test_a_generation_config_without_settings(content: str, tmp_path: Path) -> None:
    assert read_generation_config(tmp_path) == {}
    (tmp_path / "generation_config.json").write_text(content)
    assert read_generation_config(tmp_path) == {}
