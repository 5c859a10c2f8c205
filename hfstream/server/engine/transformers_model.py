"""Loads a checkpoint or GGUF file with transformers, and refuses models that would generate wrong tokens here.

Does not depend on requests, threads or text.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from .llama import LlamaForward, is_supported
from .loaded_model import LoadedModel, context_length, unsupported
from .model_runner import Forward
from .protocol import UnsupportedModelError
from .self_check import make_reference
from .transformers_forward import TransformersForward

if TYPE_CHECKING:
    from os import PathLike


def load_with_transformers(
    path: str | PathLike[str], *, dtype: torch.dtype, device: str, max_total_tokens: int | None
) -> LoadedModel:
    """Load `path` as `dtype`, whatever it is stored in, onto `device`.

    Raises:
        UnsupportedModelError: the model would generate wrong tokens here.
        ValueError: `max_total_tokens` is out of range.
        OSError: there is no checkpoint.
    """
    config: Any = _load_config(path).get_text_config(decoder=True)
    context = context_length(config.model_type, getattr(config, "max_position_embeddings", None), max_total_tokens)
    if features := list(_unsupported_features(config, context)):
        raise unsupported(config.model_type, features)
    model = _load_model(path, dtype, device)
    if missing := list(_missing_arguments(model)):
        raise unsupported(config.model_type, missing)
    reference = make_reference(model, context=context, vocab_size=config.vocab_size)
    return LoadedModel(
        architecture=config.model_type,
        parameters=model.num_parameters(),
        vocab_size=config.vocab_size,
        eos_ids=_eos_ids(model),
        context=context,
        dtype=dtype,
        device=model.device,
        shapes=reference.shapes,
        forwards=_forwards(model, context),
        reference=reference,
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


def _forwards(model: Any, context: int) -> Generator[Forward]:
    if is_supported(model):
        yield LlamaForward.of_transformers(model, context=context)
    yield TransformersForward(model)


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


def _eos_ids(model: Any) -> frozenset[int]:
    ids: int | list[int] | None = model.generation_config.eos_token_id
    return frozenset([ids] if isinstance(ids, int) else ids or ())
