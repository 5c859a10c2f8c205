"""Chats as real servers stream them, each beside the same answer in one piece: the shapes, with short texts in them.

A recording says what its server's habits are; nothing here knows hfstream.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

__all__ = ["DONE", "RECORDINGS", "Recording", "choice", "chunk", "event"]

DONE = b"data: [DONE]\n\n"


def event(payload: Any, head: bytes = b"data: ") -> bytes:
    text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    return head + text.encode() + b"\n\n"


def choice(index: int = 0, finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish_reason}


def chunk(finish_reason: str | None = None, **delta: Any) -> bytes:
    """One event of one answer, with what it adds."""
    return event({"choices": [choice(0, finish_reason, **delta)]})


@dataclass(frozen=True)
class Recording:
    events: list[bytes]
    whole: dict[str, Any]
    content: int
    """How many of the chunks have content, the finish included."""
    held: int = 0
    """How many come before it."""


def counts(prompt: int, answer: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer, **more}


def answer(message: dict[str, Any], finish_reason: str | None, **more: Any) -> dict[str, Any]:
    """The choices of a whole answer."""
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason, **more}]}


def call(id: str, name: str, arguments: str, **more: Any) -> dict[str, Any]:  # noqa: A002  OpenAI's name
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def server(head: dict[str, Any], *chunks: dict[str, Any]) -> list[bytes]:
    return [event({**head, **each}) for each in chunks]


def streamed(head: dict[str, Any], *choices: dict[str, Any], **more: Any) -> list[bytes]:
    return server(head, *({"choices": [each], **more} for each in choices))


# OpenAI ---------------------------------------------------------------------------------------------------------------

OPENAI = {
    "id": "chatcmpl-B9", "object": "chat.completion.chunk", "created": 1741569952, "model": "gpt-4.1-2025-04-14",
    "service_tier": "default", "system_fingerprint": "fp_44709d6fcb",
}  # fmt: skip
OPENAI_WHOLE = {**OPENAI, "object": "chat.completion"}
NO_DETAILS = {"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}


def logprob_of(token: str, logprob: float | None = -0.5) -> dict[str, Any]:
    top = [{"token": token, "logprob": logprob, "bytes": list(token.encode())}]
    return {"token": token, "logprob": logprob, "bytes": list(token.encode()), "top_logprobs": top}


openai_text = Recording(
    [
        *streamed(
            OPENAI,
            {**choice(role="assistant", content="", refusal=None), "logprobs": None},
            {**choice(content="Grüß"), "logprobs": None},
            {**choice(content=" Gott"), "logprobs": None},
            {**choice(content="\u2028👩‍🚀!"), "logprobs": None},
            {**choice(finish_reason="stop"), "logprobs": None},
            usage=None,
            obfuscation="aB3",
        ),
        *server(OPENAI, {"choices": [], "usage": counts(19, 3, **NO_DETAILS), "obfuscation": ""}),
        DONE,
    ],
    {
        **OPENAI_WHOLE,
        **answer({"role": "assistant", "content": "Grüß Gott\u2028👩‍🚀!", "refusal": None}, "stop", logprobs=None),
        "usage": counts(19, 3, **NO_DETAILS),
    },
    content=4,
    held=1,
)

openai_tools = Recording(
    [
        *streamed(
            OPENAI,
            choice(
                role="assistant",
                content=None,
                tool_calls=[{"index": 0, **call("call_a", "get_weather", "")}],
                refusal=None,
            ),
            choice(tool_calls=[{"index": 0, "function": {"arguments": '{"'}}]),
            choice(tool_calls=[{"index": 0, "function": {"arguments": 'city":"Köln"}'}}]),
            choice(tool_calls=[{"index": 1, **call("call_b", "get_time", "")}]),
            choice(tool_calls=[{"index": 1, "function": {"arguments": "{}"}}]),
            choice(finish_reason="tool_calls"),
        ),
        DONE,
    ],
    {
        **OPENAI_WHOLE,
        **answer(
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    call("call_a", "get_weather", '{"city":"Köln"}'),
                    call("call_b", "get_time", "{}"),
                ],
                "refusal": None,
            },
            "tool_calls",
        ),
    },
    content=6,
)

openai_refusal = Recording(
    [
        *streamed(
            OPENAI,
            choice(role="assistant", content=None, refusal=""),
            choice(refusal="I'm sorry"),
            choice(refusal=", no."),
            choice(finish_reason="stop"),
        ),
        DONE,
    ],
    {**OPENAI_WHOLE, **answer({"role": "assistant", "content": None, "refusal": "I'm sorry, no."}, "stop")},
    content=3,
    held=1,
)

openai_logprobs = Recording(
    [
        *streamed(
            OPENAI,
            {**choice(role="assistant", content=""), "logprobs": {"content": [], "refusal": None}},
            {**choice(content="He"), "logprobs": {"content": [logprob_of("He")], "refusal": None}},
            {**choice(content="llo"), "logprobs": {"content": [logprob_of("l"), logprob_of("lo")], "refusal": None}},
            {**choice(finish_reason="stop"), "logprobs": None},
        ),
        DONE,
    ],
    {
        **OPENAI_WHOLE,
        **answer(
            {"role": "assistant", "content": "Hello"},
            "stop",
            logprobs={"content": [logprob_of("He"), logprob_of("l"), logprob_of("lo")]},
        ),
    },
    content=3,
    held=1,
)

# n=2: the two answers come interleaved.
openai_two = Recording(
    [
        *streamed(
            OPENAI,
            choice(0, role="assistant", content=""),
            choice(0, content="a"),
            choice(1, role="assistant", content=""),
            choice(1, content="x"),
            choice(0, content="b"),
            choice(1, content="y"),
            choice(0, "length"),
            choice(1, "stop"),
        ),
        DONE,
    ],
    {
        **OPENAI_WHOLE,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "length"},
            {"index": 1, "message": {"role": "assistant", "content": "xy"}, "finish_reason": "stop"},
        ],
    },
    content=6,
    held=1,
)

# text-generation-inference --------------------------------------------------------------------------------------------

TGI = {
    "object": "chat.completion.chunk", "id": "", "created": 1726656043, "model": "meta-llama/Llama-3.1-8B",
    "system_fingerprint": "3.3.7-native",
}  # fmt: skip
TGI_WHOLE = {**TGI, "object": "chat.completion"}


def tgi(content: str, finish_reason: str | None = None) -> dict[str, Any]:
    return {**choice(0, finish_reason, role="assistant", content=content), "logprobs": None}


tgi_text = Recording(
    [
        *streamed(TGI, tgi("Hello"), tgi(","), tgi(" you"), tgi("", "eos_token"), usage=None),
        *server(TGI, {"choices": [], "usage": counts(7, 4)}),
        DONE,
    ],
    {**TGI_WHOLE, **answer({"role": "assistant", "content": "Hello, you"}, "eos_token"), "usage": counts(7, 4)},
    content=4,
)
tgi_stop = Recording(
    [b":\n\n", *streamed(TGI, tgi("a"), tgi("."), tgi("\n\n", "stop_sequence")), DONE],
    {**TGI_WHOLE, **answer({"role": "assistant", "content": "a.\n\n"}, "stop_sequence")},
    content=3,
)
# Up to 2.0.4: no space, no [DONE], another object.
tgi_old = Recording(
    [
        event({**TGI, "object": "text_completion", "choices": [each]}, b"data:")
        for each in (tgi("Hello"), tgi(" you"), tgi("", "eos_token"))
    ],
    {**TGI_WHOLE, **answer({"role": "assistant", "content": "Hello you"}, "eos_token")},
    content=3,
)


def tgi_call(name: str | None, arguments: str) -> dict[str, Any]:
    call = {"index": 0, "id": "0", "type": "function", "function": {"name": name, "arguments": arguments}}
    return {**choice(role="assistant", tool_calls=[call]), "logprobs": None}


# The finish_reason never comes.
tgi_tools = Recording(
    [
        *streamed(TGI, tgi_call("get_weather", "{"), tgi_call(None, '"city": '), tgi_call(None, '"Paris"}')),
        *server(TGI, {"choices": [], "usage": counts(9, 5)}),
        DONE,
    ],
    {
        **TGI_WHOLE,
        **answer({"role": "assistant", "tool_calls": [call("0", "get_weather", '{"city": "Paris"}')]}, None),
        "usage": counts(9, 5),
    },
    content=3,
)

# vLLM -----------------------------------------------------------------------------------------------------------------

VLLM = {"id": "chatcmpl-7f", "object": "chat.completion.chunk", "created": 1757000000, "model": "Qwen/Qwen3-8B"}
VLLM_WHOLE = {**VLLM, "object": "chat.completion"}


def vllm(field: str) -> Recording:
    """A model that thinks; the server calls it `reasoning`, and before 0.12 `reasoning_content`."""
    deltas: list[dict[str, Any]] = [{field: "Hm"}, {field: ", hm."}, {"content": "\n\n4"}, {"content": "2"}]
    return Recording(
        [
            *server(
                VLLM, {"choices": [{**choice(role="assistant", content=""), "logprobs": None}], "prompt_token_ids": [1]}
            ),
            *streamed(VLLM, *({**choice(**delta), "logprobs": None, "token_ids": [5, 6]} for delta in deltas)),
            *streamed(
                VLLM,
                {**choice(0, "stop", content=""), "logprobs": None, "stop_reason": None, "token_ids": [7]},
                prompt_token_ids=None,
            ),
            *server(VLLM, {"choices": [], "usage": counts(11, 9)}),
            DONE,
        ],
        {
            **VLLM_WHOLE,
            **answer(
                {"role": "assistant", "content": "\n\n42", field: "Hm, hm."},
                "stop",
                logprobs=None,
                stop_reason=None,
                token_ids=[5, 6, 5, 6, 5, 6, 5, 6, 7],
            ),
            "usage": counts(11, 9),
            "prompt_token_ids": [1],
        },
        content=5,
        held=1,
    )


vllm_continuous_usage = Recording(
    [
        *server(
            VLLM,
            {"choices": [choice(role="assistant", content="")], "usage": counts(5, 0)},
            {"choices": [choice(content="a")], "usage": counts(5, 1)},
            {"choices": [choice(content="b")], "usage": counts(5, 2)},
            {"choices": [{**choice(0, "stop", content=""), "stop_reason": 151643}], "usage": counts(5, 3)},
            {"choices": [], "usage": counts(5, 3)},
        ),
        DONE,
    ],
    {
        **VLLM_WHOLE,
        **answer({"role": "assistant", "content": "ab"}, "stop", stop_reason=151643),
        "usage": counts(5, 3),
    },
    content=3,
    held=1,
)

# The rest -------------------------------------------------------------------------------------------------------------

LLAMA_CPP = {
    "id": "chatcmpl-x", "object": "chat.completion.chunk", "created": 1750000000, "model": "gpt-3.5-turbo",
    "system_fingerprint": "b5600-abc",
}  # fmt: skip
TIMINGS = {"prompt_n": 11, "prompt_ms": 25.5, "predicted_n": 2, "predicted_per_second": 72.5}
llama_cpp = Recording(
    [
        *streamed(LLAMA_CPP, choice(role="assistant", content=None)),
        *streamed(LLAMA_CPP, choice(reasoning_content="Hm.")),
        *streamed(LLAMA_CPP, choice(content="Hel")),
        *streamed(LLAMA_CPP, choice(content="lo")),
        *streamed(LLAMA_CPP, choice(finish_reason="stop")),
        *server(LLAMA_CPP, {"choices": [], "usage": counts(11, 2), "timings": TIMINGS}),
        DONE,
    ],
    {
        **LLAMA_CPP,
        "object": "chat.completion",
        **answer({"role": "assistant", "reasoning_content": "Hm.", "content": "Hello"}, "stop"),
        "usage": counts(11, 2),
        "timings": TIMINGS,
    },
    content=4,
    held=1,
)

OLLAMA = {
    "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1750000001, "model": "qwen3",
    "system_fingerprint": "fp_ollama",
}  # fmt: skip
# Every call has the index 0 and an id of its own, and comes whole.
ollama_tools = Recording(
    [
        *streamed(
            OLLAMA,
            choice(role="assistant", content="", tool_calls=[{"index": 0, **call("call_1", "add", '{"a":1}')}]),
            choice(role="assistant", content="", tool_calls=[{"index": 0, **call("call_2", "add", '{"a":2}')}]),
            choice(
                role="assistant",
                content="",
                tool_calls=[
                    {"index": 0, **call("call_3", "sub", "{}")},
                    {"index": 0, **call("call_4", "mul", "{}")},
                ],
            ),
            choice(0, "tool_calls", role="assistant", content=""),
        ),
        DONE,
    ],
    {
        **OLLAMA,
        "object": "chat.completion",
        **answer(
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    call("call_1", "add", '{"a":1}'),
                    call("call_2", "add", '{"a":2}'),
                    call("call_3", "sub", "{}"),
                    call("call_4", "mul", "{}"),
                ],
            },
            "tool_calls",
        ),
    },
    content=4,
)

MISTRAL = {"id": "cmpl-m", "object": "chat.completion.chunk", "created": 1700000000, "model": "mistral-small"}
# A call comes whole, with the finish in the same chunk, and the usage beside it.
mistral_tools = Recording(
    [
        *streamed(MISTRAL, choice(role="assistant", content="")),
        *server(
            MISTRAL,
            {
                "choices": [choice(0, "tool_calls", content="", tool_calls=[{**call("D681", "f", "{}"), "index": 0}])],
                "usage": counts(3, 4),
            },
        ),
        DONE,
    ],
    {
        **MISTRAL,
        "object": "chat.completion",
        **answer(
            {"role": "assistant", "content": None, "tool_calls": [call("D681", "f", "{}")]}, "tool_calls"
        ),
        "usage": counts(3, 4),
    },
    content=1,
    held=1,
)  # fmt: skip

GROQ = {"id": "chatcmpl-g", "object": "chat.completion.chunk", "created": 1700000000, "model": "llama-3.3"}
groq = Recording(
    [
        *streamed(GROQ, choice(role="assistant", content=""), x_groq={"id": "req_1"}),
        *streamed(GROQ, choice(content="Hi")),
        *streamed(GROQ, choice(finish_reason="stop"), x_groq={"id": "req_1", "usage": counts(2, 1)}),
        DONE,
    ],
    {
        **GROQ,
        "object": "chat.completion",
        **answer({"role": "assistant", "content": "Hi"}, "stop"),
        "x_groq": {"id": "req_1", "usage": counts(2, 1)},
        "usage": counts(2, 1),
    },
    content=2,
    held=1,
)

AZURE = {"id": "chatcmpl-az", "object": "chat.completion.chunk", "created": 1680000000, "model": "gpt-4o"}
EMPTY_IDS = {"id": "", "object": "", "created": 0, "model": ""}
FILTERED = [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}]
SAFE = {"hate": {"filtered": False, "severity": "safe"}}
# What a filter says comes before and after, by itself: without a delta, after the finish.
azure = Recording(
    [
        *server(EMPTY_IDS, {"choices": [], "prompt_filter_results": FILTERED}),
        *streamed(AZURE, choice(role="assistant", content="")),
        *streamed(AZURE, choice(content="Hi")),
        *streamed(AZURE, choice(finish_reason="stop")),
        *server(EMPTY_IDS, {"choices": [{"index": 0, "finish_reason": None, "content_filter_results": SAFE}]}),
        DONE,
    ],
    {
        **AZURE,
        "object": "chat.completion",
        "prompt_filter_results": FILTERED,
        **answer({"role": "assistant", "content": "Hi"}, "stop", content_filter_results=SAFE),
    },
    content=2,
    held=2,
)

OPENROUTER = {"id": "gen-1", "provider": "Nebius", "model": "qwen/qwen3", "created": 1750000000}
OPENROUTER["object"] = "chat.completion.chunk"
THOUGHT = {"type": "reasoning.text", "text": "Hm.", "format": "unknown"}
openrouter = Recording(
    [
        b": OPENROUTER PROCESSING\n\n",
        b": OPENROUTER PROCESSING\n\n",
        *streamed(OPENROUTER, choice(role="assistant", content="")),
        *streamed(OPENROUTER, choice(role="assistant", content="", reasoning="Hm.", reasoning_details=[THOUGHT])),
        b": OPENROUTER PROCESSING\n\n",
        *streamed(OPENROUTER, {**choice(role="assistant", content="Hi"), "native_finish_reason": None}),
        *streamed(OPENROUTER, {**choice(0, "stop", role="assistant", content=""), "native_finish_reason": "stop"}),
        *server(OPENROUTER, {"choices": [choice(role="assistant", content="")], "usage": counts(2, 3, cost=0.1)}),
        DONE,
    ],
    {
        **OPENROUTER,
        "object": "chat.completion",
        **answer(
            {"role": "assistant", "content": "Hi", "reasoning": "Hm.", "reasoning_details": [THOUGHT]},
            "stop",
            native_finish_reason="stop",
        ),
        "usage": counts(2, 3, cost=0.1),
    },
    content=3,
    held=1,
)

DEEPSEEK = {"id": "ds", "object": "chat.completion.chunk", "created": 1718345013, "model": "deepseek-reasoner"}
deepseek = Recording(
    [
        *streamed(
            DEEPSEEK,
            choice(role="assistant", content=None, reasoning_content=""),
            choice(content=None, reasoning_content="Hm"),
            choice(content=None, reasoning_content="."),
            choice(content="Hi", reasoning_content=None),
        ),
        *streamed(DEEPSEEK, choice(0, "stop", content="", reasoning_content=None), usage=counts(5, 3)),
        DONE,
    ],
    {
        **DEEPSEEK,
        "object": "chat.completion",
        **answer({"role": "assistant", "content": "Hi", "reasoning_content": "Hm."}, "stop"),
        "usage": counts(5, 3),
    },
    content=4,
    held=1,
)

GEMINI = {"id": "gm", "object": "chat.completion.chunk", "created": 1759000000, "model": "gemini-2.5-flash"}
SIGNED = {"extra_content": {"google": {"thought_signature": "Cq=="}}}
# The calls have no index.
gemini_tools = Recording(
    [
        *streamed(
            GEMINI,
            choice(
                role="assistant",
                tool_calls=[call("function-call-1", "f", "{}", **SIGNED), call("function-call-2", "f", '{"a":1}')],
            ),
            choice(0, "stop", role="assistant", tool_calls=[call("function-call-3", "g", "{}")]),
        ),
        DONE,
    ],
    {
        **GEMINI,
        "object": "chat.completion",
        **answer(
            {
                "role": "assistant",
                "tool_calls": [
                    call("function-call-1", "f", "{}", **SIGNED),
                    call("function-call-2", "f", '{"a":1}'),
                    call("function-call-3", "g", "{}"),
                ],
            },
            "stop",
        ),
    },
    content=2,
)

TRANSFORMERS = {
    "id": "req_0", "object": "chat.completion.chunk", "created": 1760000000, "model": "Qwen/Qwen3-0.6B@main",
    "system_fingerprint": "",
}  # fmt: skip
# No [DONE]; several events in one piece; the usage beside the finish.
transformers_serve = Recording(
    [
        b"".join(streamed(TRANSFORMERS, choice(role="assistant"), choice(content="Hel"), choice(content="lo"))),
        b"".join(streamed(TRANSFORMERS, choice(content="!"), choice(finish_reason="stop"), usage=counts(4, 3))),
    ],
    {
        **TRANSFORMERS,
        "object": "chat.completion",
        "system_fingerprint": None,
        **answer({"role": "assistant", "content": "Hello!"}, "stop"),
        "usage": counts(4, 3),
    },
    content=4,
    held=1,
)

# OpenAI's form before tools, which llama-cpp-python still sends.
function_call = Recording(
    [
        chunk(role="assistant", content=None),
        chunk(function_call={"name": "f", "arguments": ""}),
        chunk(function_call={"arguments": '{"a"'}),
        chunk(function_call={"arguments": ":1}"}),
        chunk("function_call"),
        DONE,
    ],
    answer({"content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}}, "function_call"),
    content=4,
    held=1,
)

RECORDINGS = {
    "OpenAI": openai_text,
    "OpenAI, tools": openai_tools,
    "OpenAI, refusal": openai_refusal,
    "OpenAI, logprobs": openai_logprobs,
    "OpenAI, n=2": openai_two,
    "TGI": tgi_text,
    "TGI, stop": tgi_stop,
    "TGI 2.0": tgi_old,
    "TGI, tools": tgi_tools,
    "vLLM, reasoning": vllm("reasoning"),
    "vLLM, reasoning_content": vllm("reasoning_content"),
    "vLLM, continuous usage": vllm_continuous_usage,
    "llama.cpp": llama_cpp,
    "Ollama, tools": ollama_tools,
    "Mistral, tools": mistral_tools,
    "Groq": groq,
    "Azure": azure,
    "OpenRouter": openrouter,
    "DeepSeek": deepseek,
    "Gemini, tools": gemini_tools,
    "transformers serve": transformers_serve,
    "function_call": function_call,
}
