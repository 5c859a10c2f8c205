"""What a chat's chunk adds, also where a server has it in another place than `delta`.

Does not depend on how chunks are received.
"""

from __future__ import annotations

from typing import Any, cast

from ..types import ChatCompletionChunkChoice, ChatCompletionDelta

__all__ = ["begins", "find_delta", "has_text"]


def find_delta(choice: ChatCompletionChunkChoice, *, first: bool) -> dict[str, Any] | None:
    """The fields of a choice with its `delta` and `finish_reason` in their places; None if nothing is elsewhere.

    Without a delta the text may be in `message`, as in a response that is not streamed, in `text`, as in a
    completion, or in `content`; within one it may be in `text`, as in Anthropic's API. A message beside the finish
    reason has the whole text once more, unless it is the `first` content. `finishReason` is Gemini's own name.
    """
    extra = choice.__pydantic_extra__ or {}
    text_of_delta = (choice.delta.__pydantic_extra__ or {}).get("text")
    found: dict[str, Any] = {}
    if choice.finish_reason is None and isinstance(extra.get("finishReason"), str):
        found["finish_reason"] = extra["finishReason"]
    if "delta" not in choice.__pydantic_fields_set__:
        message, text = extra.get("message"), extra.get("text") or extra.get("content")
        if isinstance(message, str):
            message = {"content": message}
        if isinstance(text, str) and text:
            found["delta"] = {"content": text}
        elif isinstance(message, dict) and message and (first or choice.finish_reason is None):
            found["delta"] = dict(cast("dict[str, Any]", message))
    elif isinstance(text_of_delta, str) and text_of_delta and not choice.delta.content:
        others = {name: value for name, value in dict(choice.delta).items() if name != "text"}
        found["delta"] = others | {"content": text_of_delta}
    if not found:
        return None
    moved = ("message", "text", "content") if "delta" in found else ()
    return {name: value for name, value in dict(choice).items() if name not in moved} | found


def has_text(delta: ChatCompletionDelta) -> bool:
    """Whether a delta adds something that the model generated."""
    return bool(delta.content or delta.tool_calls or delta.reasoning or delta.reasoning_content or delta.refusal)


def begins(choice: ChatCompletionChunkChoice) -> bool:
    """Whether a choice has a role and nothing else, as the first delta of OpenAI's."""
    return choice.delta.role is not None and not (choice.finish_reason or has_text(choice.delta))
