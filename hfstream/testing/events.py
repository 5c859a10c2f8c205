"""Lines to say: events of TGI's own streams and of OpenAI's, as bytes. Refuses to know who sends them."""

from __future__ import annotations

import json
from typing import Any

from ..core.sse import encode

__all__ = ["DONE", "chat_event", "chat_events", "final_event", "token_event", "token_events"]

DONE = encode("[DONE]")
"""How a stream of OpenAI's ends."""


def token_event(index: int, text: str, *, special: bool = False, logprob: float | None = -0.5, **more: Any) -> bytes:
    """One token as TGI sends it; `index` counts from 1. `more` sets `generated_text`, `details`, `top_tokens`."""
    token = {"id": 100 + index, "text": text, "logprob": logprob, "special": special}
    event = {"index": index, "token": token, "generated_text": None, "details": None} | more
    return encode(json.dumps(event, ensure_ascii=False, separators=(",", ":")))


def final_event(index: int, text: str, generated_text: str, *, finish_reason: str = "length", **more: Any) -> bytes:
    """The last token, with the whole text and its details."""
    details = {"finish_reason": finish_reason, "generated_tokens": index, "seed": None, "input_length": 7}
    told: dict[str, Any] = {"generated_text": generated_text, "details": details}
    return token_event(index, text, **told | more)


def token_events(*texts: str, finish_reason: str = "length") -> list[bytes]:
    """A whole answer, one event for each of `texts`; with `finish_reason="eos_token"` an `</s>` comes after them."""
    whole = "".join(texts)
    if finish_reason == "eos_token":
        events = [token_event(index, text) for index, text in enumerate(texts, 1)]
        return [*events, final_event(len(texts) + 1, "</s>", whole, finish_reason=finish_reason, special=True)]
    events = [token_event(index, text) for index, text in enumerate(texts[:-1], 1)]
    return [*events, final_event(len(texts), texts[-1], whole, finish_reason=finish_reason)]


def chat_event(content: str | None = None, *, finish_reason: str | None = None, **more: Any) -> bytes:
    """One chunk of a chat. `more` sets fields of the delta, such as `role`, `reasoning` and `tool_calls`."""
    delta = ({} if content is None else {"content": content}) | more
    return _chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}])


def chat_events(*texts: str, finish_reason: str = "stop") -> list[bytes]:
    """A whole answer as OpenAI sends it: the role, a chunk for each of `texts`, the end, the usage, ``[DONE]``."""
    usage = {"prompt_tokens": 7, "completion_tokens": len(texts), "total_tokens": 7 + len(texts)}
    return [
        chat_event("", role="assistant"),
        *(chat_event(text) for text in texts),
        chat_event(finish_reason=finish_reason),
        _chunk([], usage=usage),
        DONE,
    ]


def _chunk(choices: list[Any], *, usage: Any = None) -> bytes:
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "scripted"}
    return encode(json.dumps(chunk | {"choices": choices, "usage": usage}, ensure_ascii=False, separators=(",", ":")))
