"""Errors beside content: in a response of OpenAI's format, streamed or whole, and in its choices.

Does not depend on how a response is received.
"""

from __future__ import annotations

from typing import Any

from ..errors import InferenceError
from ..errors.error_shapes import ERROR_FIELDS
from ..errors.response_bodies import from_event, from_finish_reason
from ..types import ChatCompletionChoice

__all__ = ["error_beside", "raise_if_failed"]


def error_beside(extra: dict[str, Any] | None) -> InferenceError | None:
    """The error in the unknown fields of a response that has content."""
    if not extra or ERROR_FIELDS.isdisjoint(extra):
        return None
    return from_event({name: extra[name] for name in ERROR_FIELDS & extra.keys()})


def raise_if_failed(response: Any, text: str) -> None:
    """For a response that is not streamed: raises the error that it or one of its choices carries, with its `text`."""
    error = error_beside(response.__pydantic_extra__)
    for choice in response.choices:
        message = choice.message if isinstance(choice, ChatCompletionChoice) else choice  # a completion has none
        error = error or error_beside(choice.__pydantic_extra__) or error_beside(message.__pydantic_extra__)
        error = error or from_finish_reason(choice.finish_reason or "")
    if error is not None:
        error.partial_text = text
        raise error
