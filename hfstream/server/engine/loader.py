"""Loads a checkpoint, refuses models that would generate wrong tokens here, and checks the rest against `generate()`.

Does not depend on requests, threads or text.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from .kv_cache import TOKENS_PER_PIECE, KVCache, bytes_per_token
from .llama import LlamaForward, is_supported
from .memory_limits import default_cache_memory
from .model_runner import Forward, ModelRunner, TransformersForward
from .protocol import ModelInfo, UnsupportedModelError
from .self_check import Reference, find_deviation, make_reference

if TYPE_CHECKING:
    from os import PathLike

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MIN_CONTEXT = 8

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
    config: Any = _load_config(path).get_text_config(decoder=True)
    context = _context_length(config, max_total_tokens)
    _raise_unsupported(config.model_type, _unsupported_features(config, context))
    model = _load_model(path, DTYPES[dtype], device)
    _raise_unsupported(config.model_type, _missing_arguments(model))
    reference = make_reference(model, context=context, vocab_size=config.vocab_size)
    cache = _make_cache(reference, model, max_rows=max_rows, context=context, memory=kv_cache_memory)
    return _make_runner(model, cache, reference, context=context), ModelInfo(
        architecture=config.model_type,
        max_total_tokens=min(context, cache.budget_tokens),
        eos_ids=_eos_ids(model),
        vocab_size=config.vocab_size,
        dtype=dtype,
        device=str(model.device),
        parameters=model.num_parameters(),
        cache_tokens=cache.budget_tokens,
    )


def _source(path: str | PathLike[str]) -> dict[str, Any]:
    """The arguments of `from_pretrained` that name the model. No code that comes with a checkpoint is run."""
    model = Path(path).absolute()
    place: dict[str, Any] = {"pretrained_model_name_or_path": model}
    if model.is_file():
        place = {"pretrained_model_name_or_path": model.parent, "gguf_file": model.name}
    return {**place, "trust_remote_code": False, "local_files_only": True}


def _load_config(path: str | PathLike[str]) -> Any:
    try:
        return cast(Any, AutoConfig).from_pretrained(**_source(path))
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise UnsupportedModelError(
            "this checkpoint needs Python code of its own (auto_map in config.json), and hfstream runs no code that "
            "comes with a checkpoint: take a model whose architecture is part of transformers"
        ) from error


def _load_model(path: str | PathLike[str], dtype: torch.dtype, device: str) -> Any:
    try:
        # torch's own attention is requested by name: other implementations read a mask differently
        with _no_progress_bar():
            model = cast(Any, AutoModelForCausalLM).from_pretrained(
                **_source(path), use_safetensors=True, dtype=dtype, attn_implementation="sdpa"
            )
    except ValueError as error:  # not a causal language model, or one without this attention: the message says which
        raise UnsupportedModelError(str(error)) from error
    return model.eval().to(device)


@contextlib.contextmanager
def _no_progress_bar() -> Generator[None]:
    """Hide transformers' progress bar: stderr belongs to the program. The setting is global, so it is restored."""
    shown = transformers_logging.is_progress_bar_enabled()
    cast(Any, transformers_logging).disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            cast(Any, transformers_logging).enable_progress_bar()


def _make_cache(reference: Reference, model: Any, *, max_rows: int, context: int, memory: int | None) -> KVCache:
    """A cache of `memory` bytes."""
    per_token = bytes_per_token(reference.shapes, model.dtype)
    memory = default_cache_memory(model.device) if memory is None else memory
    budget = memory // per_token // TOKENS_PER_PIECE * TOKENS_PER_PIECE
    if not budget:
        raise ValueError(
            f"kv_cache_memory must be at least {TOKENS_PER_PIECE * per_token:,} bytes with this model, not {memory:,}: "
            f"the keys and values of a token take {per_token:,}"
        )
    return KVCache(
        reference.shapes,
        dtype=model.dtype,
        device=model.device,
        max_rows=max_rows,
        max_tokens=min(context, budget),
        budget_tokens=budget,
    )


def _make_runner(model: Any, cache: KVCache, reference: Reference, *, context: int) -> ModelRunner:
    """The fastest way to compute the model whose logits are those of `generate()`."""
    deviations: list[str] = []
    for forward in _forwards(model, context):
        runner = ModelRunner(forward, cache, dtype=model.dtype, device=model.device)
        if (deviation := find_deviation(runner, reference)) is None:
            return runner
        logger.warning("%s is not used: %s", type(forward).__name__, deviation)
        deviations = [deviation]
    raise _unsupported_error(model.config.model_type, deviations)


def _forwards(model: Any, context: int) -> Generator[Forward]:
    if is_supported(model):
        yield LlamaForward(model, context=context)
    yield TransformersForward(model)


def _context_length(config: Any, requested: int | None) -> int:
    """Tokens of prompt and output together: as many as the model has positions for, or fewer if so requested."""
    known: int | None = getattr(config, "max_position_embeddings", None)
    context = known if requested is None else requested
    if context is None:
        raise ValueError(f"a {config.model_type} checkpoint does not say how long its context is: set max_total_tokens")
    if context < MIN_CONTEXT or context > (known or context):
        limits = f"between {MIN_CONTEXT} and {known} (the model's positions)"
        raise ValueError(f"max_total_tokens must be {limits}, not {context}")
    return context


def _unsupported_features(config: Any, context: int) -> Iterable[str]:
    """What in a configuration gives wrong results for rows of different lengths with a plain causal mask."""
    if foreign := set(getattr(config, "layer_types", None) or ()) - {"full_attention"}:
        yield f"it has layers of type {', '.join(sorted(foreign))}, and only full_attention is implemented"
    window: int | None = getattr(config, "sliding_window", None)
    if window is not None and getattr(config, "use_sliding_window", True) and context > window:
        yield f"its attention slides over {window} tokens, not all of them (max_total_tokens={window} would do)"
    if getattr(config, "alibi", False):
        yield "it uses ALiBi, and only position ids are implemented"
    rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope" and context > (short := rope["original_max_position_embeddings"]):
        # transformers switches all rows at once, by the longest: `modeling_rope_utils.longrope_frequency_update`
        yield (
            f"its longrope changes all rows once one is longer than {short} tokens (max_total_tokens={short} would do)"
        )


def _missing_arguments(model: Any) -> Iterable[str]:
    if missing := {"position_ids", "past_key_values"} - set(inspect.signature(model.forward).parameters):
        yield f"its forward() takes no {' and no '.join(sorted(missing))}, so rows cannot be at different positions"


def _raise_unsupported(architecture: str, reasons: Iterable[str]) -> None:
    if listed := list(reasons):
        raise _unsupported_error(architecture, listed)


def _unsupported_error(architecture: str, reasons: list[str]) -> UnsupportedModelError:
    return UnsupportedModelError(f"{architecture} cannot be served here: {'; '.join(reasons)}")


def _eos_ids(model: Any) -> frozenset[int]:
    ids: int | list[int] | None = model.generation_config.eos_token_id
    return frozenset([ids] if isinstance(ids, int) else ids or ())
