"""Runs the model: one forward pass over the segments of several sequences, prompts' chunks and single tokens together.

Does not depend on requests, sampling, text or threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from .attention import AttentionPlan, Segment
from .kv_cache import KVCache


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
