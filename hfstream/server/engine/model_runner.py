"""The key/value memory of a batch, and the one call into the model that reads and extends it.

Row i of every tensor belongs to the i-th answer being made. Rows are contiguous (a row that leaves is overwritten by
the last one), so what attention reads is a view `[:n, :, :longest]`, never a gather. One row more, the porch, is where
a prompt is read, chunk by chunk, while the others go on speaking. Beyond a row's length its memory is zero: attention
multiplies what is masked by 0, and 0 times a NaN left there by a former answer would be NaN.

Refuses to know requests, sampling, text and threads. Knows models only through transformers' `forward` and `Cache`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

if TYPE_CHECKING:
    from transformers import PreTrainedModel

INITIAL_CAPACITY = 256
"""Tokens a row can hold at first; memory then grows by doubling, so short answers never pay for a long context."""


@dataclass(slots=True)
class ForwardContext:
    """Where the current forward pass writes, and what it may read."""

    rows: Tensor  # [b, 1]
    positions: Tensor  # [b, c]
    window: slice  # the same rows
    span: int  # tokens in the longest of them, the new ones included


class KVCacheLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # transformers is half typed
    """One layer's keys and values, each [rows, heads, capacity, head_dim], written where `ModelRunner` says."""

    keys: Any  # Tensors from the first write on, which the base class cannot promise
    values: Any

    def __init__(self, owner: ModelRunner) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._owner = owner

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make room in the shapes that this model's attention turns out to have."""
        self.keys, self.values = (self._room(states, INITIAL_CAPACITY) for states in (key_states, value_states))
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new states [b, heads, c, head_dim]; return views of all there is to attend to."""
        place = self._owner.place
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if place.span > self.keys.shape[2]:
            self._grow(max(place.span, 2 * self.keys.shape[2]))
        self.keys[place.rows, :, place.positions] = key_states.transpose(1, 2)
        self.values[place.rows, :, place.positions] = value_states.transpose(1, 2)
        return self.keys[place.window, :, : place.span], self.values[place.window, :, : place.span]

    def move(self, source: int, target: int, length: int) -> None:
        """Overwrite the first `length` tokens of one row with another's."""
        self.keys[target, :, :length] = self.keys[source, :, :length]
        self.values[target, :, :length] = self.values[source, :, :length]

    def wipe(self, rows: slice, length: int) -> None:
        """Zero the first `length` tokens of some rows."""
        self.keys[rows, :, :length] = 0
        self.values[rows, :, :length] = 0

    def get_seq_length(self) -> int:
        """Tokens already there, for models that ask although they are given positions and a mask."""
        place = self._owner.place
        return place.span - place.positions.shape[1]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(tokens to attend to, offset of the first)."""
        return self._owner.place.span, 0

    def get_max_length(self) -> int:
        """-1: no limit of its own."""
        return -1

    def _room(self, states: Tensor, capacity: int) -> Tensor:
        _, heads, _, head_dim = states.shape
        return states.new_zeros(self._owner.max_rows + 1, heads, capacity, head_dim)

    def _grow(self, capacity: int) -> None:
        grown = [self._room(old, capacity) for old in (self.keys, self.values)]  # both, or (out of memory) neither
        for new, old in zip(grown, (self.keys, self.values), strict=True):
            new[:, :, : old.shape[2]] = old
        self.keys, self.values = grown


class ModelRunner:
    """A model and the memory of up to `max_rows` answers in progress.

    A prompt is `read` in one or more chunks and then takes its `seat`, the next row; `decode` extends all seated rows
    by one token; `free` empties one. If `read` or `decode` raises, `reset_porch` or `clear` makes all sound again.
    """

    def __init__(self, model: PreTrainedModel, max_rows: int) -> None:
        self.model = model
        self.max_rows = max_rows
        self.lengths: list[int] = []
        """Tokens in each seated row."""
        self.porch: int = 0
        """Tokens read so far of the prompt on the porch."""
        self.place: ForwardContext
        layer: Any = lambda: KVCacheLayer(self)  # noqa: E731 - Cache asks for a class but only calls it
        self._cache = Cache(layer_class_to_replicate=layer)
        only_last = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._options: dict[str, Any] = {"use_cache": True, **({"logits_to_keep": 1} if only_last else {})}

    def read(self, ids: Sequence[int]) -> Tensor:
        """Read the next tokens of the prompt on the porch; logits [1, vocab_size] after the last of them."""
        end = self.porch + len(ids)
        positions = torch.arange(self.porch, end, device=self.model.device)[None]
        logits = self._forward(self._ids([ids]), positions, first=self.max_rows, span=end)
        self.porch = end
        return logits

    def seat(self) -> None:
        """Give what was read on the porch the next row."""
        for layer in self._layers:
            layer.move(self.max_rows, len(self.lengths), self.porch)
        self.lengths.append(self.porch)
        self.porch = 0

    def decode(self, tokens: Sequence[int]) -> Tensor:
        """Extend every seated row by its token; logits [rows, vocab_size]."""
        positions = self._ids([[length] for length in self.lengths])
        logits = self._forward(self._ids([[token] for token in tokens]), positions, first=0, span=max(self.lengths) + 1)
        self.lengths = [length + 1 for length in self.lengths]
        return logits

    def free(self, row: int) -> None:
        """Empty a seated row; the last one moves there."""
        last = len(self.lengths) - 1
        used = max(self.lengths[row], self.lengths[last])  # the longer of the two, so that zeros move as well
        for layer in self._layers:
            layer.move(last, row, used)
            layer.wipe(slice(last, last + 1), used)
        self.lengths[row] = self.lengths[last]
        self.lengths.pop()

    def reset_porch(self) -> None:
        """Forget the prompt on the porch. Nothing else reads there, so nothing need be wiped."""
        self.porch = 0

    def clear(self) -> None:
        """Empty all seated rows, whatever state they are in."""
        for layer in self._layers:
            layer.wipe(slice(0, self.max_rows), layer.keys.shape[2])
        self.lengths.clear()

    @property
    def _layers(self) -> list[KVCacheLayer]:
        return cast("list[KVCacheLayer]", self._cache.layers)

    def _ids(self, numbers: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(numbers, device=self.model.device)

    def _forward(self, ids: Tensor, positions: Tensor, *, first: int, span: int) -> Tensor:
        """Run `ids` [b, c] at `positions` [b, c] in the b rows from `first`; logits [b, vocab_size] after the last."""
        last = first + ids.shape[0]
        rows = torch.arange(first, last, device=ids.device)[:, None]
        self.place = ForwardContext(rows, positions, slice(first, last), span)
        # [b, 1, c, span]; transformers passes a ready 4-D mask on untouched (`masking_utils.create_causal_mask`)
        mask = torch.arange(span, device=ids.device) <= positions[:, None, :, None]
        logits: Tensor = self.model(
            input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=self._cache, **self._options
        ).logits
        return logits[:, -1]
