"""The accumulator of a response that is not streamed. Does not depend on wire formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ..types import ChatCompletion, ChatCompletionChoice, FinishReason, TextGenerationResponse, Usage

__all__ = ["SingleResult"]

ItemT = TypeVar("ItemT")


class SingleResult:
    """Holds the result. Of a chat, `text` and `finish_reason` are those of the first choice."""

    def __init__(self) -> None:
        self._result: Any = None

    @property
    def text(self) -> str:
        match self._result:
            case str(text) | TextGenerationResponse(generated_text=text):
                return text
            case ChatCompletion(choices=[ChatCompletionChoice() as first, *_]):
                return first.message.content or ""
            case _:
                return ""

    @property
    def finish_reason(self) -> FinishReason | str | None:
        return next(iter(self.finish_reasons), None)

    @property
    def finish_reasons(self) -> Sequence[FinishReason | str]:
        match self._result:
            case TextGenerationResponse(details=details) if details is not None:
                return [details.finish_reason] if details.finish_reason else []
            case ChatCompletion(choices=choices):
                return [choice.finish_reason for choice in choices if choice.finish_reason]
            case _:
                return []

    @property
    def usage(self) -> Usage | None:
        match self._result:
            case TextGenerationResponse(details=details) if details is not None:
                prompt, completion = details.input_length or 0, details.generated_tokens
                return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)
            case ChatCompletion(usage=usage):
                return usage
            case _:
                return None

    @property
    def metadata(self) -> Mapping[str, Any]:
        if not isinstance(self._result, ChatCompletion):
            return {}
        return {name: getattr(self._result, name) for name in ("id", "created", "model", "system_fingerprint")}

    def add(self, items: list[ItemT]) -> list[ItemT]:
        if items:
            self._result = items[-1]
        return items

    def result(self) -> Any:
        return self._result
