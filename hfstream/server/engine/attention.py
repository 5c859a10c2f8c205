"""Attention over packed segments: tokens of several sequences in one forward pass, each attending to its own row.

A decode step is many segments of one token; those whose rows are neighbours in a slab are one call. A prompt's chunk is
a segment of several tokens, and a call of its own. Nothing is gathered: keys and values are read where they are.

Does not depend on requests or sampling, nor on how rows are allocated.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .kv_cache import Row
from .kv_memory import Slab


@dataclass(slots=True, eq=False)
class Segment:
    """The next tokens of one sequence, in one forward pass."""

    row: Row
    """The tokens before; it has room for these."""
    tokens: Sequence[int]
    logits: int = 1
    """After how many of its last tokens the logits are needed."""

    @property
    def end(self) -> int:
        """The row's length after these tokens."""
        return self.row.length + len(self.tokens)


class AttentionPlan:
    """Where the tokens of one forward pass are written and what they attend to, for all layers.

    Tokens are in the order of `segments`, which is not the order they were given in.
    """

    def __init__(self, segments: Sequence[Segment], *, dtype: torch.dtype, device: torch.device) -> None:
        """`dtype`: that of the model."""
        single = [segment for segment in segments if len(segment.tokens) == 1]
        single.sort(key=lambda segment: (id(segment.row.slab), segment.row.index))
        longer = [segment for segment in segments if len(segment.tokens) > 1]
        self.segments: list[Segment] = single + longer
        self.dtype: torch.dtype = dtype
        self.device: torch.device = device
        self._parts: list[_DecodePart | _ChunkPart] = []
        first = 0
        for _, group in groupby(single, key=lambda segment: id(segment.row.slab)):
            rows = [segment.row for segment in group]
            self._parts.append(_DecodePart(rows, slice(first, first + len(rows)), dtype, device))
            first += len(rows)
        for segment in longer:
            self._parts.append(_ChunkPart(segment, slice(first, first + len(segment.tokens)), dtype, device))
            first += len(segment.tokens)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Store the new keys and values, each [tokens, heads, dim]."""
        for part in self._parts:
            part.write(layer, keys[part.tokens], values[part.tokens])

    def attend(self, layer: int, queries: Tensor, scale: float | None) -> Tensor:
        """What each token's queries [tokens, query heads, key_dim] find: [tokens, query heads, value_dim]."""
        results: list[Tensor] = []
        for part in self._parts:
            part.attend(layer, queries[part.tokens], scale, results)
        return results[0] if len(results) == 1 else torch.cat(results)


class _DecodePart:
    """Segments of one token, all in one slab."""

    def __init__(self, rows: Sequence[Row], tokens: slice, dtype: torch.dtype, device: torch.device) -> None:
        self.tokens = tokens
        self._slab = rows[0].slab
        self._rows = torch.tensor([row.index for row in rows], device=device)
        self._positions = torch.tensor([row.length for row in rows], device=device)
        self._runs = [_Run(run, first, dtype, device) for first, run in _neighbours(rows)]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        self._slab.keys[layer][self._rows, :, self._positions] = keys
        self._slab.values[layer][self._rows, :, self._positions] = values

    def attend(self, layer: int, queries: Tensor, scale: float | None, results: list[Tensor]) -> None:
        results.extend(run.attend(self._slab, layer, queries, scale) for run in self._runs)


class _Run:
    """Neighbouring rows of a slab: one view, padded to the longest of them."""

    def __init__(self, rows: Sequence[Row], first: int, dtype: torch.dtype, device: torch.device) -> None:
        self._tokens = slice(first, first + len(rows))
        self._rows = slice(rows[0].index, rows[-1].index + 1)
        lengths = [row.length + 1 for row in rows]
        self._longest = max(lengths)
        self._mask: Tensor | None = None
        if min(lengths) < self._longest:
            padding = torch.arange(self._longest, device=device) >= torch.tensor(lengths, device=device)[:, None]
            # Not a mask of booleans, which torch would convert in every layer.
            self._mask = _mask(padding, dtype)[:, None, None]  # [rows, 1, 1, longest]

    def attend(self, slab: Slab, layer: int, queries: Tensor, scale: float | None) -> Tensor:
        keys = slab.keys[layer][self._rows, :, : self._longest]
        values = slab.values[layer][self._rows, :, : self._longest]
        rows, heads, _, dim = keys.shape
        # Query heads that share a key's head are handled as its queries: [rows, heads, queries per key, key_dim].
        grouped = queries[self._tokens].reshape(rows, heads, -1, dim)
        found = scaled_dot_product_attention(grouped, keys, values, attn_mask=self._mask, scale=scale)
        return found.reshape(rows, -1, values.shape[-1])


class _ChunkPart:
    """A segment of several tokens."""

    def __init__(self, segment: Segment, tokens: slice, dtype: torch.dtype, device: torch.device) -> None:
        self.tokens = tokens
        self._slab, self._row = segment.row.slab, segment.row.index
        self._new = slice(segment.row.length, segment.end)
        self._mask: Tensor | None = None
        if segment.row.length:
            positions = torch.arange(self._new.start, self._new.stop, device=device)
            self._mask = _mask(torch.arange(self._new.stop, device=device) > positions[:, None], dtype)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        self._slab.keys[layer][self._row, :, self._new] = keys.transpose(0, 1)
        self._slab.values[layer][self._row, :, self._new] = values.transpose(0, 1)

    def attend(self, layer: int, queries: Tensor, scale: float | None, results: list[Tensor]) -> None:
        keys = self._slab.keys[layer][self._row, :, : self._new.stop]
        values = self._slab.values[layer][self._row, :, : self._new.stop]
        found = scaled_dot_product_attention(
            queries.transpose(0, 1)[None],
            keys[None],
            values[None],
            attn_mask=self._mask,
            is_causal=self._mask is None,
            scale=scale,
            enable_gqa=queries.shape[1] != keys.shape[0],
        )
        results.append(found[0].transpose(0, 1))


def _neighbours(rows: Sequence[Row]) -> Generator[tuple[int, Sequence[Row]]]:
    """Runs of rows with successive indices, each with the number of its first one in `rows`."""
    first = 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i].index != rows[i - 1].index + 1:
            yield first, rows[first:i]
            first = i


def _mask(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to the scores: -inf where `hidden`."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -math.inf)
