"""/v1/chat/completions, byte for byte, from a real port; an engine that says what it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
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
    chunks,
    http,
    ids,
    metric,
    pinned,
    save_chat_model,
    save_tokenizer,
    user,
)

PATH = "/v1/chat/completions"
TURN: int = TOKENIZER.encode("<turn>").ids[0]
LOGPROB = "-0.007358551"
SPEECHES: dict[str, Script] = {
    "Hi>": [*ids("aü"), EOS],
    "turn>": [ids("a")[0], TURN, ids("b")[0], EOS],
    "nothing>": [EOS],
    "half>": ids("🙂")[:1],
    "break>": [*ids("ab"), RuntimeError("out of memory")],
}


def speak(job: EngineRequest) -> Script:
    return SPEECHES.get(TOKENIZER.decode(list(job.prompt)), ids("Hello, 中文! The end."))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    return ScriptedEngine(speak)


@pytest.fixture(scope="module")
def url(model: Path, engine: ScriptedEngine) -> Iterator[str]:
    with BackgroundServer(Settings(model=str(model)), engine=engine) as server:
        yield server.url


@pytest.fixture(scope="module")
def mute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A model without a chat template."""
    model = save_tokenizer(tmp_path_factory.mktemp("mute"))
    with BackgroundServer(Settings(model=str(model)), engine=ScriptedEngine(speak)) as server:
        yield server.url


def ask(url: str, text: str = "Hi", path: str = PATH, **fields: Any) -> httpx.Response:
    response: httpx.Response = http.post(url + path, json={"messages": user(text), "model": "m", **fields})
    return response


def stream(url: str, text: str = "Hi", **fields: Any) -> bytes:
    response = ask(url, text, stream=True, **fields)
    assert response.status_code == 200
    return response.content


def chunk(choices: str, usage: str = "null") -> str:
    return (
        '{"id":"chatcmpl-ID","object":"chat.completion.chunk","created":0,"model":"m",'
        f'"choices":[{choices}],"usage":{usage},"system_fingerprint":"hfstream-{__version__}"}}'
    )


def choice(delta: str, finish: str = "null", logprobs: str = "null") -> str:
    return f'{{"index":0,"delta":{{{delta}}},"finish_reason":{finish},"logprobs":{logprobs}}}'


# --- answers ----------------------------------------------------------------------------------------------------------


def test_a_stream_byte_for_byte(url: str) -> None:
    parts = [
        chunk(choice('"role":"assistant","content":"a"')),
        chunk(choice('"content":"ü"')),
        chunk(choice('"content":""', '"stop"')),
        "[DONE]",
    ]
    assert pinned(stream(url).decode()) == "".join(f"data: {part}\n\n" for part in parts)


def test_a_stream_that_tells_what_it_took(url: str) -> None:
    body = pinned(stream(url, stream_options={"include_usage": True}, max_tokens=1).decode())
    parts = [
        chunk(choice('"role":"assistant","content":"a"', '"length"')),
        chunk("", '{"prompt_tokens":4,"completion_tokens":1,"total_tokens":5}'),
        "[DONE]",
    ]
    assert body == "".join(f"data: {part}\n\n" for part in parts)


def test_a_whole_answer_byte_for_byte(url: str) -> None:
    response = ask(url)
    assert response.headers["content-type"] == "application/json"
    assert pinned(response.text) == (
        '{"id":"chatcmpl-ID","object":"chat.completion","created":0,"model":"m","choices":[{"index":0,'
        '"message":{"role":"assistant","content":"aü"},"finish_reason":"stop","logprobs":null}],'
        '"usage":{"prompt_tokens":4,"completion_tokens":3,"total_tokens":7},'
        f'"system_fingerprint":"hfstream-{__version__}"}}'
    )


def logprob(text: str, written: list[int], tops: str = "") -> str:
    told = f'{{"token":"{text}","logprob":{LOGPROB},"bytes":{str(written).replace(" ", "")}'
    return f'{told},"top_logprobs":[{tops}]}}'


