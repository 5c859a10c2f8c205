"""/v1/completions, byte for byte, from a real port; an engine that says what it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hfstream.server import BackgroundServer, Settings
from hfstream.server.engine.protocol import EngineRequest
from hfstream.version import __version__
from tests.helpers.scripted_engine import (
    EOS,
    TOKENIZER,
    Script,
    ScriptedEngine,
    chunks,
    http,
    ids,
    joined,
    metric,
    pinned,
    save_tokenizer,
)

PATH = "/v1/completions"
TURN: int = TOKENIZER.encode("<turn>").ids[0]
A, U = ids("a")[0], ids("ü")[0]
SPEECHES: dict[str, Script] = {
    "Hi": [A, U, EOS],
    "turn": [A, TURN, U, EOS],
    "break": [A, RuntimeError("out of memory")],
}


def speak(job: EngineRequest) -> Script:
    return SPEECHES.get(TOKENIZER.decode(list(job.prompt)), ids("Hello, 中文! The end."))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = save_tokenizer(tmp_path_factory.mktemp("model"))
    with BackgroundServer(Settings(model=str(model)), engine=ScriptedEngine(speak)) as server:
        yield server.url


def ask(url: str, prompt: Any = "Hi", **fields: Any) -> httpx.Response:
    body = {"prompt": prompt, "model": "m", "temperature": 0, **fields}
    response: httpx.Response = http.post(url + PATH, json=body)
    return response


def stream(url: str, prompt: Any = "Hi", **fields: Any) -> bytes:
    response = ask(url, prompt, stream=True, **fields)
    assert response.status_code == 200
    return response.content


def head(choices: str, usage: str) -> str:
    return (
        f'{{"object":"text_completion","id":"cmpl-ID","model":"m","created":0,'
        f'"system_fingerprint":"hfstream-{__version__}","choices":[{choices}],"usage":{usage}'
    )


def choice(text: str, finish: str = "null", logprobs: str = "null") -> str:
    return f'{{"index":0,"text":"{text}","logprobs":{logprobs},"finish_reason":{finish}}}'


def native(index: int, token: int, text: str, special: str = "false", rest: str = "null", details: str = "null") -> str:
    told = f'{{"id":{token},"text":"{text}","logprob":-0.007358551,"special":{special}}}'
    return f',"index":{index},"token":{told},"generated_text":{rest},"details":{details}}}'


USAGE = '{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}'
DETAILS = '{"finish_reason":"eos_token","generated_tokens":3,"seed":null,"input_length":2}'
LAST = native(3, EOS, "<eos>", "true", '"aü"', DETAILS)


def test_a_stream_byte_for_byte(url: str) -> None:
    """OpenAI's fields, TGI's beside them; and what it took in the last chunk, as TGI tells it."""
    parts = [
        head(choice("a"), "null") + native(1, A, "a"),
        head(choice("ü"), "null") + native(2, U, "ü"),
        head(choice("", '"stop"'), USAGE) + LAST,
        "[DONE]",
    ]
    assert pinned(stream(url).decode()) == "".join(f"data: {part}\n\n" for part in parts)


def test_a_stream_that_was_asked_what_it_took(url: str) -> None:
    parts = [
        head(choice("a"), "null") + native(1, A, "a"),
        head(choice("ü"), "null") + native(2, U, "ü"),
        head(choice("", '"stop"'), "null") + LAST,
        head("", USAGE) + "}",
        "[DONE]",
    ]
    body = pinned(stream(url, stream_options={"include_usage": True}).decode())
    assert body == "".join(f"data: {part}\n\n" for part in parts)


def test_a_whole_answer_byte_for_byte(url: str) -> None:
    for prompt in ("Hi", ["Hi"]):
        assert pinned(ask(url, prompt).text) == head(choice("aü", '"stop"'), USAGE) + "}"


def test_logprobs(url: str) -> None:
    whole = ask(url, "turn", logprobs=1).json()["choices"][0]
    assert whole == {
        "index": 0,
        "text": "aü",
        "logprobs": {
            "tokens": ["a", "ü"],
            "token_logprobs": [-0.007358551, -0.007358551],
            "top_logprobs": [{"a": -0.007358551}, {"ü": -0.007358551}],
            "text_offset": [0, 1],
        },
        "finish_reason": "stop",
    }
    parts = [part["choices"][0]["logprobs"] for part in chunks(stream(url, "turn", logprobs=1))]
    assert [part and (part["tokens"], part["text_offset"]) for part in parts] == [
        (["a"], [0]), None, (["ü"], [1]), None,
    ]  # fmt: skip
    none = ask(url, logprobs=0).json()["choices"][0]["logprobs"]
    assert (none["tokens"], none["top_logprobs"]) == (["a", "ü"], None)


def test_a_special_token_is_no_text(url: str) -> None:
    parts = chunks(stream(url, "turn"))
    assert [part["choices"][0]["text"] for part in parts] == ["a", "", "ü", ""]
    assert parts[1]["token"] == {"id": TURN, "text": "<turn>", "logprob": -0.007358551, "special": True}


@pytest.mark.parametrize(
    ("fields", "text", "finish", "reason"),
    [
        ({"max_tokens": 2}, "aü", "length", "length"),
        ({"stop": "ü"}, "a", "stop", "stop_sequence"),
        ({"max_tokens": None}, "aü", "stop", "eos_token"),
    ],
)
def test_why_an_answer_ends(url: str, fields: dict[str, Any], text: str, finish: str, reason: str) -> None:
    (whole,) = ask(url, **fields).json()["choices"]
    assert (whole["text"], whole["finish_reason"]) == (text, finish)
    parts = chunks(stream(url, **fields))
    assert [part["choices"][0]["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + [finish]
    assert "".join(part["choices"][0]["text"] for part in parts) == text
    # TGI's fields beside OpenAI's say it as TGI does: the stop string is part of the text.
    assert joined(parts) == parts[-1]["generated_text"] == text + (fields.get("stop") or "")
    assert parts[-1]["details"]["finish_reason"] == reason


def test_the_prompt_of_a_model_is_encoded_as_its_tokenizer_wants(url: str) -> None:
    headers = ask(url).headers
    assert (headers["x-prompt-tokens"], headers["x-compute-characters"]) == (str(len(ids("Hi"))), "2")
    assert headers["x-generated-tokens"] == "3"


def test_seeds_are_told_where_they_were_used(url: str) -> None:
    sampled = chunks(stream(url, seed=7, temperature=None))[-1]
    assert sampled["details"]["seed"] == 7
    assert chunks(stream(url, seed=7))[-1]["details"]["seed"] is None


def refusal(words: str, kind: str = "validation", status: int = 422) -> str:
    return (
        f'{{"error":{{"message":"{words}","type":"{kind}","param":null,"code":"{kind}","http_status_code":{status}}},'
        f'"error_type":"{kind}"}}'
    )


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("fields", "words", "kind"),
    [
        (
            {"suffix": "x"},
            "Suffix is not supported and can be achieved by preprocessing the prompt.",
            "suffix not supported",
        ),
        (
            {"prompt": ["a", "b"]},
            "Number of prompts exceeds the maximum allowed batch size of 1",
            "batch size exceeded",
        ),
        ({"echo": True}, "Input validation error: `echo` is not supported", "validation"),
        ({"n": 2}, "Input validation error: `n` != 1 is not supported", "validation"),
        ({"logprobs": 6}, "Input validation error: `top_n_tokens` must be >= 0 and <= 5. Given: 6", "validation"),
        ({"prompt": ""}, "Input validation error: `inputs` cannot be empty", "validation"),
    ],
)
def test_refusals(url: str, fields: dict[str, Any], words: str, kind: str, streamed: bool) -> None:
    failures = metric(url, 'tgi_request_failure{err="validation"}')
    response = ask(url, stream=streamed, **fields)
    assert (response.status_code, response.text) == (422, refusal(words, kind))
    assert metric(url, 'tgi_request_failure{err="validation"}') == failures + 1


@pytest.mark.parametrize(
    ("streamed", "words"),
    [(True, "not supported when streaming tokens"), (False, "not allowed for this endpoint")],
)
def test_several_at_once_are_refused(url: str, streamed: bool, words: str) -> None:
    response = ask(url, stream=streamed, best_of=2)
    assert (response.status_code, response.text) == (
        422,
        refusal(f"Input validation error: `best_of` != 1 is {words}"),
    )


def test_an_empty_list_of_prompts_is_malformed(url: str) -> None:
    response = ask(url, [])
    assert (response.status_code, response.headers["content-type"]) == (422, "application/json")
    assert "Empty array detected" in response.json()["error"]["message"]


def test_a_failure_in_a_stream_is_an_event_and_then_it_is_done(url: str) -> None:
    told = refusal("Request failed during generation: Server error: out of memory", "generation", 424)
    first, failure, done = stream(url, "break").decode().removesuffix("\n\n").split("\n\n")
    assert '"text":"a"' in first
    assert (failure, done) == (f"data: {told}", "data: [DONE]")
    whole = ask(url, "break")
    assert (whole.status_code, whole.text) == (424, told)
