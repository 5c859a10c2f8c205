"""TGI's own routes, byte for byte, over HTTP, with a scripted engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hfstream.server import BackgroundServer, Settings
from hfstream.server.engine.protocol import EngineRequest
from tests.helpers.scripted_engine import (
    CONTEXT,
    EOS,
    TOKENIZER,
    Script,
    ScriptedEngine,
    events,
    http,
    ids,
    joined_text,
    metric,
    post,
)

LF = "\n"
JSON = {"content-type": "application/json"}
BEST: list[Script] = []
"""What the next requests for "best" generate."""
OUTPUTS: dict[str, Script] = {
    "Hi": [ids("a")[0], ids("ü")[0], ids("\n")[0], EOS],
    "break": [*ids("ab"), RuntimeError("out of memory")],
    "break at once": [RuntimeError("out of memory")],
}


def script(job: EngineRequest) -> Script:
    if TOKENIZER.decode(list(job.prompt)) == "best":
        return iter(BEST.pop())
    return OUTPUTS.get(TOKENIZER.decode(list(job.prompt)), ids("Hello, 中文! The end."))


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    with BackgroundServer(Settings(model=str(model)), engine=ScriptedEngine(script)) as server:
        yield server.url


def stream(url: str, path: str = "/generate_stream", inputs: str = "Hi", **parameters: Any) -> bytes:
    response = http.post(url + path, json={"inputs": inputs, "parameters": parameters, "stream": True})
    assert response.status_code == 200
    return bytes(response.content)


def token_json(text: str) -> str:
    """The JSON of one token, as TGI writes it."""
    written = {"\n": "\\n"}.get(text, text)
    return f'{{"id":{ids(text)[0]},"text":"{written}","logprob":-0.007358551,"special":false}}'


def test_a_stream_byte_for_byte(url: str) -> None:
    assert stream(url, details=True).decode() == (
        f'data: {{"index":1,"token":{token_json("a")},"generated_text":null,"details":null}}\n\n'
        f'data: {{"index":2,"token":{token_json("ü")},"generated_text":null,"details":null}}\n\n'
        f'data: {{"index":3,"token":{token_json(LF)},"generated_text":null,"details":null}}\n\n'
        'data: {"index":4,"token":{"id":0,"text":"<eos>","logprob":-0.007358551,"special":true},'
        '"generated_text":"aü\\n",'
        '"details":{"finish_reason":"eos_token","generated_tokens":4,"seed":null,"input_length":2}}\n\n'
    )


def test_a_stream_without_details_and_with_top_tokens(url: str) -> None:
    a = token_json("a")
    assert stream(url, max_new_tokens=1, top_n_tokens=1).decode() == (
        f'data: {{"index":1,"token":{a},"top_tokens":[{a}],"generated_text":"a","details":null}}\n\n'
    )


def test_a_response_that_is_not_streamed_byte_for_byte(url: str) -> None:
    assert post(url, "/generate").text == '{"generated_text":"aü\\n"}'
    assert post(url, "/generate", details=True, max_new_tokens=2, seed=3, do_sample=True).text == (
        '{"generated_text":"aü","details":{"finish_reason":"length","generated_tokens":2,"seed":3,"prefill":[],'
        f'"tokens":[{token_json("a")},{token_json("ü")}]}}}}'
    )
    listed = post(url, "/generate", details=True, top_n_tokens=2, max_new_tokens=2).json()["details"]
    assert list(listed) == ["finish_reason", "generated_tokens", "seed", "prefill", "tokens", "top_tokens"]
    assert [len(top) for top in listed["top_tokens"]] == [2, 2]


def test_decoder_input_details(url: str) -> None:
    details = post(url, "/generate", decoder_input_details=True, max_new_tokens=1).json()["details"]
    first, second = ids("Hi")
    assert details["prefill"] == [
        {"id": first, "text": "H", "logprob": None},
        {"id": second, "text": "i", "logprob": -0.007358551},
    ]
    refused = post(url, "/generate_stream", decoder_input_details=True)
    assert (refused.status_code, refused.json()["error"]) == (
        422,
        "Input validation error: `decoder_input_details` == true is not supported when streaming tokens",
    )


def test_best_of(url: str) -> None:
    BEST.extend([ids("a"), ids("b")])  # the logprobs are equal: the first one is chosen
    response = post(url, "/generate", "best", best_of=2, do_sample=True, details=True, top_n_tokens=1, max_new_tokens=3)
    details = response.json()["details"]
    assert response.json()["generated_text"] == "b"
    [other] = details["best_of_sequences"]
    assert list(details) == [
        "finish_reason", "generated_tokens", "seed", "prefill", "tokens", "best_of_sequences", "top_tokens",
    ]  # fmt: skip
    assert list(other) == [
        "generated_text", "finish_reason", "generated_tokens", "seed", "prefill", "tokens", "top_tokens",
    ]  # fmt: skip
    assert (other["generated_text"], other["finish_reason"], other["generated_tokens"]) == ("a", "eos_token", 2)
    assert other["seed"] == (details["seed"] + 1) % 2**64
    BEST.extend([ids("a"), ids("b")])
    assert post(url, "/generate", "best", best_of=2, do_sample=True, max_new_tokens=1).json() == {"generated_text": "b"}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"best_of": 3, "do_sample": True}, "`best_of` must be > 0 and <= 2. Given: 3"),
        ({"best_of": 2}, "you must use sampling when `best_of` is > 1"),
        ({"best_of": 2, "do_sample": True, "seed": 1}, "`seed` must not be set when `best_of` > 1"),
    ],
)
def test_when_best_of_is_refused(url: str, parameters: dict[str, Any], message: str) -> None:
    response = post(url, "/generate", **parameters)
    assert (response.status_code, response.json()["error"]) == (422, f"Input validation error: {message}")


def test_the_seed_is_reported_where_it_was_used(url: str) -> None:
    greedy, sampled = stream(url, details=True, seed=1), stream(url, details=True, seed=1, temperature=0.5)
    assert [events(body)[-1]["details"]["seed"] for body in (greedy, sampled)] == [None, 1]
    bare = http.post(url + "/generate_stream", json={"inputs": "Hi"}).content
    assert events(bare)[-1]["details"] is None


def test_the_compatible_route_streams_or_not_and_repeats_the_prompt(url: str) -> None:
    assert post(url, "/").json() == [{"generated_text": "Hiaü\n"}]
    assert post(url, "/", return_full_text=False).json() == [{"generated_text": "aü\n"}]
    body = events(stream(url, "/"))
    assert (joined_text(body), body[-1]["generated_text"]) == ("aü\n", "Hiaü\n")
    assert post(url, "/generate", return_full_text=True).json() == {"generated_text": "Hiaü\n"}
    assert post(url, "/", max_new_tokens=0).json()["error_type"] == "validation"  # an object, not an array


@pytest.mark.parametrize("stop", [[], ["文"], ["中文"], ["lo, 中"], ["d."], ["The", "!"]])
def test_joined_tokens_generated_text_and_the_unstreamed_response_are_one_text(url: str, stop: list[str]) -> None:
    body = events(stream(url, inputs="x", stop=stop, max_new_tokens=90))
    text = post(url, "/generate", "x", stop=stop, max_new_tokens=90).json()["generated_text"]
    assert joined_text(body) == body[-1]["generated_text"] == text
    assert [event["index"] for event in body] == list(range(1, len(body) + 1))
    assert not stop or text.endswith(tuple(stop))


@pytest.mark.parametrize(("inputs", "text"), [("break", "ab"), ("break at once", "")])
def test_a_failure_in_a_stream_is_its_last_event(url: str, inputs: str, text: str) -> None:
    failures = metric(url, 'tgi_request_failure{err="generation"}')
    *tokens, last = stream(url, inputs=inputs).decode().removesuffix("\n\n").split("\n\n")
    assert len(tokens) == len(text)
    assert last == (
        'data: {"error":"Request failed during generation: Server error: out of memory","error_type":"generation"}'
    )
    assert metric(url, 'tgi_request_failure{err="generation"}') == failures + 1
    assert metric(url, "hfstream_permits_taken") == 0


def test_a_failure_of_a_response_that_is_not_streamed(url: str) -> None:
    response = post(url, "/generate", "break")
    assert response.status_code == 424
    assert response.headers["content-type"] == "application/json"
    assert response.text == (
        '{"error":"Request failed during generation: Server error: out of memory","error_type":"generation"}'
    )


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/"])
def test_an_invalid_request_is_a_422_also_for_streams(url: str, path: str) -> None:
    body = {"inputs": "Hi", "parameters": {"max_new_tokens": 0}, "stream": True}
    response = http.post(url + path, json=body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/json"
    assert response.text == (
        '{"error":"Input validation error: `max_new_tokens` must be strictly positive","error_type":"validation"}'
    )
    assert metric(url, "hfstream_permits_taken") == 0


def test_a_long_prompt_is_refused_by_its_length(url: str) -> None:
    response = post(url, "/generate", 20_000 * "é")
    assert response.status_code == 422
    assert response.json()["error"].startswith(
        f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {CONTEXT}"
    )
