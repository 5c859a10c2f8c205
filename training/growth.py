"""Makes a trained Llama wider and deeper, so that new weights act only in texts with new tokens.

The hidden state gets further dimensions. Only the embeddings of new tokens are not zero there, and everything that is
added reads its values from there: the new heads their values, the new neurons one of their two factors. In a text
without new tokens the new dimensions stay zero in all layers, so the grown model computes exactly what the old one did.

One new layer stands before the old ones. New weights write to the old dimensions in the last layer only. Before it, the
old dimensions hold what the old model computes in texts with new tokens too, and no gradient has to pass through it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention, silu
from transformers import LlamaConfig, LlamaForCausalLM

HEADS, KEY_VALUE_HEADS = 6, 3
WIDTH = 186
FEED_FORWARD = 400


class Shape(NamedTuple):
    """Sizes of the old model."""

    tokens: int
    width: int
    heads: int
    key_value_heads: int
    feed_forward: int
    layers: int

    @classmethod
    def of(cls, config: Any) -> Shape:
        """The sizes in a Llama's configuration."""
        return cls(
            config.vocab_size,
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.intermediate_size,
            config.num_hidden_layers,
        )


class NewWeights(nn.Module):
    """The new weights of one layer. Inputs are the old dimensions followed by the new ones."""

    def __init__(self, old_width: int, head_dim: int, heads: int, key_value_heads: int, neurons: int, *, last: bool):
        super().__init__()
        new = WIDTH - old_width
        self.attention_norm = nn.Parameter(torch.ones(new))
        self.query = _normal(heads * head_dim, WIDTH)
        self.key = _normal(key_value_heads * head_dim, WIDTH)
        self.value = _normal(key_value_heads * head_dim, new)
        self.output = _normal(new, heads * head_dim)
        self.mlp_norm = nn.Parameter(torch.ones(new))
        self.gate = _normal(neurons, WIDTH)
        self.up = _normal(neurons, new)
        self.down = _normal(new, neurons)
        self.output_old = nn.Parameter(torch.zeros(old_width, heads * head_dim)) if last else None
        self.down_old = nn.Parameter(torch.zeros(old_width, neurons)) if last else None


