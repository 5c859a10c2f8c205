"""Loads the bundled model without transformers, whose import takes longer than torch's.

Its checkpoint is known, so nothing is checked when it is loaded: that its logits are those of transformers is tested.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from torch import Tensor

from .kv_memory import LayerShape
from .llama import LlamaForward
from .loaded_model import LoadedModel, context_length


def load_bundled(path: Path, max_total_tokens: int | None) -> LoadedModel:
    """The checkpoint in `path`, in single precision on the CPU.

    Raises:
        ValueError: `max_total_tokens` is out of range.
        OSError: its files are not there.
    """
    config = json.loads((path / "config.json").read_text("utf-8"))
    context = context_length(config["model_type"], config["max_position_embeddings"], max_total_tokens)
    stored: dict[str, Tensor] = cast("Any", safetensors.torch).load_file(path / "model.safetensors")
    weights = {name: weight.float() for name, weight in stored.items()}
    layers, dim = config["num_hidden_layers"], config["head_dim"]
    angles = _angles(context, dim, config["rope_parameters"]["rope_theta"])
    return LoadedModel(
        architecture=config["model_type"],
        parameters=sum(each.numel() for each in weights.values()),
        vocab_size=config["vocab_size"],
        eos_ids=frozenset([config["eos_token_id"]]),
        context=context,
        dtype=torch.float32,
        device=torch.device("cpu"),
        shapes=[LayerShape(config["num_key_value_heads"], dim, dim)] * layers,
        forwards=[LlamaForward(weights, angles, layers=layers, head_dim=dim, eps=config["rms_norm_eps"])],
        reference=None,
    )


def _angles(context: int, dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary position embeddings, computed in transformers' order: to the last bit the same."""
    frequencies = 1.0 / (theta ** (torch.arange(0, dim, 2).float() / dim))
    angles = torch.arange(context).float()[:, None] * frequencies
    angles = torch.cat([angles, angles], -1)
    return angles.cos(), angles.sin()
