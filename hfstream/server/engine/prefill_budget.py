"""How many prompt tokens a step reads, so that running sequences wait no longer than they should for their next token.

What a token costs is measured: it depends on the model, the machine, the length of the context and what else runs.
Does not depend on torch or requests.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_GAP = 0.125
"""Seconds that a step with prompt tokens aims at, beside running sequences. Half of the 0.25 s that no gap should
exceed: the next tokens may cost more than the last ones did, and the machine may be busy."""

MAX_STEP = 0.5
"""Seconds that it aims at if none is running: for requests that come meanwhile, or are cancelled."""

FIRST_CHUNK = 64
"""Tokens, before anything is measured."""

MIN_CHUNK = 8
"""Tokens that are always read: prompts must make progress on the slowest machine too."""

SMALL_CHUNK_COST = 3
"""How many times as much a token costs in a small chunk as in a large one, at most."""

MIN_CHUNK_ALONE = 256
"""Tokens that are always read if no sequence waits for the step. In small chunks a token costs more, so a machine that
is slow because it is busy would make itself slower."""

MAX_CHUNK = 4096
"""Tokens that are never exceeded: their activations take memory."""


class PrefillBudget:
    """The times of recent steps, and what follows from them."""

    def __init__(self) -> None:
        self._decode: float | None = None  # seconds of a step without prompt tokens
        # Seconds that each prompt token adds: beside running sequences, in small chunks, and alone, in large ones.
        self._per_token_beside: float | None = None
        self._per_token_alone: float | None = None

    def tokens(self, *, decoding: bool) -> int:
        """How many prompt tokens the next step may read; `decoding`: whether sequences wait for it."""
        if decoding:
            decode = self._decode or 0.0
            seconds, least = max(MAX_GAP, 2 * decode) - decode, MIN_CHUNK
            per_token = self._per_token_beside
            if per_token is None and self._per_token_alone is not None:
                per_token = self._per_token_alone * SMALL_CHUNK_COST
        else:
            seconds, least = MAX_STEP, MIN_CHUNK_ALONE
            per_token = self._per_token_beside if self._per_token_alone is None else self._per_token_alone
        if per_token is None:
            return FIRST_CHUNK
        return int(min(MAX_CHUNK, max(least, seconds / per_token)))

    def record(self, seconds: float, *, decoding: bool, tokens: int) -> None:
        """Note how long a step took that read `tokens` prompt tokens."""
        if not tokens:
            self._decode = _average(self._decode, seconds)
            return
        # At least a part of it, if the steps before were slower than this one: nothing costs no time.
        added = max(seconds / 4, seconds - (self._decode or 0.0) if decoding else seconds)
        per_token = max(1e-9, added / tokens)
        if not decoding:
            self._per_token_alone = _average(self._per_token_alone, per_token)
        elif self._per_token_beside is None or per_token > self._per_token_beside:
            self._per_token_beside = per_token  # at once: someone waits, and the longer the context the dearer a token
        else:
            self._per_token_beside = _average(self._per_token_beside, per_token)


def share_out(budget: int, remaining: Sequence[int]) -> list[int]:
    """How many tokens of each prompt to read, given what remains of each, in order of their arrival.

    The first prompt gets half of the budget at least. The other half is for those that need least, so that a short
    prompt does not wait for a long one; prompts that came together are read together.
    """
    shares = [0] * len(remaining)
    if not remaining:
        return shares
    shares[0] = min(remaining[0], budget - budget // 2)
    left = budget - shares[0]
    for i in sorted(range(1, len(remaining)), key=lambda i: remaining[i]):
        shares[i] = min(left, remaining[i])
        left -= shares[i]
    shares[0] = min(remaining[0], shares[0] + left)
    return shares


def _average(old: float | None, new: float) -> float:
    return new if old is None else (old + new) / 2
