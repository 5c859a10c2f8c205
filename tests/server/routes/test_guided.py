"""JSON and regular expressions from the bundled model, over HTTP: alone and in a batch, streamed or not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from hfstream import InferenceClient
from hfstream.server import BackgroundServer, Settings
from hfstream.server.engine.protocol import InvalidGrammarError
from hfstream.server.service import backend
from tests.helpers.following import check_regex, check_schema
from tests.helpers.scripted_engine import ScriptedEngine, chunks, events, http, idle, joined_text, user
from tests.helpers.shared_engine import SharedEngine

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["name", "age"],
}
JSON_PERSON, PLATE = {"type": "json", "value": PERSON}, {"type": "regex", "value": "[A-Z]{2}-[0-9]{3}"}
NOT = {"type": "json", "value": {"type": "object", "properties": {"a": {"not": {}}}}}
NOT_REASON = 'is not valid: at /properties/a: Unimplemented keys: ["not"]'
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def url(shared_engine: SharedEngine) -> Iterator[str]:
    with BackgroundServer(Settings(port=0), engine=shared_engine.connect()) as server:
        yield server.url


@pytest.fixture(scope="module")
def client(url: str) -> InferenceClient:
    return InferenceClient(url, retry=None)


def check_person(text: str) -> None:
    assert re.fullmatch(r'\{"name": "[^"\n]{0,12}", "age": [0-9]{1,2}\}', text), text
    assert list(json.loads(text)) == ["name", "age"]


def generate(url: str, **parameters: Any) -> Any:
    body = {"inputs": "Who are you?", "parameters": {"details": True, "max_new_tokens": 200, **parameters}}
    return http.post(url + "/generate", json=body).json()


SAMPLING: list[dict[str, Any]] = [
    {},
    {"seed": 1, "temperature": 2.0},
    {"seed": 1, "temperature": 0.5, "top_k": 3, "top_p": 0.5, "typical_p": 0.9},
    {"repetition_penalty": 1.3, "frequency_penalty": 0.5, "watermark": True},
    {"do_sample": True, "top_n_tokens": 3, "seed": 2},
    {"do_sample": True, "best_of": 2},
]


@pytest.mark.parametrize("sampling", SAMPLING)
def test_every_sampling_parameter_chooses_among_the_tokens_that_fit(url: str, sampling: dict[str, Any]) -> None:
    answer = generate(url, grammar=JSON_PERSON, **sampling)
    check_person(answer["generated_text"])
    details = answer["details"]
    assert details["finish_reason"] == "eos_token"
    assert details["tokens"][0]["text"] == "{"
    assert details["tokens"][0]["logprob"] == 0  # the only token that fits
    for tops in details.get("top_tokens") or []:
        assert all(top["logprob"] is not None for top in tops)


def test_a_document_that_max_new_tokens_cuts_says_so(url: str) -> None:
    answer = generate(url, grammar=JSON_PERSON, max_new_tokens=5)
    assert answer["details"]["finish_reason"] == "length"
    assert answer["generated_text"].startswith('{"name')


def test_a_stream_has_the_text_of_the_response(url: str) -> None:
    whole = generate(url, grammar=PLATE)["generated_text"]
    assert re.fullmatch("[A-Z]{2}-[0-9]{3}", whole)
    body = {"inputs": "Who are you?", "parameters": {"grammar": PLATE}}
    stream = events(http.post(url + "/generate_stream", json=body).content)
    assert joined_text(stream) == stream[-1]["generated_text"] == whole


def test_rows_beside_guided_ones_are_what_they_are_alone(url: str) -> None:
    kinds: list[dict[str, Any]] = [
        {"grammar": JSON_PERSON}, {}, {"grammar": PLATE}, {"temperature": 1.0, "seed": 3},
        {"grammar": JSON_PERSON, "temperature": 1.5, "seed": 4}, {"grammar": {"type": "json", "value": {}}},
    ]  # fmt: skip

    def text(kind: dict[str, Any]) -> Any:
        return generate(url, **{"max_new_tokens": 40, **kind})["generated_text"]

    alone = [text(kind) for kind in kinds]
    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(text, kinds * 3)) == alone * 3


def test_random_schemas_and_regexes(client: InferenceClient) -> None:
    with ThreadPoolExecutor(8) as threads:
        schemas = list(threads.map(partial(check_schema, client), range(10_000, 10_012)))
        regexes = list(threads.map(partial(check_regex, client), range(10_000, 10_004)))
    assert schemas.count("eos_token") > 6
    assert regexes.count("eos_token") > 2


RESPONSE_FORMATS: list[dict[str, Any]] = [
    {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}},
    JSON_PERSON,
    {"type": "json_object", "value": PERSON},
]


@pytest.mark.parametrize("response_format", RESPONSE_FORMATS)
def test_response_format(url: str, response_format: dict[str, Any]) -> None:
    chat = {"messages": user("Who are you?"), "response_format": response_format, "temperature": 0, "max_tokens": 99}
    choice = http.post(url + CHAT, json=chat).json()["choices"][0]
    check_person(choice["message"]["content"])
    assert choice["finish_reason"] == "stop"
    stream = chunks(http.post(url + CHAT, json={**chat, "stream": True}).content)
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in stream) == choice["message"]["content"]
    completion = {"prompt": ["Hello!", "Who are you?"], "n": 2, "response_format": response_format, "max_tokens": 99}
    choices = http.post(url + COMPLETIONS, json=completion).json()["choices"]
    assert len(choices) == 4
    for each in choices:
        check_person(each["text"])


def test_any_json_object(url: str) -> None:
    chat = {"messages": user("Hello!"), "response_format": {"type": "json_object"}, "max_tokens": 30, "temperature": 1}
    choice = http.post(url + CHAT, json={**chat, "n": 4}).json()["choices"]
    assert all(each["message"]["content"].startswith("{") for each in choice)


@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
def test_refused_before_a_stream_begins_on_tgis_routes(url: str, path: str) -> None:
    response = http.post(url + path, json={"inputs": "Hi", "parameters": {"grammar": NOT}})
    assert response.status_code == 422
    assert response.json() == {
        "error": f"Input validation error: `grammar` {NOT_REASON}",
        "error_type": "validation",
    }
    assert idle(url)


@pytest.mark.parametrize(
    ("path", "body"), [(CHAT, {"messages": user("Hi")}), (COMPLETIONS, {"prompt": "Hi"})], ids=["chat", "completions"]
)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("field", ["response_format", "grammar"])
def test_refused_before_a_stream_begins_on_openais_routes(
    url: str, path: str, body: dict[str, Any], field: str, *, stream: bool
) -> None:
    response = http.post(url + path, json={**body, field: NOT, "stream": stream}, headers={"prefer": "resumable"})
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["message"] == f"Input validation error: `{field}` {NOT_REASON}"
    assert error["param"] == field
    assert idle(url)


# --- with an engine that does what a test says ------------------------------------------------------------------------


def test_a_grammar_that_takes_too_long_is_refused(chat_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "GRAMMAR_SECONDS", 0.05)
    engine = ScriptedEngine(lambda request: iter(lambda: None, 1))
    with BackgroundServer(Settings(model=str(chat_model), port=0), engine=engine) as server:
        response = http.post(server.url + "/generate_stream", json={"inputs": "Hi", "parameters": {"grammar": PLATE}})
        assert response.json()["error"].endswith("`grammar` is not valid: it could not be compiled within 0.05 seconds")
        assert idle(server.url)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InvalidGrammarError("why"), 422, "Input validation error: `grammar` is not valid: why"),
        (RuntimeError("lost"), 424, "Request failed during generation: Server error: lost"),
    ],
)
def test_a_request_that_fails_before_its_grammar_is_compiled(
    chat_model: Any, error: Exception, status: int, message: str
) -> None:
    with BackgroundServer(
        Settings(model=str(chat_model), port=0), engine=ScriptedEngine(lambda request: [error])
    ) as server:
        response = http.post(server.url + "/generate_stream", json={"inputs": "Hi", "parameters": {"grammar": PLATE}})
        assert (response.status_code, response.json()["error"]) == (status, message)
