"""The KV cache: a row of keys and values for each sequence, as long as its tokens need, within a budget.

Rows are grouped by capacity: 128 tokens, 256, 512 and so on. A sequence that outgrows its row moves to one twice as
long. So attention runs over rows of similar length together, and what a short one is padded with stays small.

Does not depend on requests, sampling or the model's code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .kv_memory import LayerShape, Slab

MIN_CAPACITY = 128
"""Tokens of the smallest rows."""

TOKENS_PER_PIECE = 64
"""A row's memory is counted in pieces of so many tokens: it grows by whole pages."""

DEVICE_SLAB_TOKENS = 2048
"""Tokens of a slab on a device that takes a slab's whole memory at once, unless one row has more."""


@dataclass(slots=True, eq=False)
class Row:
    """A sequence's place in the cache. Compared by identity."""

    slab: Slab
    index: int
    """In the slab."""
    length: int = 0
    """Tokens whose keys and values it has."""


class KVCache:
    """Rows of keys and values. `max_tokens` is the context length, `budget_tokens` what all rows may have together."""

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        *,
        dtype: torch.dtype,
        device: torch.device,
        max_rows: int,
        max_tokens: int,
        budget_tokens: int,
    ) -> None:
        self._shapes, self._dtype, self._device = shapes, dtype, device
        self._lazy = device.type == "cpu"
        self._max_rows = max_rows
        self._capacities = _capacities(max_tokens)
        self._slabs: dict[int, list[Slab]] = {capacity: [] for capacity in self._capacities}
        self.budget_tokens: int = budget_tokens

    @property
    def bytes_per_token(self) -> int:
        """Memory of one token's keys and values in all layers."""
        return bytes_per_token(self._shapes, self._dtype)

    def cost(self, tokens: int) -> int:
        """What a row of `tokens` counts against the budget, in tokens."""
        return -(-tokens // TOKENS_PER_PIECE) * TOKENS_PER_PIECE if self._lazy else self._capacity(tokens)

    def allocate(self, tokens: int) -> Row:
        """A row with room for `tokens`.

        Raises:
            MemoryError, torch.OutOfMemoryError: the system has no memory for it, whatever the budget says.
        """
        slab = self._find_slab(self._capacity(tokens))
        return Row(slab, slab.take())

    def allocate_exactly(self, tokens: int) -> Row:
        """A row with room for `tokens` and no more, in memory of its own."""
        slab = Slab(self._shapes, rows=1, capacity=tokens, dtype=self._dtype, device=self._device)
        return Row(slab, slab.take())

    def extend(self, row: Row, tokens: int) -> None:
        """Make room for `tokens` in a row, which may move it.

        Raises:
            MemoryError, torch.OutOfMemoryError: as `allocate`; the row is as before.
        """
        if tokens > row.slab.capacity:
            larger = self.allocate(tokens)
            self.move(row, larger)
            row.slab, row.index = larger.slab, larger.index

    def copy(self, source: Row, target: Row, length: int) -> None:
        """Give `target`, which is empty, the first `length` tokens of `source`."""
        for layer in range(len(self._shapes)):
            _copy_layer(source, target, length, layer)
        target.length = length

    def move(self, source: Row, target: Row) -> None:
        """Move all tokens to `target`, which is empty, and free the source; layer by layer, which takes less memory."""
        for layer in range(len(self._shapes)):
            _copy_layer(source, target, source.length, layer)
            source.slab.clear_layer(source.index, layer)
        target.length = source.length
        self.free(source)

    def free(self, row: Row) -> None:
        """Free a row."""
        row.slab.release(row.index)

    def trim(self) -> None:
        """Give back the slabs that have no row in use."""
        for slabs in self._slabs.values():
            slabs[:] = [slab for slab in slabs if not slab.unused]

    def _capacity(self, tokens: int) -> int:
        return next(capacity for capacity in self._capacities if capacity >= tokens)

    def _find_slab(self, capacity: int) -> Slab:
        slabs = self._slabs[capacity]
        for slab in slabs:
            if not slab.full:
                return slab
        slabs.append(
            Slab(self._shapes, rows=self._rows(capacity), capacity=capacity, dtype=self._dtype, device=self._device)
        )
        return slabs[-1]

    def _rows(self, capacity: int) -> int:
        """How many rows a new slab has: all that can ever be used, if an unused one costs nothing.

        A row that is at least half full (or it would be in a smaller slab) has half its capacity of the budget.
        """
        if not self._lazy:
            return max(1, min(self._max_rows, DEVICE_SLAB_TOKENS // capacity))
        if capacity == self._capacities[0]:
            return self._max_rows
        return max(1, min(self._max_rows, 2 * self.budget_tokens // capacity))


def bytes_per_token(shapes: Sequence[LayerShape], dtype: torch.dtype) -> int:
    """Memory of one token's keys and values in all layers."""
    return sum(shape.elements for shape in shapes) * dtype.itemsize


def _copy_layer(source: Row, target: Row, length: int, layer: int) -> None:
    for name in ("keys", "values"):
        old, new = getattr(source.slab, name)[layer], getattr(target.slab, name)[layer]
        new[target.index, :, :length] = old[source.index, :, :length]


def _capacities(max_tokens: int) -> list[int]:
    """Doubling from the smallest; the last one is the context, rounded up to whole pieces."""
    last = -(-max_tokens // TOKENS_PER_PIECE) * TOKENS_PER_PIECE
    capacities = [MIN_CAPACITY]
    while capacities[-1] < last:
        capacities.append(2 * capacities[-1])
    return [capacity for capacity in capacities if capacity < last] + [last]
