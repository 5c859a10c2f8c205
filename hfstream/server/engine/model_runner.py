"""Runs the model on a batch: prefills prompts, decodes one token for every row, and keeps the rows of the KV cache.

Row i of every tensor belongs to the i-th running sequence. Two rules hold for the rows of the KV cache:

- They are contiguous: when a row is freed, the last one moves there. So what attention reads is a view
  `[:rows, :, :longest]`, never a gather.
- Beyond a row's length its memory is zero. Attention multiplies what is masked by 0, and 0 times a NaN that an earlier
  sequence left behind would be NaN.

One additional row, the prefill slot, is where a prompt is read chunk by chunk while the other rows go on decoding.

Does not depend on requests, sampling, text or threads, and on models only through transformers' `forward` and `Cache`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .kv_cache import ForwardContext, KVCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ModelRunner:
    """A model and the KV cache of up to `max_rows` sequences.

    `prefill` reads a prompt in one or more chunks, `commit` gives it the next row, `decode` extends all rows by one
    token, `free` removes a row. If `prefill` or `decode` raises, `reset_prefill` or `clear` restores a valid state.
    """

    def __init__(self, model: PreTrainedModel, max_rows: int) -> None:
        self.model = model
        self.max_rows = max_rows
        self.lengths: list[int] = []
        """Tokens in each row that decodes."""
        self.prefilled: int = 0
        """Tokens read so far of the prompt in the prefill slot."""
        self.cache: KVCache = KVCache(max_rows + 1)
        self._prefill_slot = max_rows
        only_last = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._options: dict[str, Any] = {"use_cache": True, **({"logits_to_keep": 1} if only_last else {})}

    def prefill(self, ids: Sequence[int]) -> Tensor:
        """Read the next tokens of the prompt in the prefill slot; logits [1, vocab_size] after the last of them."""
        end = self.prefilled + len(ids)
        positions = torch.arange(self.prefilled, end, device=self.model.device)[None]
        logits = self._forward(self._tensor([ids]), positions, first=self._prefill_slot, kv_length=end)
        self.prefilled = end
        return logits

    def commit(self) -> None:
        """Move what was read in the prefill slot to the next row."""
        self.cache.move(self._prefill_slot, len(self.lengths), self.prefilled)
        self.lengths.append(self.prefilled)
        self.prefilled = 0

    def decode(self, tokens: Sequence[int]) -> Tensor:
        """Extend every row by its token; logits [rows, vocab_size]."""
        ids = self._tensor([[token] for token in tokens])
        positions = self._tensor([[length] for length in self.lengths])
        logits = self._forward(ids, positions, first=0, kv_length=max(self.lengths) + 1)
        self.lengths = [length + 1 for length in self.lengths]
        return logits

    def free(self, row: int) -> None:
        """Remove a row; the last row moves there."""
        last = len(self.lengths) - 1
        # The longer of the two: if the freed row is longer, the zeros after the last row's tokens must move as well.
        used = max(self.lengths[row], self.lengths[last])
        self.cache.move(last, row, used)
        self.cache.zero(slice(last, last + 1), used)
        self.lengths[row] = self.lengths[last]
        self.lengths.pop()

    def reset_prefill(self) -> None:
        """Drop the prompt in the prefill slot.

        Its memory need not be zeroed: the slot is a batch of its own, and a new prompt overwrites each position before
        it is read.
        """
        self.prefilled = 0

    def clear(self) -> None:
        """Remove all rows, whatever state they are in."""
        self.cache.zero(slice(0, self.max_rows))
        self.lengths.clear()

    def _tensor(self, numbers: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(numbers, device=self.model.device)

    def _forward(self, ids: Tensor, positions: Tensor, *, first: int, kv_length: int) -> Tensor:
        """Run `ids` [b, c] at `positions` [b, c] in the b rows from `first`; logits [b, vocab_size] after the last."""
        last = first + ids.shape[0]
        rows = torch.arange(first, last, device=ids.device)[:, None]
        self.cache.context = ForwardContext(rows, positions, slice(first, last), kv_length)
        # [b, 1, c, kv_length]; transformers passes a 4-D mask on unchanged (`masking_utils.create_causal_mask`)
        mask = torch.arange(kv_length, device=ids.device) <= positions[:, None, :, None]
        logits: Tensor = self.model(
            input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=self.cache, **self._options
        ).logits
        return logits[:, -1]
