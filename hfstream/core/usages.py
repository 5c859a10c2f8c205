"""Where a server reports the token counts of a stream. Does not depend on what is done with them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

from ..types import Usage

__all__ = ["latest_usage", "usage_in"]


def latest_usage(previous: Usage | None, new: Usage | None) -> Usage | None:
    """The one of two reports that counts: the later, unless it has only zeros."""
    if new is None or (previous is not None and not (new.total_tokens or new.prompt_tokens or new.completion_tokens)):
        return previous
    return new


def usage_in(extra: dict[str, Any] | None) -> Usage | None:
    """The usage among the unknown fields of a chunk or of a choice: Moonshot's in the choice, Groq's in `x_groq`."""
    for fields in (extra, (extra or {}).get("x_groq")):
        if isinstance(fields, dict) and isinstance(found := cast("dict[str, Any]", fields).get("usage"), dict):
            with suppress(ValueError):
                return Usage.validate_lenient(dict(cast("dict[str, Any]", found)))
    return None