def test_logprobs_of_a_stream_byte_for_byte(url: str) -> None:
    top_a = f'{{"token":"a","logprob":{LOGPROB},"bytes":[97]}}'
    top_u = f'{{"token":"ü","logprob":{LOGPROB},"bytes":[195,188]}}'
    parts = [
        chunk(choice('"role":"assistant","content":"a"', logprobs=f'{{"content":[{logprob("a", [97], top_a)}]}}')),
        chunk(choice('"content":"ü"', logprobs=f'{{"content":[{logprob("ü", [195, 188], top_u)}]}}')),
        chunk(choice('"content":""', '"stop"')),
        "[DONE]",
    ]
    body = pinned(stream(url, logprobs=True, top_logprobs=1).decode())
    assert body == "".join(f"data: {part}\n\n" for part in parts)


def test_logprobs_of_a_whole_answer_are_those_of_its_text(url: str) -> None:
    told = ask(url, "turn", logprobs=True).text
    assert f'"logprobs":{{"content":[{logprob("a", [97])},{logprob("b", [98])}]}}' in told
    nothing = ask(url, "nothing", logprobs=True).json()["choices"][0]
    assert (nothing["message"]["content"], nothing["logprobs"]) == ("", None)
    assert ask(url, top_logprobs=2).json()["choices"][0]["logprobs"] is None


def test_a_special_token_is_a_chunk_without_text(url: str) -> None:
    deltas = [part["choices"][0]["delta"] for part in chunks(stream(url, "turn"))]
    assert deltas == [{"role": "assistant", "content": "a"}, {"content": ""}, {"content": "b"}, {"content": ""}]


def test_an_answer_of_one_token_is_one_chunk(url: str) -> None:
    (only,) = chunks(stream(url, "nothing"))
    assert only["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "stop", "logprobs": None}
    ]


