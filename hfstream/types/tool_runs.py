"""What a conversation with tools ends with. Does not depend on how the tools are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import PrivateAttr

from .chat import ChatCompletion, ChatCompletionMessage

__all__ = ["ToolRunCompletion"]


class ToolRunCompletion(ChatCompletion):
    """The last completion of `run_tools`, with the conversation that led to it."""

    _messages: list[ChatCompletionMessage | Mapping[str, Any]] = PrivateAttr(
        default_factory=list[ChatCompletionMessage | Mapping[str, Any]]
    )

    @classmethod
    def of(
        cls, completion: ChatCompletion, messages: Iterable[ChatCompletionMessage | Mapping[str, Any]]
    ) -> ToolRunCompletion:
        """`completion` with the messages of its conversation, its own included."""
        made = ToolRunCompletion.model_construct(completion.model_fields_set, **dict(completion))
        made._messages = list(messages)
        return made

    @property
    def messages(self) -> list[ChatCompletionMessage | Mapping[str, Any]]:
        """The whole conversation: what was passed, the model's messages, the results of the tools.

        It can be passed to the next call.
        """
        return self._messages
