"""Complete chats in another form: text elsewhere, what says nothing about the text, tool calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...core.sse import encode
from ..events import DONE, chat_event
from ..response import Fault, Response
from .entries import FINISH, HEL, HELLO, LO, UnusualResponse, choice, event, read, whole_answer

__all__ = ["FRAMING", "PASSED_OVER", "TEXT_ELSEWHERE", "TOOL_CALLS"]

WHOLE = {"role": "assistant", "content": "Hello"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def _call(arguments: Any, **fields: Any) -> bytes:
    return chat_event(tool_calls=[{"function": {"name": "f", "arguments": arguments}, **fields}])


TEXT_ELSEWHERE: Mapping[str, UnusualResponse] = {
    "one chunk with the message": read(
        "a gateway wraps a whole answer into one event", choice(message=WHOLE, finish_reason="stop"), DONE
    ),
    "a message each": read(
        "the text in `message` instead of `delta`",
        choice(message={"content": "Hel"}), choice(message={"content": "lo"}), choice(finish_reason="stop"),
    ),
    "a text each": read(
        "the text in `text`, as in a completion",
        choice(text="Hel"), choice(text="lo"), choice(text="", finish_reason="stop"),
    ),
    "a message beside a null": read(
        "a gateway that has one class for both forms sends a `delta` of null beside the message",
        *(choice(delta=None, message={"content": text}) for text in ("Hel", "lo")), FINISH, DONE,
    ),
    "a text beside an empty delta": read(
        "the text in `text`, beside a delta with the role alone",
        *(choice(delta={"role": "assistant", "content": None}, text=text) for text in ("Hel", "lo")), FINISH, DONE,
    ),
    "parts instead of a delta": read(
        "a list of parts as `delta`",
        *(choice(delta=[{"type": "text", "text": text}]) for text in ("Hel", "lo")), FINISH, DONE,
    ),
    "MiniMax: the whole message at last": read(
        "the finish reason comes with all of the text once more",
        HEL, LO, choice(message=WHOLE, finish_reason="stop"),
    ),
    "Perplexity: the message so far": read(
        "a `message` with the text so far beside each `delta`",
        choice(delta={"content": "Hel"}, message={"role": "assistant", "content": "Hel"}),
        choice(delta={"content": "lo"}, message=WHOLE, finish_reason="stop"),
    ),
    "the text in the choice": read(
        "`content` without a delta around it", choice(content="Hel"), choice(content="lo", finish_reason="stop")
    ),
    "text in the delta": read(
        "`text` in the delta, as in Anthropic's API",
        *(choice(delta={"type": "text_delta", "text": text}) for text in ("Hel", "lo")), FINISH, DONE,
    ),
    "one chunk with the text as its message": read(
        "a string as `message`", choice(message="Hello", finish_reason="stop")
    ),
    "Gemini: finishReason": read(
        "Gemini's own name of the finish reason, and no [DONE]",
        HEL, choice(delta={"content": "lo"}, finish_reason=None, finishReason="stop"),
    ),
    "Mistral: parts": read(
        "a list of parts as `content`; the reference is none of the text",
        chat_event("Hel"),
        choice(delta={"content": [{"type": "text", "text": "lo"}, {"type": "reference", "reference_ids": [1]}]}),
        FINISH, DONE,
    ),
    "TGI 1.4: an index for each token": read(
        "`index` counts the tokens", *(
            event({"choices": [{"index": index, "delta": {"content": text}, "finish_reason": reason}]})
            for index, text, reason in ((1, "Hel", None), (2, "lo", None), (3, "", "stop"))
        ),
    ),
    "Anthropic's blocks as choices": read(
        "gateways to Anthropic's API put the index of the content block into `index`",
        HEL, event({"choices": [{"index": 1, "delta": {"content": "lo"}}]}), FINISH, DONE,
    ),
    "whole: a delta": whole_answer(
        "`delta` instead of `message` in an answer that is not streamed",
        {"choices": [{"delta": WHOLE, "finish_reason": "stop"}]},
    ),
    "whole: a text": whole_answer(
        "`text` instead of `message` in an answer that is not streamed", {"choices": [{"text": "Hello"}]}
    ),
    "whole: the message is its text": whole_answer("a string as `message`", {"choices": [{"message": "Hello"}]}),
}  # fmt: skip

PASSED_OVER: Mapping[str, UnusualResponse] = {
    "a date as created": read(
        "`created` is a date as text; `usage` and `logprobs` are lists", HEL,
        event({"created": "2026-01-01T00:00:00Z", "usage": [],
                "choices": [{"delta": {"content": "lo"}, "logprobs": [], "finish_reason": False}]}),
        FINISH, DONE,
    ),
    "empty deltas": read(
        'an empty delta as `[]`, `""` or `null`',
        choice(delta=[]), HEL, choice(delta=""), LO, choice(delta=None), FINISH, DONE,
    ),
    "Azure: the filter's results first": read(
        "a chunk without choices before the first token",
        event({"id": "", "object": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}), *HELLO,
    ),
    "Azure: annotations": read(
        "chunks without a delta, with the filter's results",
        HEL, choice(finish_reason=None, content_filter_offsets={"check_offset": 44}), LO, FINISH,
        choice(finish_reason=None, content_filter_results={"hate": {"filtered": False}}), DONE,
    ),
    "Azure: the filter has failed": read(
        "an error of the filter is none of the answer", HEL, LO,
        choice(delta={}, finish_reason="stop", content_filter_result={"error": {"message": "not filtered"}}), DONE,
    ),
    "vLLM: the text beside the finish": read(
        "the last text in the chunk with the finish reason", HEL, chat_event("lo", finish_reason="length"), DONE
    ),
    "SGLang: two finish reasons": read(
        "one with the last text", HEL, chat_event("lo", finish_reason="stop"), FINISH, DONE
    ),
    "Gemini gateways: stop on every chunk": read(
        "also beside the reasoning", chat_event(reasoning_content="Well", finish_reason="stop"),
        chat_event("Hel", finish_reason="stop"), chat_event("lo", finish_reason="stop"), DONE,
    ),
    "Ollama: load": read("a finish reason before the answer", chat_event("", finish_reason="load"), *HELLO),
    "Cloudflare: no index, no finish": read(
        "only the text, and [DONE]", event({"choices": [{"delta": {"content": "Hello"}}]}), DONE
    ),
    "Open WebUI: another id each": read(
        "`id` is not the answer's",
        *(event({"id": text, "choices": [{"delta": {"content": text}}]}) for text in ("Hel", "lo")), FINISH, DONE,
    ),
    "MiniMax: an empty role": read(
        "and a usage that counts characters", event({"choices": [{"delta": {"role": "", "reasoning_content": ""}}],
        "usage": {"total_tokens": 0, "total_characters": 0}}), *HELLO,
    ),
    "events without choices": read(
        "pings, prices, citations and the place in a queue as events (OpenRouter, Perplexity, gateways)",
        *map(event, ({}, {"type": "ping"}, {"message": "queued"})), HEL, event({"citations": ["https://example.org"]}),
        LO, FINISH, event({"cost": 0.1}), DONE,
    ),
    "choices: null": read("`null` for no choices, and for no event", event(None), event({"choices": None}), *HELLO),
    "named events": read("a name for every event", *(b"event: completion\n" + event for event in HELLO)),
    "OpenAI: obfuscation": read(
        "random characters that hide how long a token is",
        *(event({"choices": [{"delta": {"content": text}}], "obfuscation": "x7f"}) for text in ("Hel", "lo")),
        FINISH, DONE,
    ),
    "DONE without brackets": read("`DONE` without brackets and space", HEL, LO, FINISH, b"data:DONE\n\n"),
    "words after the finish": read("what is no JSON, after the finish reason", HEL, LO, FINISH, encode("bye")),
    "Moonshot: usage in the choice": read(
        "the usage in the last choice", HEL, LO, choice(delta={}, finish_reason="stop", usage=USAGE), DONE
    ),
    "Groq: usage in x_groq": read(
        "the usage in `x_groq`", HEL, LO,
        event({"choices": [{"delta": {}, "finish_reason": "stop"}], "x_groq": {"usage": USAGE}}), DONE,
    ),
    "usage as text": read(
        "counts under other names, as text and as a float", HEL, LO, FINISH,
        event({"choices": [], "usage": {"input_tokens": "7", "output_tokens": 2.0}}), DONE,
    ),
    "a finish without [DONE]": UnusualResponse(
        "the finish reason has come, and then nothing, without an end: complete after `Timeouts.after_finish`",
        Response([HEL, LO, FINISH, Fault.STALL]),
    ),
    "numbers for digits": read(
        "a gateway that reads each token as JSON makes a number of it", HEL, choice(delta={"content": 0}), FINISH, DONE,
        text="Hel0",
    ),
}  # fmt: skip

FRAMING: Mapping[str, UnusualResponse] = {
    "no blank lines": read(
        "events that no blank line ends (DeepSeek's models on Azure)",
        b"".join(event.removesuffix(b"\n") for event in (HEL, LO, FINISH)), DONE,
    ),
    "data: twice": read("framed twice, by a server and a gateway", *(b"data: " + event for event in HELLO)),
    "encoded twice": read("a string of JSON", *(encode(json.dumps(event[6:].decode().strip())) for event in HELLO)),
    "[DONE] in the last chunk": read("no line end between them", HEL, LO, FINISH.rstrip() + b"[DONE]\n\n"),
    "[DONE] without a line end": read("and without a finish reason", HEL, LO, b"data: [DONE]"),
    "pings as data": read(
        "what others send as a comment", HEL, encode("[HEARTBEAT]"), encode("ping"), encode(": processing"), LO, FINISH,
        DONE,
    ),
    "NaN": read(
        "numbers that JSON does not have, as Python writes them (vLLM)",
        HEL, choice(delta={"content": "lo"}, logprobs={"content": [{"token": "lo", "logprob": float("-inf")}]}),
        FINISH, DONE,
    ),
}  # fmt: skip

TOOL_CALLS: Mapping[str, UnusualResponse] = {
    "Gemini: {} first": read(
        "empty arguments before the real ones", _call("{}", index=0, id="a"), _call('{"x":1}', index=0, id="a"),
        chat_event(finish_reason="tool_calls"), DONE, text="",
    ),
    "Ollama: every call has the index 0": read(
        "two calls with one index", _call('{"x":1}', index=0, id="a"), _call('{"x":2}', index=0, id="b"),
        chat_event(finish_reason="tool_calls"), DONE, text="",
    ),
    "LM Studio: empty names": read(
        "the name is empty in later pieces", _call('{"x"', index=0, id="a"),
        chat_event(tool_calls=[{"index": 0, "type": "function", "function": {"name": "", "arguments": ":1}"}}]),
        chat_event(finish_reason="tool_calls"), DONE, text="",
    ),
    "Copilot: the call in a choice of its own": read(
        "text with the index 0, the tool call with 1", chat_event("Hello"),
        event({"choices": [{"index": 1, "delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]}),
        event({"choices": [{"index": 1, "delta": {}, "finish_reason": "tool_calls"}]}), DONE,
    ),
    "calls without an index": read(
        "neither an index nor an id", _call('{"x":1}'), _call('{"x":2}'), chat_event(finish_reason="tool_calls"), DONE,
        text="",
    ),
    "TGI: arguments as an object": read(
        "TGI before 3.2", _call({"x": 1}, index=0, id="a"), chat_event(finish_reason="tool_calls"), DONE, text=""
    ),
}  # fmt: skip
