"""The wire, byte for byte, from a real port; an engine that says what it is told to."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hfstream.server import BackgroundServer, Settings
from hfstream.server.engine.protocol import EngineRequest
from hfstream.version import __version__
from tests.helpers.scripted_engine import (
    CONTEXT,
    EOS,
    TOKENIZER,
    Script,
    ScriptedEngine,
    events,
    http,
    ids,
    joined,
    metric,
    post,
    save_tokenizer,
)

LF = "\n"
JSON = {"content-type": "application/json"}
SPEECHES: dict[str, Script] = {
    "Hi": [ids("a")[0], ids("ü")[0], ids("\n")[0], EOS],
    "break": [*ids("ab"), RuntimeError("out of memory")],
    "break at once": [RuntimeError("out of memory")],
}


def speak(job: EngineRequest) -> Script:
    return SPEECHES.get(TOKENIZER.decode(list(job.prompt)), ids("Hello, 中文! The end."))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = save_tokenizer(tmp_path_factory.mktemp("model"))
    with BackgroundServer(Settings(model=str(model), sse_keepalive=0.2), engine=ScriptedEngine(speak)) as server:
        yield server.url


def stream(url: str, path: str = "/generate_stream", inputs: str = "Hi", **parameters: Any) -> bytes:
    response = http.post(url + path, json={"inputs": inputs, "parameters": parameters, "stream": True})
    assert response.status_code == 200
    return bytes(response.content)


def spelled(text: str) -> str:
    """The JSON of one token, as TGI writes it."""
    written = {"\n": "\\n"}.get(text, text)
    return f'{{"id":{ids(text)[0]},"text":"{written}","logprob":-0.007358551,"special":false}}'


def test_a_stream_byte_for_byte(url: str) -> None:
    assert stream(url, details=True).decode() == (
        f'data: {{"index":1,"token":{spelled("a")},"generated_text":null,"details":null}}\n\n'
        f'data: {{"index":2,"token":{spelled("ü")},"generated_text":null,"details":null}}\n\n'
        f'data: {{"index":3,"token":{spelled(LF)},"generated_text":null,"details":null}}\n\n'
        'data: {"index":4,"token":{"id":0,"text":"<eos>","logprob":-0.007358551,"special":true},'
        '"generated_text":"aü\\n",'
        '"details":{"finish_reason":"eos_token","generated_tokens":4,"seed":null,"input_length":2}}\n\n'
    )


def test_a_stream_without_details_and_with_top_tokens(url: str) -> None:
    a = spelled("a")
    assert stream(url, max_new_tokens=1, top_n_tokens=1).decode() == (
        f'data: {{"index":1,"token":{a},"top_tokens":[{a}],"generated_text":"a","details":null}}\n\n'
    )


def test_a_whole_answer_byte_for_byte(url: str) -> None:
    assert post(url, "/generate").text == '{"generated_text":"aü\\n"}'
    assert post(url, "/generate", details=True, max_new_tokens=2, seed=3, do_sample=True).text == (
        '{"generated_text":"aü","details":{"finish_reason":"length","generated_tokens":2,"seed":3,"prefill":[],'
        f'"tokens":[{spelled("a")},{spelled("ü")}]}}}}'
    )
    listed = post(url, "/generate", details=True, top_n_tokens=2, max_new_tokens=2).json()["details"]
    assert list(listed) == ["finish_reason", "generated_tokens", "seed", "prefill", "tokens", "top_tokens"]
    assert [len(top) for top in listed["top_tokens"]] == [2, 2]


def test_seeds_are_told_where_they_were_used(url: str) -> None:
    greedy, sampled = stream(url, details=True, seed=1), stream(url, details=True, seed=1, temperature=0.5)
    assert [events(body)[-1]["details"]["seed"] for body in (greedy, sampled)] == [None, 1]
    bare = http.post(url + "/generate_stream", json={"inputs": "Hi"}).content
    assert events(bare)[-1]["details"] is None


def test_the_compatible_route_serves_both_and_repeats_the_prompt(url: str) -> None:
    assert post(url, "/").json() == [{"generated_text": "Hiaü\n"}]
    assert post(url, "/", return_full_text=False).json() == [{"generated_text": "aü\n"}]
    body = events(stream(url, "/"))
    assert (joined(body), body[-1]["generated_text"]) == ("aü\n", "Hiaü\n")
    assert post(url, "/generate", return_full_text=True).json() == {"generated_text": "Hiaü\n"}
    assert post(url, "/", max_new_tokens=0).json()["error_type"] == "validation"  # an object, no array


@pytest.mark.parametrize("stop", [[], ["文"], ["中文"], ["lo, 中"], ["d."], ["The", "!"]])
def test_streamed_joined_and_whole_are_one_text(url: str, stop: list[str]) -> None:
    body = events(stream(url, inputs="x", stop=stop, max_new_tokens=90))
    whole = post(url, "/generate", "x", stop=stop, max_new_tokens=90).json()["generated_text"]
    assert joined(body) == body[-1]["generated_text"] == whole
    assert [event["index"] for event in body] == list(range(1, len(body) + 1))
    assert not stop or whole.endswith(tuple(stop))


def test_headers_of_a_stream(url: str) -> None:
    headers = http.post(url + "/generate_stream", json={"inputs": "Hi"}).headers
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert headers["transfer-encoding"] == "chunked"
    assert (headers["x-compute-type"], headers["x-compute-characters"]) == ("cpu", "2")
    assert "x-total-time" not in headers


def test_headers_of_a_whole_answer(url: str) -> None:
    headers = post(url, "/generate", "Hi").headers
    assert headers["content-type"] == "application/json"
    assert headers["x-prompt-tokens"] == str(len(ids("Hi")))
    assert headers["x-generated-tokens"] == "4"
    assert 0 < float(headers["x-compute-time"]) < 5
    for name in ("total-time", "validation-time", "queue-time", "inference-time", "time-per-token"):
        assert headers[f"x-{name}"].isdecimal()


def test_each_event_is_a_chunk_of_its_own(url: str) -> None:
    with http.stream("POST", url + "/generate_stream", json={"inputs": "Hi"}) as response:
        chunks = list(response.iter_raw())
    assert len(chunks) == 4
    assert all(chunk.startswith(b"data: {") and chunk.endswith(b"}\n\n") for chunk in chunks)


@pytest.mark.parametrize(("inputs", "heard"), [("break", "ab"), ("break at once", "")])
def test_a_failure_in_a_stream_is_its_last_event(url: str, inputs: str, heard: str) -> None:
    failures = metric(url, 'tgi_request_failure{err="generation"}')
    *tokens, last = stream(url, inputs=inputs).decode().removesuffix("\n\n").split("\n\n")
    assert len(tokens) == len(heard)
    assert last == (
        'data: {"error":"Request failed during generation: Server error: out of memory","error_type":"generation"}'
    )
    assert metric(url, 'tgi_request_failure{err="generation"}') == failures + 1
    assert metric(url, "hfstream_permits_taken") == 0


def test_a_failure_of_a_whole_answer(url: str) -> None:
    response = post(url, "/generate", "break")
    assert response.status_code == 424
    assert response.headers["content-type"] == "application/json"
    assert response.text == (
        '{"error":"Request failed during generation: Server error: out of memory","error_type":"generation"}'
    )


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/"])
def test_an_invalid_request_is_a_422_also_where_a_stream_was_asked_for(url: str, path: str) -> None:
    body = {"inputs": "Hi", "parameters": {"max_new_tokens": 0}, "stream": True}
    response = http.post(url + path, json=body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/json"
    assert response.text == (
        '{"error":"Input validation error: `max_new_tokens` must be strictly positive","error_type":"validation"}'
    )
    assert metric(url, "hfstream_permits_taken") == 0


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/", "/tokenize"])
def test_a_malformed_body_is_answered_in_plain_text(url: str, path: str) -> None:
    def refused(status: int, opening: str, **request: Any) -> None:
        response = http.post(url + path, **request)
        assert response.status_code == status
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.text.startswith(opening)

    refused(400, "Failed to parse the request body as JSON: ", content="{", headers=JSON)
    refused(415, "Expected request with `Content-Type: application/json`", content='{"inputs":"Hi"}')
    refused(422, "Failed to deserialize the JSON body into the target type: missing field `inputs`", json={})
    refused(413, "Failed to buffer the request body: length limit exceeded", content=2_000_001 * b" ", headers=JSON)


@pytest.mark.parametrize("path", ["/generate", "/tokenize"])
def test_who_leaves_in_the_middle_of_a_body_is_let_go(url: str, path: str, caplog: pytest.LogCaptureFixture) -> None:
    host, port = httpx.URL(url).host, httpx.URL(url).port or 80
    with socket.create_connection((host, port)) as connection:
        head = "host: x\r\ncontent-type: application/json\r\ncontent-length: 99"
        connection.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n\r\n{{".encode())
        time.sleep(0.05)
    time.sleep(0.05)
    assert http.get(url + "/health").status_code == 200
    assert not caplog.records


def test_kinds_of_json(url: str) -> None:
    for kind in ("application/json; charset=utf-8", "application/vnd.x+json", "Application/JSON"):
        answer = http.post(url + "/generate", content='{"inputs":"Hi","parameters":{}}', headers={"content-type": kind})
        assert answer.status_code == 200


def test_routes_that_are_none(url: str) -> None:
    for method, path, status in [
        ("GET", "/nope", 404),
        ("POST", "/generate/", 404),
        ("GET", "/generate", 405),
        ("POST", "/info", 405),
    ]:
        response = http.request(method, url + path)
        assert (response.status_code, response.content) == (status, b"")


@pytest.mark.parametrize("path", ["/", "/health", "/ping"])
def test_health(url: str, path: str) -> None:
    response = http.get(url + path)
    assert (response.status_code, response.content) == (200, b"")


def test_info(url: str) -> None:
    info = http.get(url + "/info").json()
    assert list(info.items())[1:] == [
        ("model_sha", None),
        ("model_pipeline_tag", "text-generation"),
        ("max_concurrent_requests", 128),
        ("max_best_of", 1),
        ("max_stop_sequences", 4),
        ("max_input_tokens", CONTEXT - 1),
        ("max_total_tokens", CONTEXT),
        ("validation_workers", 1),
        ("max_client_batch_size", 1),
        ("router", "hfstream"),
        ("version", __version__),
        ("sha", None),
        ("docker_label", None),
    ]
    assert next(iter(info)) == "model_id"


def test_tokenize_counts_bytes(url: str) -> None:
    text = "Grüße, 🙂 鿿!"
    tokens = post(url, "/tokenize", text).json()
    assert [token["id"] for token in tokens] == ids(text)
    assert all(list(token) == ["id", "text", "start", "stop"] for token in tokens)
    assert all(text.encode()[token["start"] : token["stop"]].decode() == token["text"] for token in tokens)
    assert (tokens[0]["start"], tokens[-1]["stop"]) == (0, len(text.encode()))


def test_a_long_prompt_is_refused_by_its_length(url: str) -> None:
    response = post(url, "/generate", 20_000 * "é")
    assert response.status_code == 422
    assert response.json()["error"].startswith(
        f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {CONTEXT}"
    )


def test_any_page_may_ask(url: str) -> None:
    origin = {"origin": "https://example.org"}
    assert http.get(url + "/info", headers=origin).headers["access-control-allow-origin"] == "*"
    asked = {**origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    allowed = http.options(url + "/generate", headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-methods"] == "GET, POST, DELETE"


def test_metrics(url: str) -> None:
    before = metric(url, "tgi_request_count"), metric(url, "tgi_request_success")
    post(url, "/generate")
    stream(url)
    post(url, "/generate", top_k=0)
    assert metric(url, "tgi_request_count") == before[0] + 3
    assert metric(url, "tgi_request_success") == before[1] + 2
    assert http.get(url + "/metrics").headers["content-type"].startswith("text/plain")
