"""Makes a trained Llama wider and deeper, so that new weights act only in texts with new tokens.

The hidden state gets further dimensions. Only the embeddings of new tokens are not zero there, and everything that is
added reads its values from there: the new heads their values, the new neurons one of their two factors. In a text
without new tokens, the new dimensions stay zero in all layers, so the grown model computes exactly what the old one
did. New weights can therefore be trained on texts with new tokens alone, and old answers cannot be forgotten.

One new layer stands before the old ones. In texts with a new token it can copy what the old dimensions say about each
token to the new ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

HEADS, KEY_VALUE_HEADS = 6, 3
WIDTH = 192
FEED_FORWARD = 400


@dataclass
class GrownModel:
    """A grown model, and which of its weights keep their values."""

    model: LlamaForCausalLM
    kept: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict[str, tuple[Tensor, Tensor]])
    """By parameter: where its weights are kept (a mask of its shape), and its values there (elsewhere 0)."""

    @torch.no_grad()
    def drop_kept_gradients(self) -> None:
        """Set the gradients of kept weights to zero."""
        for name, parameter in self.model.named_parameters():
            if name in self.kept and parameter.grad is not None:
                parameter.grad.masked_fill_(self.kept[name][0], 0.0)

    @torch.no_grad()
    def restore(self) -> None:
        """Give kept weights their values again. Muon changes them, even without a gradient."""
        for name, parameter in self.model.named_parameters():
            if name in self.kept:
                mask, values = self.kept[name]
                parameter.copy_(torch.where(mask, values, parameter))


def grow(base: LlamaForCausalLM, new_tokens: int) -> GrownModel:
    """A wider and deeper model with `new_tokens` more tokens, which computes what `base` does without those."""
    old = base.config
    tokens, width = old.vocab_size, old.hidden_size
    settings = old.to_dict()
    settings.update(
        vocab_size=tokens + new_tokens,
        hidden_size=WIDTH,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=old.num_hidden_layers + 1,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_VALUE_HEADS,
        # The norms divide by the mean over all dimensions, which is smaller now by this factor.
        rms_norm_eps=old.rms_norm_eps * width / WIDTH,
    )
    settings.pop("layer_types", None)
    grown = GrownModel(LlamaForCausalLM(LlamaConfig(**settings)))
    old_weights = dict(base.named_parameters())
    for name, parameter in grown.model.named_parameters():
        source, layer = _source(name)
        grown.kept[name] = _kept(name, parameter, old_weights.get(source) if layer != 0 else None, tokens, width)
    with torch.no_grad():
        spread = base.model.embed_tokens.weight.std().item()
        grown.model.model.embed_tokens.weight.normal_(std=spread)
    grown.restore()
    return grown


def _source(name: str) -> tuple[str, int | None]:
    """The parameter of the old model that is part of this one, and the number of the layer."""
    parts = name.split(".")
    if "layers" not in parts:
        return name, None
    index = parts.index("layers") + 1
    layer = int(parts[index])
    parts[index] = str(layer - 1)
    return ".".join(parts), layer


def _kept(name: str, parameter: Tensor, old: Tensor | None, tokens: int, width: int) -> tuple[Tensor, Tensor]:
    mask = torch.zeros_like(parameter, dtype=torch.bool)
    values = torch.zeros_like(parameter)
    if "embed_tokens" in name:
        mask[:tokens] = True  # old tokens are zero in the new dimensions
        mask[:, :width] = True  # and new tokens in the old ones: without new tokens in the text their logits are zero
    if "v_proj" in name or "up_proj" in name:
        mask[:, :width] = True  # what is new reads from the new dimensions only
    if old is None:
        return mask, values
    old = old.detach()
    if "norm" in name:
        mask[:width] = True
        values[:width] = old * (width / WIDTH) ** 0.5
        return mask, values
    rows, columns = old.shape
    if "o_proj" in name or "down_proj" in name:
        mask[:, :columns] = True  # old heads and neurons do not write to the new dimensions
    mask[:rows, :columns] = True
    values[:rows, :columns] = old
    return mask, values
