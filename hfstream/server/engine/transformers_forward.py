"""transformers' own forward pass, over packed segments: for every family.

Models call the packed attention through transformers' `AttentionInterface`, under the name "hfstream", and write keys
and values through `PackedCache`. Does not depend on requests or sampling, nor on how rows are allocated.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, Cache

from .attention import AttentionPlan

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "hfstream"
"""The `attn_implementation` of models that run here."""


class TransformersForward:
    """transformers' own `forward`, for every family.

    Its attention is replaced by the packed one where the family has transformers' `AttentionInterface`. Elsewhere each
    segment is a pass of its own.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model: Any = model
        self._packs = bool(self._model._can_set_attn_implementation())
        self._only_last = "logits_to_keep" in inspect.signature(model.forward).parameters
        if self._packs:
            self._model.set_attn_implementation(NAME)

    @property
    def packs(self) -> bool:
        return self._packs

    def __call__(self, ids: Tensor, positions: Tensor, last: Tensor, plan: AttentionPlan) -> Tensor:
        cache = PackedCache(plan, packs=self._packs)
        options: dict[str, Any] = {"logits_to_keep": last} if self._only_last else {}
        if not self._packs:  # [1, 1, tokens, tokens to attend to]: transformers passes a 4-D mask on unchanged
            options["attention_mask"] = (
                torch.arange(plan.segments[0].end, device=ids.device) <= positions[None, None, :, None]
            )
        with packed_attention(cache):
            logits: Tensor = self._model(
                input_ids=ids[None], position_ids=positions[None], past_key_values=cache, use_cache=True, **options
            ).logits[0]
        return logits if self._only_last else logits[last]


class PackedCache(Cache):
    """Writes keys and values where the plan says, and attention reads them there.

    With `packs` False it returns what the plan's only segment attends to, for models that call torch's attention
    themselves.
    """

    def __init__(self, plan: AttentionPlan, *, packs: bool) -> None:
        super().__init__(layers=[])
        self.plan: AttentionPlan = plan
        self.layer: int = 0
        """The latest to be written to: the one whose attention comes next."""
        self._packs = packs

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write [1, heads, tokens, dim] each."""
        self.layer = layer_idx
        self.plan.write(layer_idx, key_states[0].transpose(0, 1), value_states[0].transpose(0, 1))
        if self._packs:
            return key_states, value_states
        [segment] = self.plan.segments
        slab, row = segment.row.slab, segment.row.index
        return slab.keys[layer_idx][None, row, :, : segment.end], slab.values[layer_idx][None, row, :, : segment.end]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens before this pass, for models that ask although they are given positions and a mask."""
        return self.plan.segments[0].row.length

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """(tokens to attend to, offset of the first)."""
        return self.plan.segments[0].end, 0

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """-1: no limit."""
        return -1


_running = threading.local()


@contextmanager
def packed_attention(cache: PackedCache) -> Generator[None]:
    """Makes `cache` the one whose plan models on this thread attend by."""
    _running.cache = cache
    try:
        yield
    finally:
        del _running.cache


def _attend(  # noqa: PLR0917 - transformers' own
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, scaling: float | None = None, **_: Any
) -> tuple[Tensor, None]:
    """Transformers' interface: `query` [1, heads, tokens, dim] to [1, tokens, heads, dim]."""
    cache: PackedCache = _running.cache
    return cache.plan.attend(cache.layer, query[0].transpose(0, 1), scaling)[None], None


cast(Any, AttentionInterface).register(NAME, _attend)  # transformers is half typed
