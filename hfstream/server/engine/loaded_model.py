"""A model whose weights are in memory: what it is, and the ways to compute it.

Does not depend on where it came from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from .kv_memory import LayerShape
from .model_runner import Forward
from .protocol import UnsupportedModelError
from .self_check import Reference


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One of `bundled_model` or `transformers_model`."""

    architecture: str
    parameters: int
    vocab_size: int
    eos_ids: frozenset[int]
    context: int
    """Tokens of prompt and output together."""
    dtype: torch.dtype
    device: torch.device
    shapes: list[LayerShape]
    """What it caches in each of its layers."""
    forwards: Iterable[Forward]
    """Ways to compute it, the fastest first."""
    reference: Reference | None
    """What its logits must be; None if they are known to be right."""


MIN_CONTEXT = 8


def context_length(architecture: str, known: int | None, requested: int | None) -> int:
    """As many tokens as the model has positions for (`known`), or fewer if so requested.

    Raises:
        ValueError: `requested` is out of range, or is needed because the checkpoint does not say.
    """
    context = known if requested is None else requested
    if context is None:
        raise ValueError(f"a {architecture} checkpoint does not say how long its context is: set max_total_tokens")
    if context < MIN_CONTEXT or context > (known or context):
        limits = f"between {MIN_CONTEXT} and {known} (the model's positions)"
        raise ValueError(f"max_total_tokens must be {limits}, not {context}")
    return context


def unsupported(architecture: str, reasons: Iterable[str]) -> UnsupportedModelError:
    """The error that says why a model cannot be served."""
    return UnsupportedModelError(f"{architecture} cannot be served here: {'; '.join(reasons)}")
