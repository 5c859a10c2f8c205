"""The data of an event that is not one JSON object: several, something that says nothing, or an error in words.

Does not depend on the format of an event, nor on what becomes of it.
"""

from __future__ import annotations

import json
from typing import Any, cast

from ..errors import InferenceError
from ..errors.response_bodies import from_event
from .decoders import try_json

__all__ = ["error_in_lines", "split_parts"]

_SIGNS_OF_LIFE = frozenset({"ping", "[ping]", "heartbeat", "[heartbeat]", "keep-alive", "[keep-alive]", "keepalive"})
"""Data of events that gateways send instead of comments."""


def split_parts(text: str, payload: Any) -> list[str] | None:
    """The data of the events that `text` stands for, `payload` if it is JSON; None if it is not known what it is.

    That is: several objects, in a list or one a line; data framed or encoded twice; none, for what holds no text.
    """
    if isinstance(payload, list):
        return [json.dumps(entry) for entry in cast("list[Any]", payload) if isinstance(entry, dict)]
    if isinstance(payload, str):
        is_encoded = payload.startswith(("{", "[DONE]"))
        return [payload] if is_encoded else None if payload else []
    if payload is not None or text in ("", "null") or text.startswith(":") or text.lower() in _SIGNS_OF_LIFE:
        return []
    if text.endswith("}[DONE]"):
        return [text.removesuffix("[DONE]"), "[DONE]"]
    parts = [line.removeprefix("data:").strip() for line in text.split("\n")]
    known = all(part in ("", "[DONE]") or isinstance(try_json(part), dict) for part in parts)
    is_framed = text.startswith("data:") or len(parts) > 1
    return parts if known and is_framed else None


def error_in_lines(text: str) -> InferenceError | None:
    """The error in data of several lines, after an event that a failure cut off, or in the words after ``error:``."""
    for line in text.split("\n"):
        field, _, words = line.partition(":")
        is_field = field.strip().lower() == "error" and bool(words.strip())
        if (error := from_event({"error": words.strip()} if is_field else try_json(line))) is not None:
            return error
    return None
