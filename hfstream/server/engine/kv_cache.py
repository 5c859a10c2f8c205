"""Keys and values of one model layer, for all rows of a batch: written at each row's own position, read as a view.

Does not depend on requests or sampling. transformers' `forward` writes and reads through its public `CacheLayerMixin`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

if TYPE_CHECKING:
    from .model_runner import ModelRunner

INITIAL_CAPACITY = 256
"""Tokens a row can hold at first; memory then grows by doubling, so short answers never pay for a long context."""


@dataclass(slots=True)
class ForwardContext:
    """Where the current forward pass writes, and what it may read."""

    rows: Tensor  # [b, 1]
    positions: Tensor  # [b, c]
    row_slice: slice  # the same rows
    kv_length: int  # tokens in the longest of them, the new ones included


class KVCacheLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # transformers is half typed
    """One layer's keys and values, each [rows, heads, capacity, head_dim], written where `ModelRunner` says."""

    keys: Any  # Tensors from the first write on, which the base class cannot promise
    values: Any

    def __init__(self, owner: ModelRunner) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._owner = owner

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make room in the shapes that this model's attention turns out to have."""
        self.keys, self.values = (self._allocate(states, INITIAL_CAPACITY) for states in (key_states, value_states))
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new states [b, heads, c, head_dim]; return views of all there is to attend to."""
        context = self._owner.context
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if context.kv_length > self.keys.shape[2]:
            self._grow(max(context.kv_length, 2 * self.keys.shape[2]))
        self.keys[context.rows, :, context.positions] = key_states.transpose(1, 2)
        self.values[context.rows, :, context.positions] = value_states.transpose(1, 2)
        return self.keys[context.row_slice, :, : context.kv_length], self.values[
            context.row_slice, :, : context.kv_length
        ]

    def move(self, source: int, target: int, length: int) -> None:
        """Overwrite the first `length` tokens of one row with another's."""
        self.keys[target, :, :length] = self.keys[source, :, :length]
        self.values[target, :, :length] = self.values[source, :, :length]

    def zero(self, rows: slice, length: int) -> None:
        """Zero the first `length` tokens of some rows."""
        self.keys[rows, :, :length] = 0
        self.values[rows, :, :length] = 0

    def get_seq_length(self) -> int:
        """Tokens already there, for models that ask although they are given positions and a mask."""
        context = self._owner.context
        return context.kv_length - context.positions.shape[1]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(tokens to attend to, offset of the first)."""
        return self._owner.context.kv_length, 0

    def get_max_length(self) -> int:
        """-1: no limit of its own."""
        return -1

    def _allocate(self, states: Tensor, capacity: int) -> Tensor:
        _, heads, _, head_dim = states.shape
        return states.new_zeros(self._owner.max_rows + 1, heads, capacity, head_dim)

    def _grow(self, capacity: int) -> None:
        grown = [self._allocate(old, capacity) for old in (self.keys, self.values)]  # both, or (out of memory) neither
        for new, old in zip(grown, (self.keys, self.values), strict=True):
            new[:, :, : old.shape[2]] = old
        self.keys, self.values = grown
