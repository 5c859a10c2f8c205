"""TGI's routes in front of servers of TGI's kind, and of OpenAI's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hfstream.testing import Response, token_events

from .common import completion_event, completion_events, data_of, front, scripted

STREAMED = pytest.mark.parametrize(("path", "body"), [("/generate_stream", {}), ("/", {"stream": True})])


def parsed(events: list[bytes]) -> list[Any]:
    return [json.loads(event.removeprefix(b"data: ")) for event in events]


# --- TGI's kind ------------------------------------------------------------------------------------------------------


@STREAMED
def test_a_stream_of_tgis_is_passed_on(path: str, body: dict[str, Any]) -> None:
    events = token_events("Hel", "lo", finish_reason="eos_token")
    with front(scripted(Response(events)), path="") as server:
        parameters = {"details": True, "max_new_tokens": 5, "watermark": True, "truncate": 3, "return_full_text": False}
        response = server.post(path, {"inputs": "Hi", "parameters": parameters, **body})
        assert data_of(response) == parsed(events)
        assert server.sent == [{"inputs": "Hi", "parameters": parameters}]
        assert server.last_path == "/generate_stream"


def test_details_are_left_out_where_they_are_not_wanted() -> None:
    with front(scripted(Response(token_events("Hi"))), path="") as server:
        (event,) = data_of(server.post("/generate_stream", {"inputs": "Hi"}))
        assert event["generated_text"] == "Hi"
        assert event["details"] is None


def test_sampling_without_parameters_is_tgis() -> None:
    """TGI samples if there are no parameters at all, and not if they are empty."""
    with front(scripted(Response(token_events("Hi"))), path="") as server:
        server.post("/generate_stream", {"inputs": "Hi"})
        server.post("/generate_stream", {"inputs": "Hi", "parameters": {}})
        first, second = server.sent
        assert first["parameters"]["do_sample"] is True
        assert not second["parameters"].get("do_sample")


@pytest.mark.parametrize("path", ["/generate", "/"])
def test_a_response_of_tgis_that_is_not_streamed(path: str) -> None:
    details = {"finish_reason": "length", "generated_tokens": 1, "seed": 3, "prefill": [], "tokens": []}
    answer = {"generated_text": "Hi", "details": details}
    with front(scripted(Response.json(answer)), path="") as server:
        response = server.post(path, {"inputs": "Hi", "parameters": {"details": True, "best_of": 2}})
        assert response.json() == (answer if path == "/generate" else [answer])
        assert server.sent[0]["parameters"]["best_of"] == 2
        assert server.sent[0]["parameters"].get("return_full_text", False) is (path == "/")


def test_the_tokens_of_tgis() -> None:
    tokens = [{"id": 5, "text": "Hi", "start": 0, "stop": 2}]
    with front(scripted(Response.json(tokens)), path="") as server:
        assert server.post("/tokenize", {"inputs": "Hi"}).json() == tokens


# --- OpenAI's kind ---------------------------------------------------------------------------------------------------


@STREAMED
def test_a_stream_of_completions_becomes_tgis(path: str, body: dict[str, Any]) -> None:
    with front(scripted(Response(completion_events("Hel", "lo", finish_reason="length")))) as server:
        parameters = {"details": True, "max_new_tokens": 5, "return_full_text": False}
        first, last = data_of(server.post(path, {"inputs": "Hi", "parameters": parameters, **body}))
        assert first == {
            "index": 1, "token": {"id": -1, "text": "Hel", "logprob": None, "special": False},
            "generated_text": None, "details": None,
        }  # fmt: skip
        assert last["generated_text"] == "Hello"
        # The counts come after the last token: its event waits for them.
        assert last["details"] == {"finish_reason": "length", "generated_tokens": 2, "seed": None, "input_length": 7}
        assert server.last_path == "/v1/completions"


def test_parameters_in_openais_words() -> None:
    with front(scripted(Response(completion_events("Hi")))) as server:
        schema = {"type": "object", "properties": {}}
        parameters = {
            "max_new_tokens": 5, "temperature": 0.5, "top_p": 0.75, "top_k": 4, "min_p": 0.25, "stop": ["x"], "seed": 1,
            "repetition_penalty": 1.5, "frequency_penalty": 0.5,
            "grammar": {"type": "json", "value": json.dumps(schema)},
        }  # fmt: skip
        server.post("/generate_stream", {"inputs": "Hi", "parameters": parameters})
        (body,) = server.sent
        assert body == {
            "model": "small", "prompt": "Hi", "stream": True, "stream_options": {"include_usage": True},
            "max_tokens": 5, "temperature": 0.5, "top_p": 0.75, "top_k": 4, "min_p": 0.25, "stop": ["x"], "seed": 1,
            "repetition_penalty": 1.5, "frequency_penalty": 0.5, "logprobs": None,
            "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
        }  # fmt: skip


@pytest.mark.parametrize(("parameters", "temperature"), [({}, 0), ({"do_sample": True}, 1.0), ({"top_k": 3}, 1.0)])
def test_greedy_unless_a_parameter_switches_sampling_on(parameters: dict[str, Any], temperature: float) -> None:
    with front(scripted(Response(completion_events("Hi")))) as server:
        server.post("/generate_stream", {"inputs": "Hi", "parameters": parameters})
        assert server.sent[0]["temperature"] == temperature


def test_logprobs_are_asked_for_where_they_are_wanted() -> None:
    with front(scripted(Response(completion_events("Hi")))) as server:
        server.post("/generate_stream", {"inputs": "Hi", "parameters": {"details": True}})
        server.post("/generate_stream", {"inputs": "Hi", "parameters": {"top_n_tokens": 3}})
        assert [each["logprobs"] for each in server.sent] == [1, 3]


@pytest.mark.parametrize(
    "parameters",
    [
        {"truncate": 3}, {"typical_p": 0.5}, {"watermark": True}, {"adapter_id": "x"}, {"decoder_input_details": True},
        {"grammar": {"type": "regex", "value": "a"}}, {"grammar": {"type": "json", "value": "{"}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
def test_what_openais_route_cannot_express_is_refused_in_words(path: str, parameters: dict[str, Any]) -> None:
    with front(scripted(Response())) as server:
        response = server.post(path, {"inputs": "Hi", "parameters": parameters})
        assert response.status_code == 422
        assert response.json()["error_type"] == "validation"
        assert f"`{next(iter(parameters))}`" in response.json()["error"]
        assert server.sent == []


@pytest.mark.parametrize("path", ["/generate", "/"])
def test_a_completion_that_is_not_streamed_becomes_tgis(path: str) -> None:
    choice = {"index": 0, "text": " there", "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    with front(scripted(Response.json({"choices": [choice], "usage": usage}))) as server:
        response = server.post(path, {"inputs": "Hi", "parameters": {"details": True}}).json()
        assert response == (
            {"generated_text": " there", "details": (details := {
                "finish_reason": "eos_token", "generated_tokens": 2, "seed": None, "prefill": [], "tokens": [],
            })} if path == "/generate" else [{"generated_text": "Hi there", "details": response[0]["details"]}]
        )  # fmt: skip
        assert path == "/" or details["generated_tokens"] == 2


@pytest.mark.parametrize("best_of", [None, 2])
def test_the_tokens_of_the_best_completion_are_counted(best_of: int | None) -> None:
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [-1.0, -2.0]}
    choice = {"index": 0, "text": "ab", "finish_reason": "length", "logprobs": logprobs}
    count = 2 * (best_of or 1)
    usage = {"prompt_tokens": 3, "completion_tokens": count, "total_tokens": 3 + count}
    with front(scripted(Response.json({"choices": [choice], "usage": usage}))) as server:
        parameters = {"details": True, "do_sample": True, "best_of": best_of}
        details = server.post("/generate", {"inputs": "Hi", "parameters": parameters}).json()["details"]
    assert (details["generated_tokens"], len(details["tokens"])) == (2, 2)


@pytest.mark.parametrize(("sampling", "seed"), [({"do_sample": True}, 5), ({"temperature": 0.5}, 5), ({}, None)])
def test_the_seed_is_that_of_a_sampled_text(sampling: dict[str, Any], seed: int | None) -> None:
    parameters = {"details": True, "seed": 5, **sampling}
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    whole = Response.json({"choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}], "usage": usage})
    with front(scripted(whole, Response(completion_events("Hi")))) as server:
        answer = server.post("/generate", {"inputs": "Hi", "parameters": parameters}).json()
        *_, last = data_of(server.post("/generate_stream", {"inputs": "Hi", "parameters": parameters}))
    assert answer["details"]["seed"] == last["details"]["seed"] == seed


def test_a_stream_without_a_finish_reason_has_a_last_event_all_the_same() -> None:
    with front(scripted(Response([completion_event("Hel"), completion_event("lo"), b"data: [DONE]\n\n"]))) as server:
        *_, last = data_of(server.post("/generate_stream", {"inputs": "Hi", "parameters": {"details": True}}))
        assert last["generated_text"] == "Hello"
        assert last["token"] == {"id": -1, "text": "", "logprob": None, "special": True}
        assert last["details"]["finish_reason"] == "eos_token"


def test_text_after_a_finish_reason_is_not_lost() -> None:
    events = [completion_event("Hel", "stop"), completion_event("lo", "stop"), b"data: [DONE]\n\n"]
    with front(scripted(Response(events))) as server:
        first, last = data_of(server.post("/generate_stream", {"inputs": "Hi"}))
        assert (first["token"]["text"], first["generated_text"]) == ("Hel", None)
        assert (last["token"]["text"], last["generated_text"]) == ("lo", "Hello")


def test_the_full_text_is_put_together_here() -> None:
    with front(scripted(Response(completion_events("lo")))) as server:
        *_, last = data_of(server.post("/", {"inputs": "Hel", "stream": True}))
        assert last["generated_text"] == "Hello"


def test_no_tokens_without_a_server_of_tgis_kind() -> None:
    with front(scripted(Response())) as server:
        response = server.post("/tokenize", {"inputs": "Hi"})
        assert response.status_code == 404
        assert "/tokenize is not available" in response.json()["error"]
