"""The KV cache: keys and values of every layer, for all rows of a batch, written at each row's own position.

Does not depend on requests, sampling or the model. transformers' `forward` writes and reads through its public `Cache`
and `CacheLayerMixin`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

INITIAL_CAPACITY = 256
"""Tokens that a row can hold at first. Memory grows by doubling, so short requests never pay for a long context."""


@dataclass(slots=True)
class ForwardContext:
    """Where the current forward pass writes, and how much it reads. b is its batch size, c its tokens per row."""

    rows: Tensor  # [b, 1]
    positions: Tensor  # [b, c]
    row_slice: slice  # the same rows
    kv_length: int  # tokens of the longest of these rows, the new ones included


class KVCache(Cache):
    """The cached keys and values of one model. `context` is set before each forward pass; all layers follow it."""

    layers: list[KVCacheLayer]  # type: ignore[assignment]  # this cache makes no other kind
    context: ForwardContext

    def __init__(self, rows: int) -> None:
        self.rows = rows
        layer: Any = lambda: KVCacheLayer(self)  # noqa: E731 - Cache asks for a class but only calls it
        super().__init__(layer_class_to_replicate=layer)

    def move(self, source: int, target: int, length: int) -> None:
        """Overwrite the first `length` tokens of row `target` with those of row `source`."""
        for layer in self.layers:
            layer.keys[target, :, :length] = layer.keys[source, :, :length]
            layer.values[target, :, :length] = layer.values[source, :, :length]

    def zero(self, rows: slice, length: int | None = None) -> None:
        """Zero the first `length` tokens of some rows; all of their tokens by default."""
        for layer in self.layers:
            layer.keys[rows, :, :length] = 0
            layer.values[rows, :, :length] = 0


class KVCacheLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # transformers is half typed
    """One layer's keys and values, each [rows, heads, capacity, head_dim]."""

    keys: Any  # Tensors from the first write on, which the base class cannot promise
    values: Any

    def __init__(self, cache: KVCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._cache = cache

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate memory of the shape that this model's keys and values turn out to have."""
        self.keys, self.values = (self._allocate(states, INITIAL_CAPACITY) for states in (key_states, value_states))
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new states [b, heads, c, head_dim]; return views of all that these rows may attend to."""
        context = self._cache.context
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if context.kv_length > self.keys.shape[2]:
            self._grow(max(context.kv_length, 2 * self.keys.shape[2]))
        # Indexing by two tensors with a slice between them puts their axes first: [b, c, heads, head_dim].
        self.keys[context.rows, :, context.positions] = key_states.transpose(1, 2)
        self.values[context.rows, :, context.positions] = value_states.transpose(1, 2)
        # Rows are contiguous, so these are views; gathering rows would copy the whole cache at every step.
        keys = self.keys[context.row_slice, :, : context.kv_length]
        values = self.values[context.row_slice, :, : context.kv_length]
        return keys, values

    def get_seq_length(self) -> int:
        """Tokens cached before this pass, for models that ask although they are given positions and a mask."""
        context = self._cache.context
        return context.kv_length - context.positions.shape[1]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(tokens to attend to, offset of the first)."""
        return self._cache.context.kv_length, 0

    def get_max_length(self) -> int:
        """-1: no limit."""
        return -1

    def _allocate(self, states: Tensor, capacity: int) -> Tensor:
        _, heads, _, head_dim = states.shape
        return states.new_zeros(self._cache.rows, heads, capacity, head_dim)

    def _grow(self, capacity: int) -> None:
        # Both are allocated before either is replaced: if memory runs out, the layer stays as it was.
        grown = [self._allocate(old, capacity) for old in (self.keys, self.values)]
        for new, old in zip(grown, (self.keys, self.values), strict=True):
            new[:, :, : old.shape[2]] = old
        self.keys, self.values = grown
