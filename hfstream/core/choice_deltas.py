"""What a chat's chunk adds, also where a server has it in another place than `delta`.

Does not depend on how chunks are received.
"""

from __future__ import annotations

from typing import Any, cast

from ..types import ChatCompletionChunkChoice, ChatCompletionDelta

__all__ = ["begins", "find_delta", "has_text"]


def find_delta(choice: ChatCompletionChunkChoice, *, first: bool) -> dict[str, Any] | None:
    """The fields of a choice with its `delta` and `finish_reason` in their places; None if nothing is elsewhere.

    Without a delta, or beside one that adds nothing, the text may be in `message`, as in a response that is not
    streamed, in `text`, as in a completion, or in `content`; within one it may be in `text`, as in Anthropic's API. A
    message beside the finish reason, or beside a content of "", has the text so far once more, unless it is the `first`
    content. `finishReason` is Gemini's own name.
    """
    extra, delta = choice.__pydantic_extra__ or {}, choice.delta
    found: dict[str, Any] = {}
    if choice.finish_reason is None and isinstance(extra.get("finishReason"), str):
        found["finish_reason"] = extra["finishReason"]
    added = {} if delta.content else _content((delta.__pydantic_extra__ or {}).get("text"))
    moved: tuple[str, ...] = ()
    if not (added or has_text(delta)):
        with_message = first or (choice.finish_reason is None and delta.content is None)
        added = _find_beside_delta(extra, with_message=with_message)
        moved = ("message", "text", "content") if added else ()
    if added:
        own = {name: value for name, value in dict(delta).items() if value is not None and name != "text"}
        found["delta"] = own | added
    if not found:
        return None
    return {name: value for name, value in dict(choice).items() if name not in moved} | found


def _find_beside_delta(extra: dict[str, Any], *, with_message: bool) -> dict[str, Any]:
    """What a choice adds outside of its delta; empty if that is nothing."""
    message = extra.get("message") if with_message else None
    if isinstance(message, str):
        message = _content(message)
    found = cast("dict[str, Any]", message) if isinstance(message, dict) else {}
    return _content(extra.get("text") or extra.get("content")) or found


def _content(text: Any) -> dict[str, Any]:
    return {"content": text} if isinstance(text, str) and text else {}


def has_text(delta: ChatCompletionDelta) -> bool:
    """Whether a delta adds something that the model generated."""
    return bool(delta.content or delta.tool_calls or delta.reasoning or delta.reasoning_content or delta.refusal)


def begins(choice: ChatCompletionChunkChoice) -> bool:
    """Whether a choice has a role and nothing else, as the first delta of OpenAI's."""
    return choice.delta.role is not None and not (choice.finish_reason or has_text(choice.delta))
