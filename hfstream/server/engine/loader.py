"""Loads a checkpoint, refuses models that would generate wrong tokens here, and checks the rest against `generate()`.

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
from transformers.utils import logging

from .model_runner import ModelRunner
from .protocol import ModelInfo, UnsupportedModelError

if TYPE_CHECKING:
    from os import PathLike

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MIN_CONTEXT = 8
SELF_CHECK_TOKENS = 6


def load(
    path: str | PathLike[str], *, max_rows: int, dtype: str, device: str, max_total_tokens: int | None
) -> tuple[ModelRunner, ModelInfo]:
    """Load the checkpoint or GGUF file `path` as `dtype`, whatever it is stored in, onto `device`.

    Raises:
        UnsupportedModelError: the model would generate wrong tokens here.
        ValueError: `dtype` or `max_total_tokens` is out of range.
        OSError: there is no checkpoint.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    config: Any = _load_config(path).get_text_config(decoder=True)
    context = _context_length(config, max_total_tokens)
    _raise_unsupported(config.model_type, _unsupported_features(config, context))
    model = _load_model(path, DTYPES[dtype], device)
    _raise_unsupported(config.model_type, _missing_arguments(model))
    runner = ModelRunner(model, max_rows)
    _raise_unsupported(config.model_type, self_check(runner, context, config.vocab_size))
    return runner, ModelInfo(
        architecture=config.model_type,
        max_total_tokens=context,
        eos_ids=_eos_ids(model),
        vocab_size=config.vocab_size,
        dtype=dtype,
        device=str(model.device),
        parameters=model.num_parameters(),
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
    shown = logging.is_progress_bar_enabled()
    cast(Any, logging).disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            cast(Any, logging).enable_progress_bar()


@torch.inference_mode()
def self_check(runner: ModelRunner, context: int, vocab_size: int) -> list[str]:
    """Why this runner cannot be trusted; empty if its logits for one prompt are those of the model's `generate()`.

    The prompt is read in two chunks and decoded beside a longer row, which shows wrong positions, masks and cache
    writes in any architecture. Logits are compared, not tokens: in half precision the two ways may round a near tie
    differently and both be right.
    """
    size = min(16, context // 4)
    prompt = [(7 * i + 3) % vocab_size for i in range(size)]
    expected, generated = _generate(runner.model, prompt, steps=min(SELF_CHECK_TOKENS, context - 2 * size))
    actual = [_start_decoding(runner, [prompt[: size // 2], prompt[size // 2 :]])]
    if runner.max_rows > 1:
        _start_decoding(runner, [prompt + prompt])
    # Each step is given generate()'s token: otherwise one near tie would make all later logits differ.
    actual += [runner.decode([token] * len(runner.lengths))[:1] for token in generated[:-1]]
    runner.clear()
    error = (torch.cat(actual).float() - expected).abs().max().item()
    tolerance = torch.finfo(runner.model.dtype).eps ** 0.5 * max(1e-6, expected.abs().max().item())
    if error <= tolerance:  # false for a NaN
        return []
    return [
        f"in the start-up self-check its logits differ from generate()'s by {error:.3g} (tolerated: {tolerance:.3g})"
    ]


def _generate(model: Any, prompt: list[int], steps: int) -> tuple[torch.Tensor, list[int]]:
    """What `generate()` makes greedily of `prompt`: its raw logits [steps, vocab_size], and its tokens."""
    ids = torch.tensor([prompt], device=model.device)
    params = {"do_sample": False, "num_beams": 1, "max_new_tokens": steps, "pad_token_id": 0}
    outputs = {"output_logits": True, "return_dict_in_generate": True}
    output = model.generate(ids, attention_mask=torch.ones_like(ids), **params, **outputs)
    return torch.cat(output.logits).float(), output.sequences[0, len(prompt) :].tolist()


def _start_decoding(runner: ModelRunner, chunks: Iterable[list[int]]) -> torch.Tensor:
    logits = [runner.prefill(chunk) for chunk in chunks][-1]
    runner.commit()
    return logits


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
    if message := "; ".join(reasons):
        raise UnsupportedModelError(f"{architecture} cannot be served here: {message}")


def _eos_ids(model: Any) -> frozenset[int]:
    ids: int | list[int] | None = model.generation_config.eos_token_id
    return frozenset([ids] if isinstance(ids, int) else ids or ())
