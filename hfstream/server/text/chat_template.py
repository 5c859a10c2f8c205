"""Renders a conversation to the text of a prompt: the checkpoint's own chat template, rendered by transformers.

A template is a program by the model's author. It runs in jinja's sandbox, and its errors are reported as TGI does.
Does not depend on requests or HTTP.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from hfstream.errors import ValidationError

from .tool_formats import ToolCallFormat, find_format
from .tool_prompt import write_tools

_RESERVED = (
    "chat_template", "conversations", "tools", "documents", "add_generation_prompt", "continue_final_message",
    "return_assistant_tokens_mask",
)  # fmt: skip
"""Arguments of transformers' function, which are no variables of a template."""


class ChatTemplate:
    """A chat template, and the special tokens that it may use."""

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        # Imports numpy and takes half a second, so only if there is a template, and not on the event loop.
        from transformers.utils import chat_template_utils  # noqa: PLC0415

        self._source = source
        self.call_format: ToolCallFormat = find_format(source)
        """How the model writes tool calls."""
        self._tokens = dict(tokens)
        self._render = cast("Any", chat_template_utils).render_jinja_template
        with contextlib.suppress(ValidationError):  # compiles it, so that no request waits for that
            self.render([{"role": "user", "content": "?"}])

    @classmethod
    def load(cls, model: Path) -> ChatTemplate | None:
        """The template of the checkpoint in the directory `model`, if it has one."""
        config = _read_json(model / "tokenizer_config.json")
        file = model / "chat_template.jinja"
        source = file.read_text("utf-8") if file.is_file() else _default_template(config.get("chat_template"))
        if source is None:
            return None
        return cls(source, special_tokens(model))

    def render(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        continue_final_message: bool = False,
        add_generation_prompt: bool | None = None,
        variables: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        call_format: ToolCallFormat | None = None,
    ) -> str:
        """The prompt for the assistant's next message, or with `continue_final_message` for the rest of the last one.

        `add_generation_prompt`: whether the prompt ends with the beginning of the assistant's message; None: if none is
        continued. `variables` are for the template. `tools` are functions in OpenAI's form, which the model may call
        in `call_format`, or in the template's own.

        Raises:
            ValidationError: the template rejects the conversation, or fails, or `variables` has a reserved name.
        """
        if reserved := sorted({*_RESERVED, "messages"}.intersection(variables or ())):
            raise ValidationError(f"Input validation error: `chat_template_kwargs` must not have `{reserved[0]}`")
        written = write_tools(self._source, messages, tools, call_format or self.call_format)
        if add_generation_prompt is None:
            add_generation_prompt = not continue_final_message
        try:
            prompts, _ = self._render(
                [[self._known_role(message) for message in written]],
                tools=list(tools) or None,
                chat_template=self._source,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                **{**self._tokens, **(variables or {})},
            )
        except Exception as error:  # a template can raise anything
            raise ValidationError(f"Template error: {error}", error_type="template_error") from error
        return str(prompts[0])

    def end_tokens(self, specials: Collection[str]) -> set[str]:
        """Those of `specials` that the template puts right behind a message of the assistant."""
        marker = "hfstream"
        conversation = [{"role": "user", "content": "?"}, {"role": "assistant", "content": marker}]
        try:
            _, _, end = self.render(conversation, add_generation_prompt=False).rpartition(marker)
        except ValidationError:  # a template with other roles
            return set()
        longest = max((text for text in specials if text and end.startswith(text)), key=len, default=None)
        return set() if longest is None else {longest}

    def _known_role(self, message: dict[str, Any]) -> dict[str, Any]:
        """OpenAI's newer name of the system role becomes the older one, if the template does not have it."""
        if message["role"] == "developer" and "developer" not in self._source:
            return {**message, "role": "system"}
        return message


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def special_tokens(model: Path) -> dict[str, str]:
    """The texts of the special tokens that the checkpoint names, such as "eos_token", by their names."""
    config = {**_read_json(model / "special_tokens_map.json"), **_read_json(model / "tokenizer_config.json")}
    texts = {name: _special_token(name, token) for name, token in config.items()}
    return {name: text for name, text in texts.items() if text is not None}


def _default_template(templates: Any) -> str | None:
    """The default template of a "chat_template" setting, which is one template or a list of named ones."""
    if isinstance(templates, list):
        listed = cast("list[dict[str, str]]", templates)
        return next((entry["template"] for entry in listed if entry["name"] == "default"), None)
    return cast("str | None", templates)


def _special_token(name: str, token: Any) -> str | None:
    """The text of the special token in setting `name`; None if the setting is something else."""
    if isinstance(token, dict):
        token = cast("dict[str, Any]", token).get("content")
    return token if name.endswith("_token") and isinstance(token, str) else None
