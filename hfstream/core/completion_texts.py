"""The text of a completion's choice, also where a server has it in another place than `text`.

Does not depend on how a response is received, nor on what becomes of it.
"""

from __future__ import annotations

import copy
from typing import Any

from ..types import ChatCompletionChunkChoice
from .choice_deltas import find_delta
from .completions import CompletionChoice, CompletionChunk

__all__ = ["complete_text", "parse_completion_body"]


def complete_text(chunk: CompletionChunk, choice: CompletionChoice, *, first: bool) -> CompletionChoice:
    """A choice of `chunk` with its text in place, which a server may send as in a chat; it is replaced in the chunk.

    `first`: no content has come before.
    """
    extra = choice.__pydantic_extra__ or {}
    elsewhere = {name: extra[name] for name in ("delta", "message", "content") if name in extra}
    if choice.text or not elsewhere:
        return choice
    fields: dict[str, Any] = copy.deepcopy(elsewhere) | {"finish_reason": choice.finish_reason}
    chat = ChatCompletionChunkChoice.validate_lenient(fields)
    if (found := find_delta(chat, first=first)) is not None:
        chat = ChatCompletionChunkChoice.validate_lenient(found)
    completed = choice.model_copy(update={"text": chat.delta.content or ""})
    chunk.choices[chunk.choices.index(choice)] = completed
    return completed


def parse_completion_body(body: bytes) -> CompletionChunk:
    """A completion that is not streamed.

    Raises:
        ValueError: the body is not a completion.
    """
    completion = CompletionChunk.parse_lenient(body)
    for choice in list(completion.choices):
        complete_text(completion, choice, first=True)
    return completion
