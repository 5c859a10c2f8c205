"""OpenAI's completions, byte for byte, over HTTP, with a scripted engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hfstream.server import BackgroundServer, Settings
from hfstream.server.engine.protocol import EngineRequest
from hfstream.server.routes import endpoint
from hfstream.version import __version__
from tests.helpers.scripted_engine import (
    EOS,
    TOKENIZER,
    Script,
    ScriptedEngine,
    chunks,
    http,
    ids,
    joined_text,
    metric,
    pinned,
)

PATH = "/v1/completions"
TURN: int = TOKENIZER.encode("<turn>").ids[0]
A, U = ids("a")[0], ids("ü")[0]
OUTPUTS: dict[str, Script] = {
    "Hi": [A, U, EOS],
    "turn": [A, TURN, U, EOS],
    "break": [A, RuntimeError("out of memory")],
}


def script(job: EngineRequest) -> Script:
    if job.sampling.seed is not None and job.sampling.seed < 9:
        return [ids("abcdefghi")[job.sampling.seed], EOS]
    return OUTPUTS.get(TOKENIZER.decode(list(job.prompt)), ids("Hello, 中文! The end."))


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    with BackgroundServer(Settings(model=str(model)), engine=ScriptedEngine(script)) as server:
        yield server.url


def ask(url: str, prompt: Any = "Hi", **fields: Any) -> httpx.Response:
    body = {"prompt": prompt, "model": "m", "temperature": 0, **fields}
    response: httpx.Response = http.post(url + PATH, json=body)
    return response


def stream(url: str, prompt: Any = "Hi", **fields: Any) -> bytes:
    response = ask(url, prompt, stream=True, **fields)
    assert response.status_code == 200
    return response.content


def chunk(choices: str, usage: str) -> str:
    return (
        f'{{"object":"text_completion","id":"cmpl-ID","model":"m","created":0,'
        f'"system_fingerprint":"hfstream-{__version__}","choices":[{choices}],"usage":{usage}'
    )


def choice(text: str, finish: str = "null", logprobs: str = "null") -> str:
    return f'{{"index":0,"text":"{text}","logprobs":{logprobs},"finish_reason":{finish}}}'


def tgi_fields(
    index: int, token: int, text: str, special: str = "false", rest: str = "null", details: str = "null"
) -> str:
    token_json = f'{{"id":{token},"text":"{text}","logprob":-0.007358551,"special":{special}}}'
    return f',"index":{index},"token":{token_json},"generated_text":{rest},"details":{details}}}'


USAGE = '{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}'
DETAILS = '{"finish_reason":"eos_token","generated_tokens":3,"seed":null,"input_length":2}'
LAST = tgi_fields(3, EOS, "<eos>", "true", '"aü"', DETAILS)


def test_a_stream_byte_for_byte(url: str) -> None:
    """OpenAI's fields, TGI's beside them, and the usage in the last chunk, as in TGI."""
    parts = [
        chunk(choice("a"), "null") + tgi_fields(1, A, "a"),
        chunk(choice("ü"), "null") + tgi_fields(2, U, "ü"),
        chunk(choice("", '"stop"'), USAGE) + LAST,
        "[DONE]",
    ]
    assert pinned(stream(url).decode()) == "".join(f"data: {part}\n\n" for part in parts)


def test_a_stream_with_include_usage(url: str) -> None:
    parts = [
        chunk(choice("a"), "null") + tgi_fields(1, A, "a"),
        chunk(choice("ü"), "null") + tgi_fields(2, U, "ü"),
        chunk(choice("", '"stop"'), "null") + LAST,
        chunk("", USAGE) + "}",
        "[DONE]",
    ]
    body = pinned(stream(url, stream_options={"include_usage": True}).decode())
    assert body == "".join(f"data: {part}\n\n" for part in parts)


def test_a_response_that_is_not_streamed_byte_for_byte(url: str) -> None:
    for prompt in ("Hi", ["Hi"]):
        assert pinned(ask(url, prompt).text) == chunk(choice("aü", '"stop"'), USAGE) + "}"


def test_logprobs(url: str) -> None:
    complete = ask(url, "turn", logprobs=1).json()["choices"][0]
    assert complete == {
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


def test_an_echo(url: str) -> None:
    assert ask(url, echo=True).json()["choices"][0]["text"] == "Hiaü"
    assert [part["choices"][0]["text"] for part in chunks(stream(url, echo=True))] == ["Hia", "ü", ""]
    assert ask(url, "Hi", echo=True, stop="ü").json()["choices"][0]["text"] == "Hia"
    assert ask(url, [TURN, *ids("Hi")], echo=True).json()["choices"][0]["text"].startswith("<turn>Hi")


@pytest.mark.parametrize("stop", ["Hi", "i", "ia"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_stop_string_at_the_end_of_an_echo_is_left_alone(url: str, stop: str, streamed: bool) -> None:
    fields: dict[str, Any] = {"echo": True, "max_tokens": 1, "stop": stop}
    parts = chunks(stream(url, "Hi", **fields)) if streamed else [ask(url, "Hi", **fields).json()]
    assert [part["choices"][0]["text"] for part in parts] == ["Hia"]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("prompt", "kept"), [("Hi, world", 3), ("Hi<turn>yo", 3), ("Hi", 2), ("a<turn>", 1)])
def test_offsets_of_a_truncated_echo_are_those_of_the_whole_prompt(
    url: str, prompt: str, kept: int, streamed: bool
) -> None:
    fields: dict[str, Any] = {"echo": True, "logprobs": 0, "max_tokens": 2, "truncate": kept}
    parts = chunks(stream(url, prompt, **fields)) if streamed else [ask(url, prompt, **fields).json()]
    text = "".join(part["choices"][0]["text"] for part in parts)
    found = [
        (token, text[offset : offset + len(token)])
        for logprobs in (part["choices"][0]["logprobs"] for part in parts)
        for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True)
    ]
    assert len(found) == kept + 2
    assert [token for token, _ in found] == [there for _, there in found]


def test_an_echo_with_logprobs(url: str) -> None:
    """The first token has none; a special token is part of the text if the prompt has it."""
    prompt = [TURN, *ids("Hi")]
    complete = ask(url, prompt, echo=True, logprobs=1, max_tokens=1).json()["choices"][0]
    logprobs = complete["logprobs"]
    assert "".join(logprobs["tokens"]) == complete["text"]
    assert logprobs["tokens"][0] == "<turn>"
    assert logprobs["token_logprobs"] == [None, *[-0.007358551] * (len(prompt))]
    assert logprobs["top_logprobs"] == [None, *({each: -0.007358551} for each in logprobs["tokens"][1:])]
    assert logprobs["text_offset"] == [len("".join(logprobs["tokens"][:i])) for i in range(len(prompt) + 1)]
    (part,) = chunks(stream(url, prompt, echo=True, logprobs=1, max_tokens=1))
    assert part["choices"][0] == complete


@pytest.mark.parametrize("streamed", [False, True])
def test_a_long_echo_is_formatted_on_another_thread(url: str, streamed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def formatted() -> list[Any]:
        if streamed:
            return [part["choices"] for part in chunks(stream(url, echo=True, logprobs=1))]
        return [ask(url, echo=True, logprobs=1).json()["choices"]]

    expected = formatted()
    monkeypatch.setattr(endpoint, "INLINE_TOKENS", 0)
    assert formatted() == expected


def test_an_echo_without_new_tokens(url: str) -> None:
    fields: dict[str, Any] = {"echo": True, "max_tokens": 0, "logprobs": 0}
    body = ask(url, **fields).json()
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 0, "total_tokens": 2}
    [complete] = body["choices"]
    assert (complete["text"], complete["finish_reason"]) == ("Hi", "length")
    assert (complete["logprobs"]["tokens"], complete["logprobs"]["top_logprobs"]) == (["H", "i"], None)
    (part,) = chunks(stream(url, **fields))
    assert part["choices"] == body["choices"]
    assert "token" not in part


def test_a_special_token_is_a_chunk_without_text(url: str) -> None:
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
def test_finish_reasons_and_stop_strings(url: str, fields: dict[str, Any], text: str, finish: str, reason: str) -> None:
    (complete,) = ask(url, **fields).json()["choices"]
    assert (complete["text"], complete["finish_reason"]) == (text, finish)
    parts = chunks(stream(url, **fields))
    assert [part["choices"][0]["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + [finish]
    assert "".join(part["choices"][0]["text"] for part in parts) == text
    # In TGI's fields the stop string is part of the text.
    assert joined_text(parts) == parts[-1]["generated_text"] == text + (fields.get("stop") or "")
    assert parts[-1]["details"]["finish_reason"] == reason


def test_headers(url: str) -> None:
    headers = ask(url).headers
    assert (headers["x-prompt-tokens"], headers["x-compute-characters"]) == (str(len(ids("Hi"))), "2")
    assert headers["x-generated-tokens"] == "3"


def test_the_seed_is_reported_where_it_was_used(url: str) -> None:
    sampled = chunks(stream(url, seed=7, temperature=None))[-1]
    assert sampled["details"]["seed"] == 7
    assert chunks(stream(url, seed=7))[-1]["details"]["seed"] is None


def error_body(message: str, kind: str = "validation", status: int = 422, param: str | None = None) -> str:
    fields = f'"type":"{kind}","param":{json.dumps(param)},"code":"{kind}","http_status_code":{status}'
    return f'{{"error":{{"message":"{message}",{fields}}},"error_type":"{kind}"}}'


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("fields", "param", "message", "kind"),
    [
        (
            {"suffix": "x"},
            None,
            "Suffix is not supported and can be achieved by preprocessing the prompt.",
            "suffix not supported",
        ),
        (
            {"prompt": ["a", "b", "c", "d", "e"]},
            None,
            "Number of prompts exceeds the maximum allowed batch size of 4",
            "batch size exceeded",
        ),
        (
            {"prompt": [1, 9999]},
            "prompt",
            "Input validation error: `prompt` must have ids of tokens, 0 to 314. Given: 9999",
            "validation",
        ),
        ({"prompt": [[]]}, "prompt", "Input validation error: `prompt` cannot be empty", "validation"),
        ({"n": 0}, "n", "Input validation error: `n` must be > 0 and <= 128. Given: 0", "validation"),
        (
            {"n": 3, "best_of": 2},
            "best_of",
            "Input validation error: `best_of` must be >= `n`. Given: 2 and 3",
            "validation",
        ),
        (
            {"best_of": 21},
            "best_of",
            "Input validation error: `best_of` must be > 0 and <= 20. Given: 21",
            "validation",
        ),
        (
            {"logprobs": 6},
            "logprobs",
            "Input validation error: `logprobs` must be >= 0 and <= 5. Given: 6",
            "validation",
        ),
        ({"prompt": ""}, "prompt", "Input validation error: `prompt` cannot be empty", "validation"),
    ],
)
def test_an_invalid_request_gets_a_422_in_openais_format(
    url: str, fields: dict[str, Any], param: str | None, message: str, kind: str, streamed: bool
) -> None:
    failures = metric(url, 'tgi_request_failure{err="validation"}')
    response = ask(url, stream=streamed, **fields)
    assert (response.status_code, response.text) == (422, error_body(message, kind, param=param))
    assert metric(url, 'tgi_request_failure{err="validation"}') == failures + 1


def test_more_generations_than_choices_cannot_be_streamed(url: str) -> None:
    response = ask(url, stream=True, best_of=2)
    message = "Input validation error: `best_of` > `n` is not supported when streaming tokens"
    assert (response.status_code, response.text) == (422, error_body(message, param="best_of"))
    assert "".join(part["choices"][0]["text"] for part in chunks(stream(url, best_of=1))) == "aü"


def test_choices_of_several_prompts(url: str) -> None:
    """Numbered in the order of the prompts; a prompt's tokens count once."""
    body = ask(url, ["Hi", "Hi"], n=2, seed=3, temperature=1).json()
    assert [(each["index"], each["text"]) for each in body["choices"]] == [(0, "d"), (1, "e"), (2, "d"), (3, "e")]
    assert body["usage"] == {"prompt_tokens": 4, "completion_tokens": 8, "total_tokens": 12}
    fields: dict[str, Any] = {"n": 2, "seed": 3, "temperature": 1}
    parts = chunks(stream(url, ["Hi", "Hi"], **fields))
    texts = ["", "", "", ""]
    for part in parts:
        texts[part["choices"][0]["index"]] += part["choices"][0]["text"]
    assert texts == ["d", "e", "d", "e"]
    ends = [part["usage"] for part in parts if part["choices"][0]["finish_reason"]]
    assert ends == 4 * [{"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}], "as TGI's"
    *_, total = chunks(stream(url, ["Hi", "Hi"], **fields, stream_options={"include_usage": True}))
    assert (total["choices"], total["usage"]) == ([], body["usage"])


def test_the_best_of_several_generations_are_returned(url: str) -> None:
    body = ask(url, n=2, best_of=4, seed=0, temperature=1).json()
    assert [(each["index"], each["text"]) for each in body["choices"]] == [(0, "a"), (1, "b")]
    assert body["usage"]["completion_tokens"] == 8, "all that were generated"


def test_a_prompt_of_token_ids(url: str) -> None:
    assert ask(url, ids("Hi")).json()["choices"][0]["text"] == "aü"
    body = ask(url, [ids("turn"), ids("Hi")]).json()
    assert [each["text"] for each in body["choices"]] == ["aü", "aü"]
    assert body["usage"]["prompt_tokens"] == len(ids("turn")) + len(ids("Hi"))
    assert ask(url, [TURN, *ids("Hi")]).headers["x-compute-characters"] == str(len("<turn>Hi"))


def test_an_empty_list_of_prompts_is_malformed(url: str) -> None:
    response = ask(url, [])
    assert (response.status_code, response.headers["content-type"]) == (422, "application/json")
    assert "Empty array detected" in response.json()["error"]["message"]


def test_a_failure_in_a_stream_is_an_event_before_the_done_event(url: str) -> None:
    error = error_body("Request failed during generation: Server error: out of memory", "generation", 424)
    first, failure, done = stream(url, "break").decode().removesuffix("\n\n").split("\n\n")
    assert '"text":"a"' in first
    assert (failure, done) == (f"data: {error}", "data: [DONE]")
    complete = ask(url, "break")
    assert (complete.status_code, complete.text) == (424, error)
