"""Loads a model, chooses how it is computed, and checks that against `generate()`.

Does not depend on requests, threads or text.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..model_files import BUNDLED
from .bundled_model import load_bundled
from .kv_cache import TOKENS_PER_PIECE, KVCache, bytes_per_token
from .loaded_model import LoadedModel, unsupported
from .memory_limits import default_cache_memory
from .model_runner import ModelRunner
from .protocol import ModelInfo
from .self_check import find_deviation

if TYPE_CHECKING:
    from os import PathLike

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

logger: logging.Logger = logging.getLogger(__name__)


def load(
    path: str | PathLike[str],
    *,
    max_rows: int,
    dtype: str,
    device: str,
    max_total_tokens: int | None,
    kv_cache_memory: int | None,
) -> tuple[ModelRunner, ModelInfo]:
    """Load the checkpoint or GGUF file `path` as `dtype`, whatever it is stored in, onto `device`.

    Raises:
        UnsupportedModelError: the model would generate wrong tokens here.
        ValueError: `dtype`, `max_total_tokens` or `kv_cache_memory` is out of range.
        OSError: there is no checkpoint.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    if (Path(path), dtype, device) == (BUNDLED, "float32", "cpu"):
        model = load_bundled(BUNDLED, max_total_tokens)
    else:
        # Takes seconds to import.
        from .transformers_model import load_with_transformers  # noqa: PLC0415

        model = load_with_transformers(path, dtype=DTYPES[dtype], device=device, max_total_tokens=max_total_tokens)
    cache = _make_cache(model, max_rows=max_rows, memory=kv_cache_memory)
    return _make_runner(model, cache), ModelInfo(
        architecture=model.architecture,
        max_total_tokens=min(model.context, cache.budget_tokens),
        eos_ids=model.eos_ids,
        vocab_size=model.vocab_size,
        dtype=dtype,
        device=str(model.device),
        parameters=model.parameters,
        cache_tokens=cache.budget_tokens,
    )


def _make_cache(model: LoadedModel, *, max_rows: int, memory: int | None) -> KVCache:
    """A cache of `memory` bytes."""
    per_token = bytes_per_token(model.shapes, model.dtype)
    memory = default_cache_memory(model.device) if memory is None else memory
    budget = memory // per_token // TOKENS_PER_PIECE * TOKENS_PER_PIECE
    if not budget:
        raise ValueError(
            f"kv_cache_memory must be at least {TOKENS_PER_PIECE * per_token:,} bytes with this model, not {memory:,}: "
            f"the keys and values of a token take {per_token:,}"
        )
    return KVCache(
        model.shapes,
        dtype=model.dtype,
        device=model.device,
        max_rows=max_rows,
        max_tokens=min(model.context, budget),
        budget_tokens=budget,
    )


def _make_runner(model: LoadedModel, cache: KVCache) -> ModelRunner:
    """The fastest way to compute the model whose logits are those of `generate()`."""
    deviations: list[str] = []
    for forward in model.forwards:
        runner = ModelRunner(forward, cache, dtype=model.dtype, device=model.device)
        if model.reference is None or (deviation := find_deviation(runner, model.reference)) is None:
            return runner
        logger.warning("%s is not used: %s", type(forward).__name__, deviation)
        deviations = [deviation]
    raise unsupported(model.architecture, deviations)
