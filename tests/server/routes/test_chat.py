"""OpenAI's chat completions, byte for byte, over HTTP, with a scripted engine."""

from __future__ import annotations

import json
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
    eventually,
    http,
    idle,
    ids,
    metric,
    pinned,
    user,
)

PATH = "/v1/chat/completions"
TURN: int = TOKENIZER.encode("<turn>").ids[0]
LOGPROB = "-0.007358551"
OUTPUTS: dict[str, Script] = {
    "Hi>": [*ids("aü"), EOS],
    "turn>": [ids("a")[0], TURN, ids("b")[0], EOS],
    "nothing>": [EOS],
    "half>": ids("🙂")[:1],
    "break>": [*ids("ab"), RuntimeError("out of memory")],
}


def script(job: EngineRequest) -> Script:
    if job.sampling.seed is not None and job.sampling.seed < 9:
        return [ids("abcdefghi")[job.sampling.seed], EOS]
    return OUTPUTS.get(TOKENIZER.decode(list(job.prompt)), ids("Hello, 中文! The end."))


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    return ScriptedEngine(script)


@pytest.fixture(scope="module")
def url(chat_model: Path, engine: ScriptedEngine) -> Iterator[str]:
    with BackgroundServer(Settings(model=str(chat_model)), engine=engine) as server:
        yield server.url


@pytest.fixture(scope="module")
def url_without_template(model: Path) -> Iterator[str]:
    with BackgroundServer(Settings(model=str(model)), engine=ScriptedEngine(script)) as server:
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


# --- responses --------------------------------------------------------------------------------------------------------


def test_a_stream_byte_for_byte(url: str) -> None:
    parts = [
        chunk(choice('"role":"assistant","content":"a"')),
        chunk(choice('"content":"ü"')),
        chunk(choice('"content":""', '"stop"')),
        "[DONE]",
    ]
    assert pinned(stream(url).decode()) == "".join(f"data: {part}\n\n" for part in parts)


def test_a_stream_with_usage(url: str) -> None:
    body = pinned(stream(url, stream_options={"include_usage": True}, max_tokens=1).decode())
    parts = [
        chunk(choice('"role":"assistant","content":"a"', '"length"')),
        chunk("", '{"prompt_tokens":4,"completion_tokens":1,"total_tokens":5}'),
        "[DONE]",
    ]
    assert body == "".join(f"data: {part}\n\n" for part in parts)


def test_a_response_that_is_not_streamed_byte_for_byte(url: str) -> None:
    response = ask(url)
    assert response.headers["content-type"] == "application/json"
    assert pinned(response.text) == (
        '{"id":"chatcmpl-ID","object":"chat.completion","created":0,"model":"m","choices":[{"index":0,'
        '"message":{"role":"assistant","content":"aü"},"finish_reason":"stop","logprobs":null}],'
        '"usage":{"prompt_tokens":4,"completion_tokens":3,"total_tokens":7},'
        f'"system_fingerprint":"hfstream-{__version__}"}}'
    )


