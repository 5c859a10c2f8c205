"""Whole responses in the shapes of many servers, and what a client should read of them.

A shape is what a server's stream looks like, with short texts in it. Does not depend on hfstream or on another client.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.helpers.recordings import DONE, RECORDINGS, call, choice, chunk, counts, event

__all__ = ["Call", "Stream", "shapes"]

Call = tuple[str, str]
"""Name and arguments of a tool call."""


@dataclass(frozen=True)
class Stream:
    """One response: its body, and what is in it."""

    name: str
    task: str
    """``chat``, ``completion`` or ``text`` (TGI's own route)."""
    events: tuple[bytes, ...]
    text: str
    """The text of the first choice."""
    calls: tuple[Call, ...] = ()
    labels: frozenset[str] = frozenset()
    """What was done to the shape that can matter."""


def _event(payload: Any) -> bytes:
    return event(payload)


def _chat(head: dict[str, Any], *choices: dict[str, Any], last: dict[str, Any] | None = None) -> list[bytes]:
    chunks = [_event({**head, "choices": [each]}) for each in choices]
    return chunks if last is None else [*chunks, _event({**head, **last})]


def _head(id_: str, model: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "object": "chat.completion.chunk", "created": 1760000000, "model": model, **more}


WORDS = ("Hel", "lo", ", Zoë", " 👋")
TEXT = "".join(WORDS)


def _words(**more: Any) -> list[dict[str, Any]]:
    return [{**choice(content=word), **more} for word in WORDS]


def _plain(head: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """A role, the words, a finish reason."""
    return [choice(role="assistant", content=""), *_words(**more), {**choice(0, "stop"), **more}]


USAGE = counts(5, 4)
CITED = ["https://example.org/1"]


def _chat_shapes() -> dict[str, list[bytes]]:
    """Chats whose text is `TEXT`."""
    moonshot = _head("cmpl-k", "kimi-k2", system_fingerprint="fpv0_x")
    minimax = _head("0575", "MiniMax-M2", base_resp={"status_code": 0, "status_msg": ""}, input_sensitive=False)
    gemini = _head("gm", "gemini-2.5-flash")
    cohere = _head("c-1", "command-a", system_fingerprint="")
    ollama = _head("chatcmpl-1", "qwen3", system_fingerprint="fp_ollama")
    sglang = _head("9f", "Qwen/Qwen3-8B")
    lm_studio = _head("chatcmpl-l", "qwen3-4b", system_fingerprint="qwen3-4b", stats={})
    litellm = _head("chatcmpl-ll", "claude", system_fingerprint=None, citations=None)
    cloudflare = _head("id-1", "@cf/meta/llama-3.1-8b", p="abdefgh")
    anthropic = _head("msg_01", "claude-sonnet", system_fingerprint=None, service_tier=None)
    perplexity = _head("p-1", "sonar", citations=CITED, search_results=[{"title": "t", "url": CITED[0]}], usage=USAGE)
    together = _head("o-1", "meta-llama/Llama-3.3-70B", prompt=[])
    fireworks = _head("f-1", "accounts/fireworks/models/llama", perf_metrics=None, prompt_token_ids=None)
    openrouter = _head("gen-2", "qwen/qwen3", provider="Nebius")
    whole = {"message": {"role": "assistant", "content": ""}}  # Perplexity repeats it beside the delta
    return {
        "Moonshot": [*_chat(moonshot, *_plain(moonshot)[:-1], {**choice(0, "stop"), "usage": USAGE}), DONE],
        "MiniMax": [*_chat(minimax, *_plain(minimax), last={"choices": [], "usage": USAGE}), DONE],
        "Gemini": [*_chat(gemini, *_words(), {**choice(0, "stop", role="assistant")}), DONE],
        "Cohere": [*_chat(cohere, choice(role="assistant"), *_words(), choice(0, "stop")), DONE],
        "Ollama": [*_chat(ollama, *({**each} for each in _words()), choice(0, "stop", content="")), DONE],
        "SGLang": [*_chat(sglang, *_plain(sglang, matched_stop=None, hidden_states=None)), DONE],
        "LM Studio": [*_chat(lm_studio, *_words(logprobs=None), choice(0, "stop")), DONE],
        "LiteLLM": [*_chat(litellm, *_words(), choice(0, "stop"), last={"choices": [choice()], "usage": USAGE}), DONE],
        "Cloudflare": [*_chat(cloudflare, *_plain(cloudflare)), _event({"response": "", "usage": USAGE}), DONE],
        "Anthropic": [*_chat(anthropic, *_plain(anthropic)), DONE],
        "Perplexity": _chat(perplexity, *_words(**whole), {**choice(0, "stop", content=""), **whole}),
        "Together": [
            *_chat(together, *({**each, "text": each["delta"]["content"], "seed": 1} for each in _words())),
            *_chat(together, {**choice(0, "stop", content=""), "text": "", "seed": 1}),
            DONE,
        ],
        "Fireworks": [*_chat(fireworks, *_plain(fireworks), last={"choices": [], "usage": USAGE}), DONE],
        "OpenRouter, cost": [
            b": OPENROUTER PROCESSING\n\n", *_chat(openrouter, *_words(native_finish_reason=None)),
            *_chat(openrouter, choice(0, "stop")), _event({"cost": 0.1}), DONE,
        ],
        "OpenAI, audio and annotations": [
            *_chat(_head("chatcmpl-a", "gpt-4o"), choice(role="assistant", content=""), *_words(logprobs=None)),
            *_chat(_head("chatcmpl-a", "gpt-4o"), choice(annotations=[{"type": "url_citation"}]), choice(0, "stop")),
            DONE,
        ],
    }  # fmt: skip


def _completion_shapes() -> dict[str, list[bytes]]:
    """Completions whose text is `TEXT`."""

    def each(head: dict[str, Any], more: dict[str, Any], reason: str = "stop", *tail: bytes) -> list[bytes]:
        choices = [{"index": 0, "text": word, "finish_reason": None, **more} for word in WORDS]
        choices.append({"index": 0, "text": "", "finish_reason": reason, **more})
        return [*(_event({**head, "choices": [one]}) for one in choices), *tail, DONE]

    def head(id_: str, **more: Any) -> dict[str, Any]:
        return {"id": id_, "object": "text_completion", "created": 1760000000, "model": "m", **more}

    usage = _event({**head("cmpl"), "choices": [], "usage": USAGE})
    logprobs = {"tokens": ["x"], "token_logprobs": [-0.5], "top_logprobs": [{"x": -0.5}], "text_offset": [0]}
    azure = {"content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}
    return {
        "OpenAI": each(head("cmpl"), {"logprobs": None}, "length", usage),
        "OpenAI, logprobs": each(head("cmpl"), {"logprobs": logprobs}),
        "vLLM": each(
            head("cmpl", usage=None), {"logprobs": None, "stop_reason": None, "token_ids": None}, "stop", usage
        ),
        "SGLang": each(head("9f"), {"logprobs": None, "matched_stop": 151643, "hidden_states": None}),
        "llama.cpp": each(head("chatcmpl-x", timings={"prompt_n": 1}), {"logprobs": None}),
        "Ollama": each(head("cmpl-1", system_fingerprint="fp_ollama"), {}),
        "LM Studio": each(head("cmpl-l"), {"logprobs": None}, "stop", usage),
        "Together": each(head("o-1", prompt=[]), {"seed": 1, "delta": {"content": ""}, "generated_text": None}),
        "Fireworks": each(head("f-1", usage=USAGE), {"logprobs": None}),
        "Azure": [_event({**head(""), "choices": [], "prompt_filter_results": [{}]}), *each(head("az"), azure)],
        "DeepSeek": each(head("ds"), {"logprobs": None}, "length"),
        "Mistral, Moonshot, Groq": each(head("x", x_groq={"id": "r"}), {"usage": USAGE}),
        "TGI": each(head("", object="text_completion", system_fingerprint="3.3.7"), {"logprobs": None}, "eos_token"),
    }


def _text_shapes() -> dict[str, list[bytes]]:
    """Streams of TGI's own route whose text is `TEXT`."""

    def token(number: int, text: str, **more: Any) -> dict[str, Any]:
        token = {"id": 100 + number, "text": text, "logprob": -0.25, "special": False}
        return {"index": number, "token": token, "generated_text": None, "details": None, **more}

    def tokens(**more: Any) -> list[dict[str, Any]]:
        return [token(number, word, **more) for number, word in enumerate(WORDS, 1)]

    details = {"finish_reason": "length", "generated_tokens": 4, "seed": None, "input_length": 3}
    end = {"generated_text": TEXT, "details": details}
    special = token(5, "</s>", generated_text=TEXT, details={**details, "finish_reason": "eos_token"})
    special["token"]["special"] = True
    old = [{name: value for name, value in each.items() if name != "index"} for each in tokens()]
    top = [{"id": 9, "text": "x", "logprob": -3.5, "special": False}]
    return {
        "TGI 3, length": [_event(each) for each in [*tokens()[:-1], {**tokens()[-1], **end}]],
        "TGI 3, end of sequence": [_event(each) for each in [*tokens(), special]],
        "TGI 1": [_event(each) for each in [*old, {**special, "index": None}]],
        "TGI, top tokens": [_event(each) for each in [*tokens(top_tokens=top), special]],
        "TGI, keep-alives": [each for one in [*tokens(), special] for each in (b":\n\n", _event(one))],
        "LMI": [_event({"token": each["token"]}) for each in tokens()] + [_event(special)],
    }


def _of_recording(name: str) -> Stream:
    recording = RECORDINGS[name]
    message = recording.whole["choices"][0]["message"]
    calls = tuple((each["function"]["name"], each["function"]["arguments"]) for each in message.get("tool_calls") or ())
    return Stream(name, "chat", tuple(recording.events), message.get("content") or "", calls)


def shapes() -> Iterator[Stream]:
    """All shapes, as a server sends them."""
    yield from map(_of_recording, RECORDINGS)
    made = {"chat": _chat_shapes(), "completion": _completion_shapes(), "text": _text_shapes()}
    for task, found in made.items():
        for name, events in found.items():
            yield Stream(name, task, tuple(events), TEXT)
    weather = call("call_1", "weather", "")
    pieces = [
        {"index": 0, **weather},
        *({"index": 0, "function": {"arguments": part}} for part in ('{"city"', ':"Köln"}')),
    ]
    called = [chunk(tool_calls=[piece]) for piece in pieces]
    yield Stream(
        "OpenAI, a call in pieces", "chat", (chunk(role="assistant", content=None), *called, chunk("tool_calls"), DONE),
        "", (("weather", '{"city":"Köln"}'),),
    )  # fmt: skip
