"""What a checkpoint says about generation: the tokens that end a text, and its other settings.

Does not depend on the engine, which reads the tokens of config.json and generation_config.json by itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from .chat_template import ChatTemplate, special_tokens
from .tokenizer import Tokenizer


def read_generation_config(model: Path) -> dict[str, Any]:
    """The content of generation_config.json; empty if there is none."""
    file = model / "generation_config.json"
    content: Any = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return cast("dict[str, Any]", content) if isinstance(content, dict) else {}


def end_of_text_ids(model: Path, tokenizer: Tokenizer, chat_template: ChatTemplate | None) -> frozenset[int]:
    """The tokens that end a text by the tokenizer's settings, or by the chat template.

    Checkpoints say so in several places that do not always agree, and a token that is missing here is a text that runs
    on to its limit: so the tokens of all places count.
    """
    texts = {special_tokens(model).get("eos_token")}
    if chat_template is not None:
        texts |= chat_template.end_tokens(tokenizer.specials.values())
    return frozenset(token for token, text in tokenizer.specials.items() if text in texts)
