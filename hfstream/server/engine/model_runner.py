"""Runs the model: one forward pass over the segments of several sequences, prompts' chunks and single tokens together.

Does not depend on requests, sampling, text or threads.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from .attention import NAME, AttentionPlan, PackedCache, Segment, packed_attention
from .kv_cache import KVCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Forward(Protocol):
    """A way to compute the model."""

    @property
    def packs(self) -> bool:
        """Whether one pass may have several segments."""
        ...

    def __call__(self, ids: Tensor, positions: Tensor, last: Tensor, plan: AttentionPlan) -> Tensor:
        """Logits [n, vocab_size] after the tokens numbered `last` [n], of the plan's `ids` [t] at `positions` [t]."""
        ...


class ModelRunner:
    """A model and its KV cache."""

    def __init__(self, forward: Forward, cache: KVCache, *, dtype: torch.dtype, device: torch.device) -> None:
        self.cache: KVCache = cache
        self._compute, self._dtype, self._device = forward, dtype, device

    def forward(self, segments: Sequence[Segment]) -> Tensor:
        """Append each segment's tokens to its row; logits [those needed, vocab_size], in the same order.

        The rows' lengths change only if all goes well. After an error the same segments may be tried again.
        """
        for segment in segments:
            self.cache.extend(segment.row, segment.end)
        passes = [segments] if self._compute.packs else [[segment] for segment in segments]
        logits = torch.cat([self._pass(each) for each in passes])
        for segment in segments:
            segment.row.length = segment.end
        return logits

    def _pass(self, segments: Sequence[Segment]) -> Tensor:
        plan = AttentionPlan(segments, dtype=self._dtype, device=self._device)
        ids: list[int] = []
        positions: list[int] = []
        ends: dict[Segment, int] = {}
        for segment in plan.segments:
            ids.extend(segment.tokens)
            positions.extend(range(segment.row.length, segment.end))
            ends[segment] = len(ids) - 1
        last = [end for each in segments for end in range(ends[each] + 1 - each.logits, ends[each] + 1)]
        return self._compute(self._tensor(ids), self._tensor(positions), self._tensor(last), plan)

    def _tensor(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._device)


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
