"""A conversation to the text that the model reads: the checkpoint's own chat template, rendered by transformers.

Refuses to know requests. A template is a program of whoever made the model: it runs in jinja's sandbox, and whatever
becomes of it is told as TGI tells it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from hfstream.errors import ValidationError


class ChatTemplate:
    """A chat template, and the special tokens that it may write."""

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        # It brings numpy and takes half a second: not before there is a template, and on the engine's thread.
        from transformers.utils import chat_template_utils  # noqa: PLC0415

        self._source = source
        self._tokens = dict(tokens)
        self._render = cast("Any", chat_template_utils).render_jinja_template
        with contextlib.suppress(ValidationError):  # once here, so that no conversation waits while it is compiled
            self.render([{"role": "user", "content": "?"}])

    @classmethod
    def load(cls, model: Path) -> ChatTemplate | None:
        """The template of the checkpoint in the directory `model`, if it has one."""
        config = _read(model / "tokenizer_config.json")
        file = model / "chat_template.jinja"
        source = file.read_text("utf-8") if file.is_file() else _default(config.get("chat_template"))
        if source is None:
            return None
        named = {**_read(model / "special_tokens_map.json"), **config}
        return cls(source, {name: text for name, token in named.items() if (text := _special(name, token)) is not None})

    def render(self, messages: Sequence[dict[str, Any]], *, continue_final_message: bool = False) -> str:
        """The prompt that asks for an answer; `continue_final_message`: for the rest of the last message, instead.

        Raises:
            ValidationError: the template says no, or breaks.
        """
        try:
            prompts, _ = self._render(
                [list(messages)],
                chat_template=self._source,
                add_generation_prompt=not continue_final_message,
                continue_final_message=continue_final_message,
                **self._tokens,
            )
        except Exception as error:  # a program of somebody else's can raise anything
            raise ValidationError(f"Template error: {error}", error_type="template_error") from error
        return str(prompts[0])


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def _default(templates: Any) -> str | None:
    """The template for plain conversations, of one or of a list with names."""
    if isinstance(templates, list):
        listed = cast("list[dict[str, str]]", templates)
        return next((entry["template"] for entry in listed if entry["name"] == "default"), None)
    return cast("str | None", templates)


def _special(name: str, token: Any) -> str | None:
    """How the special token called `name` is written; None if this is none."""
    if isinstance(token, dict):
        token = cast("dict[str, Any]", token).get("content")
    return token if name.endswith("_token") and isinstance(token, str) else None
