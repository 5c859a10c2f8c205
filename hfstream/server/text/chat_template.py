"""Renders a conversation to the text of a prompt: the checkpoint's own chat template, rendered by transformers.

A template is a program by the model's author. It runs in jinja's sandbox, and its errors are reported as TGI does.
Does not depend on requests or HTTP.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from hfstream.errors import ValidationError


class ChatTemplate:
    """A chat template, and the special tokens that it may use."""

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        # Imports numpy and takes half a second, so only if there is a template, and not on the event loop.
        from transformers.utils import chat_template_utils  # noqa: PLC0415

        self._source = source
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
        settings = {**_read_json(model / "special_tokens_map.json"), **config}
        texts = {name: _special_token(name, token) for name, token in settings.items()}
        return cls(source, {name: text for name, text in texts.items() if text is not None})

    def render(self, messages: Sequence[dict[str, Any]], *, continue_final_message: bool = False) -> str:
        """The prompt for the assistant's next message, or with `continue_final_message` for the rest of the last one.

        Raises:
            ValidationError: the template rejects the conversation, or fails.
        """
        try:
            prompts, _ = self._render(
                [list(messages)],
                chat_template=self._source,
                add_generation_prompt=not continue_final_message,
                continue_final_message=continue_final_message,
                **self._tokens,
            )
        except Exception as error:  # a template can raise anything
            raise ValidationError(f"Template error: {error}", error_type="template_error") from error
        return str(prompts[0])


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


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
