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
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from transformers import Cache

from .kv_cache import ForwardContext, KVCacheLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ModelRunner:
    """A model and the memory of up to `max_rows` answers in progress.

    `prefill` reads a prompt in one or more chunks, `commit` gives it the next row, `decode` extends all rows by one
    token, `free` empties a row. If `prefill` or `decode` raises, `reset_prefill` or `clear` restores a valid state.
    """

    def __init__(self, model: PreTrainedModel, max_rows: int) -> None:
        self.model = model
        self.max_rows = max_rows
        self.lengths: list[int] = []
        """Tokens in each seated row."""
        self.prefilled: int = 0
        """Tokens read so far of the prompt on the porch."""
        self.context: ForwardContext
        layer: Any = lambda: KVCacheLayer(self)  # noqa: E731 - Cache asks for a class but only calls it
        self._cache = Cache(layer_class_to_replicate=layer)
        only_last = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._options: dict[str, Any] = {"use_cache": True, **({"logits_to_keep": 1} if only_last else {})}

    def prefill(self, ids: Sequence[int]) -> Tensor:
        """Read the next tokens of the prompt on the porch; logits [1, vocab_size] after the last of them."""
        end = self.prefilled + len(ids)
        positions = torch.arange(self.prefilled, end, device=self.model.device)[None]
        logits = self._forward(self._ids([ids]), positions, first=self.max_rows, kv_length=end)
        self.prefilled = end
        return logits

    def commit(self) -> None:
        """Give what was read on the porch the next row."""
        for layer in self._layers:
            layer.move(self.max_rows, len(self.lengths), self.prefilled)
        self.lengths.append(self.prefilled)
        self.prefilled = 0

    def decode(self, tokens: Sequence[int]) -> Tensor:
        """Extend every seated row by its token; logits [rows, vocab_size]."""
        positions = self._ids([[length] for length in self.lengths])
        logits = self._forward(
            self._ids([[token] for token in tokens]), positions, first=0, kv_length=max(self.lengths) + 1
        )
        self.lengths = [length + 1 for length in self.lengths]
        return logits

    def free(self, row: int) -> None:
        """Empty a seated row; the last one moves there."""
        last = len(self.lengths) - 1
        used = max(self.lengths[row], self.lengths[last])  # the longer of the two, so that zeros move as well
        for layer in self._layers:
            layer.move(last, row, used)
            layer.zero(slice(last, last + 1), used)
        self.lengths[row] = self.lengths[last]
        self.lengths.pop()

    def reset_prefill(self) -> None:
        """Forget the prompt on the porch. Nothing else reads there, so nothing need be wiped."""
        self.prefilled = 0

    def clear(self) -> None:
        """Empty all seated rows, whatever state they are in."""
        for layer in self._layers:
            layer.zero(slice(0, self.max_rows), layer.keys.shape[2])
        self.lengths.clear()

    @property
    def _layers(self) -> list[KVCacheLayer]:
        return cast("list[KVCacheLayer]", self._cache.layers)

    def _ids(self, numbers: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(numbers, device=self.model.device)

    def _forward(self, ids: Tensor, positions: Tensor, *, first: int, kv_length: int) -> Tensor:
        """Run `ids` [b, c] at `positions` [b, c] in the b rows from `first`; logits [b, vocab_size] after the last."""
        last = first + ids.shape[0]
        rows = torch.arange(first, last, device=ids.device)[:, None]
        self.context = ForwardContext(rows, positions, slice(first, last), kv_length)
        # [b, 1, c, span]; transformers passes a ready 4-D mask on untouched (`masking_utils.create_causal_mask`)
        mask = torch.arange(kv_length, device=ids.device) <= positions[:, None, :, None]
        logits: Tensor = self.model(
            input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=self._cache, **self._options
        ).logits
        return logits[:, -1]
