"""The Llama family's forward pass, for models whose layers are those of Llama: Llama itself, Mistral, Qwen2.

It computes what transformers' `forward` computes, with the same weights, in a third of the Python calls: on a small
model those take most of a step's time. The start-up check compares its logits with `generate()`'s.

Does not depend on requests, sampling, or on how keys and values are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, rms_norm, silu

from .attention import AttentionPlan

MODEL_TYPES = frozenset({"llama", "mistral", "qwen2"})

ROPE_TYPES = frozenset({"default", "linear", "llama3", "yarn"})
"""Those whose angles depend on the position alone."""

LARGE = 100_000
"""Numbers in a weight from which on a product for a few tokens is computed the other way round."""
FEW = 8
"""Tokens up to which it is. For 16 a whole server is no faster with it, and slower from 32 on."""


class _Linear(NamedTuple):
    """A linear layer, for states [tokens, in]."""

    weight: Tensor
    bias: Tensor | None
    swaps: bool
    """For a few tokens: whether (W states^T)^T is computed instead of states W^T. On a CPU with more than one thread
    MKL divides the first better: a step of SmolLM2-135M takes 45 ms instead of 83 for 4 sequences (torch 2.13, two
    cores)."""

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None = None) -> _Linear:
        swaps = weight.numel() >= LARGE and (weight.device.type, weight.dtype) == ("cpu", torch.float32)
        return cls(weight, bias, swaps)

    def __call__(self, states: Tensor) -> Tensor:
        if not self.swaps or not 1 < len(states) <= FEW:
            return linear(states, self.weight, self.bias)
        product = torch.mm(self.weight, states.t())
        if self.bias is not None:
            product += self.bias[:, None]
        return product.t().contiguous()  # attention would copy it, or take a slower way, if it were not


class _Layer(NamedTuple):
    attention_norm: Tensor
    query: _Linear
    key: _Linear
    value: _Linear
    output: _Linear
    mlp_norm: Tensor
    gate: _Linear
    up: _Linear
    down: _Linear


class LlamaForward:
    """The forward pass of one model, which keeps its weights."""

    packs: bool = True

    def __init__(
        self, weights: Mapping[str, Tensor], angles: tuple[Tensor, Tensor], *, layers: int, head_dim: int, eps: float
    ) -> None:
        """`weights` by their names in a checkpoint; `angles`: cosines and sines, [context, head_dim] each."""
        self._eps, self._head_dim = eps, head_dim
        self._embedding: Tensor = weights["model.embed_tokens.weight"]
        self._norm: Tensor = weights["model.norm.weight"]
        self._head = _Linear.of(weights.get("lm_head.weight", self._embedding))
        self._layers = [_layer(weights, f"model.layers.{number}") for number in range(layers)]
        cosines, sines = angles
        self._cosines: Tensor = cosines[:, None]  # [context, 1, head_dim]
        first, second = sines[:, None].chunk(2, -1)
        self._sines: Tensor = torch.cat([-first, second], -1)  # so that rotating a vector's halves is a roll

    @classmethod
    def of_transformers(cls, model: Any, *, context: int) -> LlamaForward:
        """The same for a model of transformers that `is_supported`. `context`: positions are less than that."""
        config, weights = model.config, model.state_dict()
        positions = torch.arange(context, device=model.device)[None]
        cosines, sines = model.model.rotary_emb(weights["model.norm.weight"], positions)
        return cls(
            weights,
            (cosines[0], sines[0]),
            layers=config.num_hidden_layers,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            eps=config.rms_norm_eps,
        )

    def __call__(self, ids: Tensor, positions: Tensor, last: Tensor, plan: AttentionPlan) -> Tensor:
        hidden = embedding(ids, self._embedding)
        angles = self._cosines[positions], self._sines[positions]
        for number, layer in enumerate(self._layers):
            hidden = hidden + self._attention(number, layer, self._normed(hidden, layer.attention_norm), angles, plan)
            normed = self._normed(hidden, layer.mlp_norm)
            hidden = hidden + layer.down(silu(layer.gate(normed)) * layer.up(normed))
        return self._head(self._normed(hidden[last], self._norm))

    def _attention(
        self, number: int, layer: _Layer, hidden: Tensor, angles: tuple[Tensor, Tensor], plan: AttentionPlan
    ) -> Tensor:
        heads = hidden.shape[0], -1, self._head_dim
        queries = self._rotate(layer.query(hidden).view(heads), *angles)
        keys = self._rotate(layer.key(hidden).view(heads), *angles)
        plan.write(number, keys, layer.value(hidden).view(heads))
        found = plan.attend(number, queries, self._head_dim**-0.5)
        return layer.output(found.reshape(hidden.shape[0], -1))

    def _rotate(self, states: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        return torch.addcmul(states * cosines, states.roll(self._head_dim // 2, -1), sines)

    def _normed(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return rms_norm(hidden, hidden.shape[-1:], weight, self._eps)


def is_supported(model: Any) -> bool:
    """Whether a model is one that `LlamaForward` computes: by its configuration, and by the classes of its layers."""
    config = model.config
    rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type in MODEL_TYPES
        and config.hidden_act == "silu"
        and rope.get("rope_type", "default") in ROPE_TYPES
        and rope.get("partial_rotary_factor", 1.0) == 1.0
        and all(type(part) is torch.nn.Linear for part in model.modules() if hasattr(part, "in_features"))
    )


def _layer(weights: Mapping[str, Tensor], name: str) -> _Layer:
    def module(path: str) -> _Linear:
        return _Linear.of(weights[f"{name}.{path}.weight"], weights.get(f"{name}.{path}.bias"))

    return _Layer(
        attention_norm=weights[f"{name}.input_layernorm.weight"],
        query=module("self_attn.q_proj"),
        key=module("self_attn.k_proj"),
        value=module("self_attn.v_proj"),
        output=module("self_attn.o_proj"),
        mlp_norm=weights[f"{name}.post_attention_layernorm.weight"],
        gate=module("mlp.gate_proj"),
        up=module("mlp.up_proj"),
        down=module("mlp.down_proj"),
    )