def test_several_choices(url: str) -> None:
    complete = ask(url, n=3, seed=2).json()
    assert [(each["index"], each["message"]["content"]) for each in complete["choices"]] == [
        (0, "c"),
        (1, "d"),
        (2, "e"),
    ]
    assert complete["usage"] == {"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10}
    parts = chunks(stream(url, n=3, seed=2, stream_options={"include_usage": True}))
    assert parts[-1]["usage"] == complete["usage"]
    assert [part["usage"] for part in parts[:-1]] == [None] * 6
    choices = [each for part in parts for each in part["choices"]]
    for index, text in enumerate("cde"):
        own = [each for each in choices if each["index"] == index]
        assert [each["delta"].get("role") for each in own] == ["assistant", None]
        assert "".join(each["delta"]["content"] for each in own) == text
        assert [each["finish_reason"] for each in own] == [None, "stop"]


def test_each_choice_takes_a_permit_and_gives_it_back(url: str) -> None:
    assert ask(url, n=128, seed=100).status_code == 200
    assert eventually(lambda: idle(url))


def logprob(text: str, written: list[int], tops: str = "") -> str:
    token = f'{{"token":"{text}","logprob":{LOGPROB},"bytes":{str(written).replace(" ", "")}'
    return f'{token},"top_logprobs":[{tops}]}}'


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


def test_logprobs_of_a_response_are_those_of_its_text(url: str) -> None:
    body = ask(url, "turn", logprobs=True).text
    assert f'"logprobs":{{"content":[{logprob("a", [97])},{logprob("b", [98])}]}}' in body
    nothing = ask(url, "nothing", logprobs=True).json()["choices"][0]
    assert (nothing["message"]["content"], nothing["logprobs"]) == ("", None)
    assert ask(url, top_logprobs=2).json()["choices"][0]["logprobs"] is None


def test_the_bytes_of_parts_of_characters_make_the_text(url: str) -> None:
    """The parts have no text of their own, so only their bytes can be put together."""
    parts = [part["choices"][0]["logprobs"] for part in chunks(stream(url, "?", logprobs=True, top_logprobs=1))]
    tokens = [token for logprobs in parts if logprobs for token in logprobs["content"]]
    assert "" in [token["token"] for token in tokens]
    for each in (tokens, [token["top_logprobs"][0] for token in tokens]):
        assert bytes(byte for token in each for byte in token["bytes"]).decode() == "Hello, 中文! The end."


def test_a_special_token_is_a_chunk_without_text(url: str) -> None:
    deltas = [part["choices"][0]["delta"] for part in chunks(stream(url, "turn"))]
    assert deltas == [{"role": "assistant", "content": "a"}, {"content": ""}, {"content": "b"}, {"content": ""}]


def test_a_response_of_one_token_is_one_chunk(url: str) -> None:
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
def test_finish_reasons_and_stop_strings(url: str, fields: dict[str, Any], content: str, finish: str) -> None:
    (complete,) = ask(url, **fields).json()["choices"]
    assert (complete["message"]["content"], complete["finish_reason"]) == (content, finish)
    parts = [part["choices"][0] for part in chunks(stream(url, **fields))]
    assert "".join(part["delta"]["content"] for part in parts) == content
    assert [part["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + [finish]


def test_a_part_of_a_character_is_not_sent(url: str) -> None:
    (complete,) = ask(url, "half", max_tokens=1).json()["choices"]
    assert complete["message"]["content"] == ""


@pytest.mark.parametrize("fields", [{}, {"model": None}])
def test_without_a_model_the_response_names_the_servers_model(
    url: str, chat_model: Path, fields: dict[str, Any]
) -> None:
    response = http.post(url + PATH, json={"messages": user("Hi"), **fields})
    assert response.json()["model"] == str(chat_model)


def test_headers(url: str) -> None:
    complete, streamed = ask(url).headers, ask(url, stream=True).headers
    prompt = "Hi<turn>>"
    assert (complete["x-prompt-tokens"], complete["x-generated-tokens"]) == (str(len(ids(prompt))), "3")
    assert complete["x-compute-characters"] == streamed["x-compute-characters"] == str(len(prompt))
    assert streamed["content-type"] == "text/event-stream"
    assert streamed["cache-control"] == "no-cache"
    assert streamed["x-accel-buffering"] == "no"


# --- the prompt -------------------------------------------------------------------------------------------------------


def test_the_prompt_is_rendered_by_the_chat_template(url: str, engine: ScriptedEngine) -> None:
    ask(url)
    assert list(engine.submitted[-1].prompt) == ids("Hi<turn>>")
    ask(url, messages=[{"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]}])
    assert list(engine.submitted[-1].prompt) == ids("Hi<turn>>")


def test_an_assistant_message_at_the_end_is_continued(url: str, engine: ScriptedEngine) -> None:
    ask(url, messages=[*user("Hi"), {"role": "assistant", "content": "Well"}])
    assert list(engine.submitted[-1].prompt) == ids("Hi<turn>Well")
    ask(url, messages=[*user("Hi"), {"role": "assistant", "content": "Well"}, *user("?")])
    assert list(engine.submitted[-1].prompt) == ids("Hi<turn>Well?<turn>>")


def test_a_long_conversation_is_refused_by_its_length(url: str) -> None:
    refused = ask(url, messages=9_000 * user("é"))
    assert refused.status_code == 422
    assert refused.json()["error"]["message"].startswith(
        f"Input validation error: `messages` tokens + `max_tokens` must be <= {CONTEXT}"
    )


# --- errors -----------------------------------------------------------------------------------------------------------


def error_body(message: str, kind: str = "validation", status: int = 422, param: str | None = None) -> str:
    fields = f'"type":"{kind}","param":{json.dumps(param)},"code":"{kind}","http_status_code":{status}'
    return f'{{"error":{{"message":"{message}",{fields}}},"error_type":"{kind}"}}'


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"top_logprobs": 21}, "top_logprobs", "`top_logprobs` must be >= 0 and <= 20. Given: 21"),
        ({"presence_penalty": 3}, "presence_penalty", "`presence_penalty` must be >= -2.0 and <= 2.0"),
        ({"n": 129}, "n", "`n` must be > 0 and <= 128. Given: 129"),
        (
            {"tools": [{"type": "web_search"}]},
            "tools",
            "`tools` of type 'web_search' are not supported, only functions are",
        ),
        ({"messages": []}, "messages", "`messages` cannot be empty"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages",
            "`messages` with parts of type `image_url` are not supported, this model reads text only",
        ),
    ],
)
def test_an_invalid_request_gets_a_422_in_openais_format(
    url: str, fields: dict[str, Any], param: str, message: str, streamed: bool
) -> None:
    failures = metric(url, 'tgi_request_failure{err="validation"}')
    response = ask(url, stream=streamed, **fields)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/json"
    assert response.text == error_body(f"Input validation error: {message}", param=param)
    assert metric(url, 'tgi_request_failure{err="validation"}') == failures + 1
    assert metric(url, "hfstream_permits_taken") == 0


def test_a_template_that_raises_an_error(url: str) -> None:
    failures = metric(url, 'tgi_request_failure{err="template"}')
    for streamed in (False, True):
        refused = ask(url, messages=[{"role": "no", "content": "a"}], stream=streamed)
        assert (refused.status_code, refused.text) == (422, error_body("Template error: No!", "template_error"))
    assert metric(url, 'tgi_request_failure{err="template"}') == failures + 2


def test_a_model_without_a_template(url_without_template: str) -> None:
    refused = ask(url_without_template)
    message = "Template error: template not found"
    assert (refused.status_code, refused.text) == (422, error_body(message, "template_error"))
    native = ask(url_without_template, path="/chat_tokenize")
    assert (native.status_code, native.text) == (422, f'{{"error":"{message}","error_type":"template_error"}}')


def test_a_failure_in_a_stream_is_an_event_before_the_done_event(url: str) -> None:
    failures = metric(url, 'tgi_request_failure{err="generation"}')
    first, second, failure, done = stream(url, "break").decode().removesuffix("\n\n").split("\n\n")
    assert '"content":"a"' in first
    assert '"content":"b"' in second
    assert failure == "data: " + error_body(
        "Request failed during generation: Server error: out of memory", "generation", 424
    )
    assert done == "data: [DONE]"
    assert metric(url, 'tgi_request_failure{err="generation"}') == failures + 1
    assert metric(url, "hfstream_permits_taken") == 0


def test_a_failure_of_a_response_that_is_not_streamed(url: str) -> None:
    response = ask(url, "break")
    message = "Request failed during generation: Server error: out of memory"
    assert (response.status_code, response.text) == (424, error_body(message, "generation", 424))
