"""One prompt of `client.map`: what it asks for, and how its answer is written down and read again.

Does not depend on clients, nor on how many prompts there are and in what order they are answered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from ..types import ChatCompletion, TextGenerationResponse
from .request_spec import RequestSpec
from .schemas import find_schema_type

__all__ = ["MapCall"]


@dataclass(frozen=True)
class MapCall:
    """The call for one prompt: text generation or, with `chat`, chat completion."""

    value: Any
    """The prompt's text, or the messages."""
    chat: bool
    options: Mapping[str, Any]
    details: bool
    """Whether the output of text generation is a `TextGenerationResponse`."""

    @classmethod
    def of(cls, prompt: Any, options: Mapping[str, Any], *, details: bool) -> MapCall:
        """The call for `prompt`: a `str`, a list of messages, or a mapping that has either and options of its own.

        Raises:
            ValueError, TypeError: it is none of these.
        """
        value: Any = prompt
        chat = not isinstance(prompt, str)
        if isinstance(prompt, Mapping):
            own = dict(cast("Mapping[str, Any]", prompt))
            if ("prompt" in own) == ("messages" in own):
                raise ValueError('a prompt that is a mapping has either "prompt" or "messages", and options beside it')
            chat = "messages" in own
            value = own.pop("messages" if chat else "prompt")
            options = {**options, **own}
        if chat and (isinstance(value, str | bytes) or not hasattr(value, "__iter__")):
            raise TypeError(f"a prompt is a str, a list of messages or a mapping, not {type(value).__name__}")
        if not (chat or isinstance(value, str)):
            raise TypeError(f'"prompt" must be a str, not {type(value).__name__}')
        return cls(value, chat, options, details and not chat)

    def digest(self, spec: RequestSpec[Any, Any, Any]) -> bytes:
        """Identifies what is asked for: the prompt with all parameters, but not the server."""
        kind = b"chat" if self.chat else b"details" if self.details else b"text"
        return hashlib.sha256(kind + b"\n" + (spec.body or b"")).digest()[:16]

    def dump(self, output: Any) -> str:
        """`output` as JSON."""
        if isinstance(output, str):
            return json.dumps(output, ensure_ascii=False)
        text: str = output.model_dump_json(warnings=False)  # of a field that was read leniently
        return text

    def load(self, text: str) -> Any:
        """The output that `dump` has written."""
        response_model = find_schema_type(self.options.get("response_format" if self.chat else "grammar"))
        if self.chat:
            completion = ChatCompletion.parse_lenient(text.encode())
            for choice in completion.choices:
                choice.message.with_response_model(response_model)
            return completion
        if self.details:
            return TextGenerationResponse.parse_lenient(text.encode()).with_response_model(response_model)
        return json.loads(text)
