"""The start-up check: whether a runner's logits are those of the model's own `generate()`.

Does not depend on how the runner computes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .attention import Segment
from .kv_cache import Row
from .kv_memory import LayerShape
from .model_runner import ModelRunner
from .protocol import UnsupportedModelError

MAX_PROMPT = 16
MAX_STEPS = 6


@dataclass(frozen=True, slots=True)
class Reference:
    """What `generate()` makes greedily of a prompt."""

    prompt: list[int]
    tokens: list[int]
    logits: Tensor
    """[tokens, vocab_size], float32."""
    tolerance: float
    """How far logits of the model's precision may be off."""
    shapes: list[LayerShape]
    """What the model caches in each of its layers."""


@torch.inference_mode()
def make_reference(model: Any, *, context: int, vocab_size: int) -> Reference:
    """Run `generate()`. `context`: tokens that a sequence may have.

    Raises:
        UnsupportedModelError: the model does not cache keys and values for each layer.
    """
    size = min(MAX_PROMPT, context // 4)
    prompt = [(7 * i + 3) % vocab_size for i in range(size)]
    ids = torch.tensor([prompt], device=model.device)
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        num_beams=1,
        max_new_tokens=min(MAX_STEPS, context - 2 * size),
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    logits = torch.cat(output.logits).float()
    return Reference(
        prompt=prompt,
        tokens=output.sequences[0, size:].tolist(),
        logits=logits,
        tolerance=torch.finfo(model.dtype).eps ** 0.5 * max(1e-6, logits.abs().max().item()),
        shapes=_layer_shapes(output.past_key_values),
    )


@torch.inference_mode()
def find_deviation(runner: ModelRunner, reference: Reference) -> str | None:
    """What is wrong with a runner's logits; None if they are those of `generate()`.

    The prompt is read in two chunks, the second beside a longer prompt, and decoded beside that one: this shows wrong
    positions, masks and cache writes in any architecture. Logits are compared, not tokens: in half precision the two
    ways may round a near tie differently and both be right.
    """
    prompt, cache = reference.prompt, runner.cache
    rows = [cache.allocate(3 * len(prompt)) for _ in range(2)]
    try:
        actual = torch.cat(_logits(runner, prompt, rows, reference.tokens)).float()
    finally:
        for row in rows:
            cache.free(row)
    error = (actual - reference.logits).abs().max().item()
    if error <= reference.tolerance:  # false for a NaN
        return None
    return (
        f"in the start-up self-check its logits differ from generate()'s by {error:.3g} "
        f"(tolerated: {reference.tolerance:.3g})"
    )


def _logits(runner: ModelRunner, prompt: list[int], rows: Sequence[Row], tokens: Sequence[int]) -> list[Tensor]:
    checked, other = rows
    half = len(prompt) // 2
    runner.forward([Segment(checked, prompt[:half], logits=0)])
    logits = [runner.forward([Segment(checked, prompt[half:]), Segment(other, prompt + prompt)])[:1]]
    # Each step is given generate()'s token: otherwise one near tie would make all later logits differ.
    logits += [runner.forward([Segment(checked, [token]), Segment(other, [token])])[:1] for token in tokens[:-1]]
    return logits


def _layer_shapes(cache: Any) -> list[LayerShape]:
    shapes: list[LayerShape] = []
    for layer in cache.layers:
        if getattr(layer, "keys", None) is None or layer.values is None:
            raise UnsupportedModelError("not every layer of this model has keys and values of its own")
        shapes.append(LayerShape(layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3]))
    return shapes