class GrownModel(nn.Module):
    """The old model's weights, which are fixed, and the new ones."""

    def __init__(self, base: LlamaForCausalLM, new_tokens: int) -> None:
        super().__init__()
        self.base: list[LlamaForCausalLM] = [base.requires_grad_(False)]  # a list: not a part of this module
        self.shape = Shape.of(base.config)
        self.head_dim = base.config.hidden_size // base.config.num_attention_heads
        width, heads, key_values = self.shape.width, self.shape.heads, self.shape.key_value_heads
        self.embedding = _normal(new_tokens, WIDTH - width)
        self.norm = nn.Parameter(torch.ones(WIDTH - width))
        self.layers = nn.ModuleList(
            [NewWeights(width, self.head_dim, HEADS, KEY_VALUE_HEADS, FEED_FORWARD, last=False)]
        )
        for number in range(self.shape.layers):
            sizes = HEADS - heads, KEY_VALUE_HEADS - key_values, FEED_FORWARD - self.shape.feed_forward
            last = number == self.shape.layers - 1
            self.layers.append(NewWeights(width, self.head_dim, *sizes, last=last))

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The normed final hidden state [batch, tokens, dimensions], old dimensions and new ones, of `ids`."""
        base: Any = self.base[0]
        old_ids = ids.clamp(max=self.shape.tokens - 1)
        is_new = (ids >= self.shape.tokens)[..., None]
        old = base.model.embed_tokens.weight[old_ids].masked_fill(is_new, 0.0)
        new = self.embedding[(ids - self.shape.tokens).clamp(min=0)] * is_new
        angles = base.model.rotary_emb(old, torch.arange(ids.shape[1])[None])
        for number in range(len(self.layers)):
            layer: Any = self.layers[number]
            its: Any = base.model.layers[number - 1] if number else None
            weight = its.input_layernorm.weight if its else torch.ones(self.shape.width)
            normed_old, normed_new = self._norm(old, new, weight, layer.attention_norm)
            normed = torch.cat([normed_old, normed_new], -1)
            keys_and_values = linear(normed, layer.key), linear(normed_new, layer.value)
            found = self._attend(linear(normed, layer.query), *keys_and_values, angles)
            new = new + linear(found, layer.output)
            if its:
                attention = its.self_attn
                queries, keys, values = attention.q_proj, attention.k_proj, attention.v_proj
                found_old = self._attend(queries(normed_old), keys(normed_old), values(normed_old), angles)
                old = old + attention.o_proj(found_old)
            if layer.output_old is not None:
                old = old + linear(found, layer.output_old)
            weight = its.post_attention_layernorm.weight if its else torch.ones(self.shape.width)
            normed_old, normed_new = self._norm(old, new, weight, layer.mlp_norm)
            normed = torch.cat([normed_old, normed_new], -1)
            neurons = silu(linear(normed, layer.gate)) * linear(normed_new, layer.up)
            new = new + linear(neurons, layer.down)
            if its:
                old = old + its.mlp(normed_old)
            if layer.down_old is not None:
                old = old + linear(neurons, layer.down_old)
        return self._norm(old, new, base.model.norm.weight, self.norm, last=True)

    def logits(self, old: Tensor, new: Tensor) -> Tensor:
        """Logits of old and new tokens from what `forward` returns (or some of its positions)."""
        embedding = self.base[0].model.embed_tokens.weight
        return torch.cat([linear(old, embedding), linear(new, self.embedding)], -1)

    def _norm(
        self, old: Tensor, new: Tensor, old_weight: Tensor, new_weight: Tensor, *, last: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Both parts divided by what the old model would divide by, were the new dimensions zero."""
        square = new.square().sum(-1, keepdim=True)
        both = old.square().sum(-1, keepdim=True) + square
        eps = self.base[0].config.rms_norm_eps
        factor = (both / self.shape.width + eps).rsqrt()
        is_first = not old.requires_grad and not last
        old_factor = factor.detach() if is_first else factor
        return old * old_factor * old_weight, new * factor * new_weight

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        split = *queries.shape[:2], -1, self.head_dim
        queries, keys = (_rotate(states.view(split).transpose(1, 2), angles) for states in (queries, keys))
        values = values.view(split).transpose(1, 2)
        copies = queries.shape[1] // keys.shape[1]
        keys, values = (states.repeat_interleave(copies, 1) for states in (keys, values))
        found = scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return found.transpose(1, 2).flatten(2)

    @torch.no_grad()
    def assemble(self) -> Any:
        """One `LlamaForCausalLM` with all weights."""
        base = self.base[0]
        settings = base.config.to_dict()
        settings.update(
            vocab_size=self.shape.tokens + len(self.embedding),
            hidden_size=WIDTH,
            intermediate_size=FEED_FORWARD,
            num_hidden_layers=len(self.layers),
            num_attention_heads=HEADS,
            num_key_value_heads=KEY_VALUE_HEADS,
            # The norms divide by the mean over all dimensions, which is smaller now by this factor.
            rms_norm_eps=base.config.rms_norm_eps * self.shape.width / WIDTH,
        )
        settings.pop("layer_types", None)
        model: Any = LlamaForCausalLM(LlamaConfig(**settings))
        for parameter in model.parameters():
            parameter.zero_()
        width, old_model = self.shape.width, base.model
        scale = math.sqrt(width / WIDTH)
        embedding = model.model.embed_tokens.weight
        embedding[: self.shape.tokens, :width] = old_model.embed_tokens.weight
        embedding[self.shape.tokens :, width:] = self.embedding
        model.model.norm.weight.copy_(torch.cat([old_model.norm.weight, self.norm]) * scale)
        layers: list[Any] = list(self.layers)
        for number, (target, layer) in enumerate(zip(model.model.layers, layers, strict=True)):
            its: Any = old_model.layers[number - 1] if number else None
            attention, mlp = target.self_attn, target.mlp
            for norm, new, name in (
                (target.input_layernorm, layer.attention_norm, "input_layernorm"),
                (target.post_attention_layernorm, layer.mlp_norm, "post_attention_layernorm"),
            ):
                old = getattr(its, name).weight if its else torch.ones(width)
                norm.weight.copy_(torch.cat([old, new]) * scale)
            pairs: list[tuple[Any, Any, Tensor, Tensor | None]] = [
                (attention.q_proj, its and its.self_attn.q_proj, layer.query, None),
                (attention.k_proj, its and its.self_attn.k_proj, layer.key, None),
                (attention.v_proj, its and its.self_attn.v_proj, layer.value, None),
                (attention.o_proj, its and its.self_attn.o_proj, layer.output, layer.output_old),
                (mlp.gate_proj, its and its.mlp.gate_proj, layer.gate, None),
                (mlp.up_proj, its and its.mlp.up_proj, layer.up, None),
                (mlp.down_proj, its and its.mlp.down_proj, layer.down, layer.down_old),
            ]
            for target_part, old_part, new_part, to_old in pairs:
                weight = target_part.weight
                if old_part is not None:
                    rows, columns = old_part.weight.shape
                    weight[:rows, :columns] = old_part.weight
                weight[-new_part.shape[0] :, -new_part.shape[1] :] = new_part
                if to_old is not None:
                    weight[:width, -to_old.shape[1] :] = to_old
        return model


def _normal(rows: int, columns: int, std: float = 0.02) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, columns) * std)


def _rotate(states: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    first, second = states.chunk(2, -1)
    return states * angles[0][:, None] + torch.cat([-second, first], -1) * angles[1][:, None]
