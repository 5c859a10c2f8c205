"""Memory for keys and values: slabs of rows, each row for the tokens of one sequence.

On a CPU a slab is anonymous `mmap` memory: a page of it takes memory only once it is written to, and goes back to the
system when its row is freed. So a slab may have many more rows, and longer ones, than there is memory for. On another
device a slab takes all of its memory at once.

Does not depend on requests, models or what the rows are used for.
"""

from __future__ import annotations

import heapq
import mmap
import sys
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor


class LayerShape(NamedTuple):
    """What one layer of a model caches for a token."""

    heads: int
    """Heads of keys and values."""
    key_dim: int
    value_dim: int

    @property
    def elements(self) -> int:
        """Numbers per token."""
        return self.heads * (self.key_dim + self.value_dim)


class Slab:
    """Rows of equal capacity. Free rows are zero."""

    def __init__(
        self, shapes: Sequence[LayerShape], *, rows: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """`shapes`: one per layer. `capacity`: tokens per row.

        Raises:
            MemoryError: the system has no room for it.
            torch.OutOfMemoryError: the device has none.
        """
        self.rows = rows
        self.capacity = capacity
        sizes = [rows * capacity * shape.heads * dim for shape in shapes for dim in (shape.key_dim, shape.value_dim)]
        self._memory, self._pages = _allocate(sum(sizes), dtype, device)
        starts = accumulate(sizes, initial=0)
        parts = [self._memory[start : start + size] for start, size in zip(starts, sizes, strict=False)]
        self.keys: list[Tensor] = [
            part.view(rows, shape.heads, capacity, shape.key_dim)
            for part, shape in zip(parts[::2], shapes, strict=True)
        ]
        """One per layer: [rows, heads, capacity, key_dim]."""
        self.values: list[Tensor] = [
            part.view(rows, shape.heads, capacity, shape.value_dim)
            for part, shape in zip(parts[1::2], shapes, strict=True)
        ]
        self._free = list(range(rows))  # a heap

    @property
    def full(self) -> bool:
        """Whether no row is free."""
        return not self._free

    @property
    def unused(self) -> bool:
        """Whether all rows are free."""
        return len(self._free) == self.rows

    def take(self) -> int:
        """Take the lowest free row: so rows that are used lie close together, and attention reads them as one view."""
        return heapq.heappop(self._free)

    def release(self, row: int) -> None:
        """Free a row, and zero it.

        Attention multiplies what is masked by 0, and 0 times a NaN that an earlier sequence left behind would be NaN.
        """
        for layer in range(len(self.keys)):
            self.clear_layer(row, layer)
        heapq.heappush(self._free, row)

    def clear_layer(self, row: int, layer: int) -> None:
        """Zero one layer of a row."""
        for states in (self.keys[layer][row], self.values[layer][row]):
            if self._pages is None:
                states.zero_()
            else:
                start = (states.data_ptr() - self._memory.data_ptr()) // states.element_size()
                self._clear_pages(self._pages, self._memory[start : start + states.numel()])

    def _clear_pages(self, pages: mmap.mmap, part: Tensor) -> None:
        """Give the whole pages in a part of the memory back to the system, which makes them zero; zero the edges."""
        size = part.element_size()
        start = part.data_ptr() - self._memory.data_ptr()
        end = start + part.numel() * size
        first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if first >= last:
            part.zero_()
            return
        pages.madvise(_DONTNEED, first, last - first)
        part[: (first - start) // size] = 0
        part[part.numel() - (end - last) // size :] = 0


_DONTNEED: int = getattr(mmap, "MADV_DONTNEED", 0)


def _allocate(size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, mmap.mmap | None]:
    """`size` zeros; and, where pages can be given back one by one, the `mmap` they are in (None elsewhere)."""
    if device.type != "cpu":
        return torch.zeros(size, dtype=dtype, device=device), None
    length = max(1, size) * dtype.itemsize
    try:
        if sys.platform != "linux":  # elsewhere, what MADV_DONTNEED does is another thing, or there is none
            return torch.frombuffer(mmap.mmap(-1, length), dtype=dtype)[:size], None
        # Private: shared memory would keep its pages. No reserve: most of it is never used.
        pages = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
    except OSError as error:
        raise MemoryError(f"no memory for {length:,} bytes of keys and values: {error.strerror}") from error
    pages.madvise(mmap.MADV_NOHUGEPAGE)  # a huge page is 2 MB for what may be the keys of one token
    return torch.frombuffer(pages, dtype=dtype)[:size], pages


_MAP_NORESERVE: int = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Python names it from 3.12 on
