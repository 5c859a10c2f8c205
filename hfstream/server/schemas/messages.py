"""Messages of a chat: what a request may hold, and what a chat template gets to read.

Does not depend on HTTP or on chat templates.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict, FailFast
from pydantic_core import from_json

from hfstream.errors import ValidationError

from .serde_types import Str, string_or_list


class ContentPart(BaseModel):
    """One part of a message's content."""

    type: Str
    text: Str | None = None


def _text_part(text: str) -> ContentPart:
    return ContentPart(type="text", text=text)


class Message(BaseModel):
    """One message. Fields that are not declared here, such as `tool_calls`, are passed on to the template."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    role: Str
    content: Annotated[list[ContentPart], FailFast(), string_or_list("a string or a list of parts", _text_part)] = []

    def to_template(self) -> dict[str, Any]:
        """The message as templates read it: its content is one text, and empty fields are left out.

        Templates test ``'tool_calls' in message``, so a null or an empty list there would mislead them.

        Raises:
            ValidationError: a content part is not text.
        """
        for part in self.content:
            if part.type != "text":
                raise ValidationError(
                    f"Input validation error: `messages` with parts of type `{part.type}` are not supported, "
                    "this model reads text only"
                )
        text = "".join(part.text or "" for part in self.content)  # of a null too: templates would print "None"
        extra = {name: value for name, value in (self.model_extra or {}).items() if value not in (None, [])}
        if "tool_calls" in extra:
            extra["tool_calls"] = _template_calls(extra["tool_calls"])
        return {**extra, "role": self.role, "content": text}


def _template_calls(calls: object) -> list[dict[str, Any]]:
    """Tool calls as templates read them: their arguments, which OpenAI's clients send as JSON, are objects.

    Raises:
        ValidationError: something is no call of a function.
    """
    result: list[dict[str, Any]] = []
    for call in cast("list[object]", calls) if isinstance(calls, list) else [calls]:
        match call:
            case {"function": {"name": str()}}:
                fields = cast("dict[str, Any]", call)
            case _:
                raise ValidationError(
                    "Input validation error: `messages` must have `tool_calls` that are functions with a name"
                )
        function = fields["function"]
        result.append({**fields, "function": {**function, "arguments": _arguments(function.get("arguments"))}})
    return result


def _arguments(arguments: object) -> object:
    """The object; what is none stays as it is.

    It is read as a request's body is, with a limit on its depth and without halves of surrogate pairs: it will be
    written as text again.
    """
    if not isinstance(arguments, str):
        return {} if arguments is None else arguments
    try:
        return from_json(arguments or "{}", allow_inf_nan=False)
    except ValueError:
        return arguments
