"""What `client.map` returns for each prompt. Does not depend on how prompts are asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..errors import InferenceError

__all__ = ["JournalError", "MapResult"]

OutputT = TypeVar("OutputT")


class JournalError(ValueError):
    """The journal of `client.map` cannot be used: it is of another run, in use, no journal, or cannot be written."""


@dataclass(frozen=True)
class MapResult(Generic[OutputT]):
    """What became of one prompt of `client.map`: either `output` or `error` is None."""

    index: int
    """The prompt's position among all prompts, from 0."""
    prompt: Any
    """The prompt, as it was given."""
    output: OutputT | None
    """What the single call returns: a `str`, a `TextGenerationResponse`, a `ChatCompletion`."""
    error: InferenceError | None = None
    """Why there is no output."""
