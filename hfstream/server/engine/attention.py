"""Attention over packed segments: tokens of several sequences in one forward pass, each attending to its own row.

A decode step is many segments of one token; those whose rows are neighbours in a slab are one call. A prompt's chunk is
a segment of several tokens, and a call of its own. Nothing is gathered: keys and values are read where they are.

transformers' models call it through `AttentionInterface`, under the name "hfstream", and write through `PackedCache`.
Does not depend on requests or sampling, nor on how rows are allocated.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, Cache

from .kv_cache import Row
from .kv_memory import Slab

NAME = "hfstream"
"""The `attn_implementation` of models that run here."""


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


# --- for transformers' models ----------------------------------------------------------------------------------------


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
