"""Encoded events in the format of TGI's native streams and of OpenAI's chat streams.

Each event is a complete `data:` block with its blank line, as bytes. Does not depend on the servers that send them.
"""

from __future__ import annotations

import json
from typing import Any

from ..core.sse import encode
from .arguments import check_texts

__all__ = ["DONE", "chat_event", "chat_events", "final_event", "token_event", "token_events"]

DONE = encode("[DONE]")
"""The last event of an OpenAI stream: ``data: [DONE]``."""


def token_event(index: int, text: str, *, special: bool = False, logprob: float | None = -0.5, **fields: Any) -> bytes:
    """One token as TGI streams it.

    Args:
        index: The token's number in the stream, counted from 1. The token's id is 100 + `index`.
        text: The token's text.
        special: Whether it is a special token, such as ``</s>``, whose text is not part of the output.
        logprob: The token's log-probability (natural logarithm), or None for a server that sends none.
        fields: Further fields of the event, such as `generated_text`, `details` and `top_tokens`.
    """
    token = {"id": 100 + index, "text": text, "logprob": logprob, "special": special}
    event = {"index": index, "token": token, "generated_text": None, "details": None} | fields
    return encode(json.dumps(event, ensure_ascii=False, separators=(",", ":")))


def final_event(index: int, text: str, generated_text: str, *, finish_reason: str = "length", **fields: Any) -> bytes:
    """The last token, with the complete text and the details that TGI adds to it.

    `index`, `text` and `fields` are as in `token_event`; `generated_text` is the text of all tokens that are not
    special.
    """
    details = {"finish_reason": finish_reason, "generated_tokens": index, "seed": None, "input_length": 7}
    final_fields: dict[str, Any] = {"generated_text": generated_text, "details": details}
    return token_event(index, text, **final_fields | fields)


def token_events(*texts: str, finish_reason: str = "length") -> list[bytes]:
    """A complete TGI stream with one event per text.

    With ``finish_reason="eos_token"`` one more event follows, the special token ``</s>``, as from TGI.

    Raises:
        IndexError: There are no texts, and `finish_reason` is not ``"eos_token"``.
        TypeError: One of the texts is no str, such as a list of them.
    """
    check_texts("token_events", texts)
    generated_text = "".join(texts)
    if finish_reason == "eos_token":
        events = [token_event(index, text) for index, text in enumerate(texts, 1)]
        return [*events, final_event(len(texts) + 1, "</s>", generated_text, finish_reason=finish_reason, special=True)]
    events = [token_event(index, text) for index, text in enumerate(texts[:-1], 1)]
    return [*events, final_event(len(texts), texts[-1], generated_text, finish_reason=finish_reason)]


def chat_event(content: str | None = None, *, finish_reason: str | None = None, **fields: Any) -> bytes:
    """One `chat.completion.chunk` with one choice.

    Args:
        content: The delta's text; None leaves the field out.
        finish_reason: The choice's finish reason, which the last chunk of a choice has.
        fields: Further fields of the delta, such as `role`, `reasoning` and `tool_calls`.
    """
    delta = ({} if content is None else {"content": content}) | fields
    return _chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}])


def chat_events(*texts: str, finish_reason: str = "stop") -> list[bytes]:
    """A complete OpenAI chat stream: the role, one chunk per text, the finish reason, the usage, and ``[DONE]``.

    Raises:
        TypeError: One of the texts is no str, such as a list of them.
    """
    check_texts("chat_events", texts)
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