@pytest.mark.parametrize(
    ("fields", "content", "finish"),
    [
        ({"max_tokens": 2}, "aü", "length"),
        ({"max_completion_tokens": 1}, "a", "length"),
        ({"stop": "ü"}, "a", "stop"),
        ({"stop": ["x", "a"]}, "", "stop"),
        ({"stop": "aü"}, "", "stop"),
        ({"stop": "üb"}, "aü", "stop"),
        ({"stop": "ax"}, "aü", "stop"),
        ({"stop": "ü", "max_tokens": 2}, "a", "length"),
        ({}, "aü", "stop"),
    ],
)
def test_why_an_answer_ends(url: str, fields: dict[str, Any], content: str, finish: str) -> None:
    (whole,) = ask(url, **fields).json()["choices"]
    assert (whole["message"]["content"], whole["finish_reason"]) == (content, finish)
    parts = [part["choices"][0] for part in chunks(stream(url, **fields))]
    assert "".join(part["delta"]["content"] for part in parts) == content
    assert [part["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + [finish]


def test_half_a_character_is_not_said(url: str) -> None:
    (whole,) = ask(url, "half", max_tokens=1).json()["choices"]
    assert whole["message"]["content"] == ""


@pytest.mark.parametrize("fields", [{}, {"model": None}])
def test_who_names_no_model_is_told_the_servers(url: str, model: Path, fields: dict[str, Any]) -> None:
    response = http.post(url + PATH, json={"messages": user("Hi"), **fields})
    assert response.json()["model"] == str(model)


def test_headers(url: str) -> None:
    whole, streamed = ask(url).headers, ask(url, stream=True).headers
    prompt = "Hi<turn>>"
    assert (whole["x-prompt-tokens"], whole["x-generated-tokens"]) == (str(len(ids(prompt))), "3")
    assert whole["x-compute-characters"] == streamed["x-compute-characters"] == str(len(prompt))
    assert streamed["content-type"] == "text/event-stream"
    assert streamed["cache-control"] == "no-cache"
    assert streamed["x-accel-buffering"] == "no"


# --- what the model reads ---------------------------------------------------------------------------------------------


def test_the_template_writes_the_prompt(url: str, engine: ScriptedEngine) -> None:
    ask(url)
    assert list(engine.seen[-1].prompt) == ids("Hi<turn>>")
    ask(url, messages=[{"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]}])
    assert list(engine.seen[-1].prompt) == ids("Hi<turn>>")


def test_an_answer_that_was_begun_is_continued(url: str, engine: ScriptedEngine) -> None:
    ask(url, messages=[*user("Hi"), {"role": "assistant", "content": "Well"}])
    assert list(engine.seen[-1].prompt) == ids("Hi<turn>Well")
    ask(url, messages=[*user("Hi"), {"role": "assistant", "content": "Well"}, *user("?")])
    assert list(engine.seen[-1].prompt) == ids("Hi<turn>Well?<turn>>")


def test_a_long_conversation_is_refused_by_its_length(url: str) -> None:
    refused = ask(url, messages=9_000 * user("é"))
    assert refused.status_code == 422
    assert refused.json()["error"]["message"].startswith(
        f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {CONTEXT}"
    )


# --- refusals ---------------------------------------------------------------------------------------------------------


def refusal(words: str, kind: str = "validation", status: int = 422) -> str:
    return (
        f'{{"error":{{"message":"{words}","type":"{kind}","param":null,"code":"{kind}","http_status_code":{status}}},'
        f'"error_type":"{kind}"}}'
    )


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"top_logprobs": 6}, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
        ({"presence_penalty": 3}, "`presence_penalty` must be >= -2.0 and <= 2.0"),
        ({"n": 2}, "`n` != 1 is not supported"),
        ({"tools": [{"type": "function"}]}, "grammar is not supported, and `tools` need one"),
        ({"messages": []}, "`messages` cannot be empty"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "`messages` with parts of type `image_url` are not supported, this model reads text only",
        ),
    ],
)
def test_an_invalid_request_is_told_in_openais_shape(
    url: str, fields: dict[str, Any], words: str, streamed: bool
) -> None:
    failures = metric(url, 'tgi_request_failure{err="validation"}')
    response = ask(url, stream=streamed, **fields)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/json"
    assert response.text == refusal(f"Input validation error: {words}")
    assert metric(url, 'tgi_request_failure{err="validation"}') == failures + 1
    assert metric(url, "hfstream_permits_taken") == 0


def test_a_template_that_says_no(url: str) -> None:
    failures = metric(url, 'tgi_request_failure{err="template"}')
    for streamed in (False, True):
        refused = ask(url, messages=[{"role": "no", "content": "a"}], stream=streamed)
        assert (refused.status_code, refused.text) == (422, refusal("Template error: No!", "template_error"))
    assert metric(url, 'tgi_request_failure{err="template"}') == failures + 2


def test_a_model_without_a_template(mute: str) -> None:
    refused = ask(mute)
    words = "Template error: template not found"
    assert (refused.status_code, refused.text) == (422, refusal(words, "template_error"))
    native = ask(mute, path="/chat_tokenize")
    assert (native.status_code, native.text) == (422, f'{{"error":"{words}","error_type":"template_error"}}')


def test_a_failure_in_a_stream_is_an_event_and_then_it_is_done(url: str) -> None:
    failures = metric(url, 'tgi_request_failure{err="generation"}')
    first, second, failure, done = stream(url, "break").decode().removesuffix("\n\n").split("\n\n")
    assert '"content":"a"' in first
    assert '"content":"b"' in second
    assert failure == "data: " + refusal(
        "Request failed during generation: Server error: out of memory", "generation", 424
    )
    assert done == "data: [DONE]"
    assert metric(url, 'tgi_request_failure{err="generation"}') == failures + 1
    assert metric(url, "hfstream_permits_taken") == 0


def test_a_failure_of_a_whole_answer(url: str) -> None:
    response = ask(url, "break")
    words = "Request failed during generation: Server error: out of memory"
    assert (response.status_code, response.text) == (424, refusal(words, "generation", 424))


