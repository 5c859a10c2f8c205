"""Compares what a model has said twice: tokens and texts exactly, logprobs within a tolerance.

The last digits of a logprob depend on the processor's kernels and on how many answers share the engine's step. Rounding
hides such a difference only most of the time: a value may lie on the edge between two rounded ones.

Tokens are the same whatever the kernels. In the greedy answers that tests compare, the best token is ahead of the
second by 3e-3 at the least, a hundred times what kernels and batches differ by; in sampled ones with a seed, by 8e-4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

__all__ = ["assert_alike", "differences"]

WITHIN = 1e-3
"""Far more than kernels and batches differ by (about 1e-5), far less than two tokens of one distribution do."""


def assert_alike(found: Any, expected: Any, *, within: float = WITHIN) -> None:
    """Everything is equal, and floats are within so much of each other; a failure says where they are not."""
    different = [*differences(found, expected, within=within)]
    assert not different, "\n".join(different[:10])


def differences(found: Any, expected: Any, *, within: float = WITHIN, at: str = "answer") -> Iterator[str]:
    """What differs, each with its place in the whole."""
    if isinstance(found, BaseModel) and type(found) is type(expected):
        found, expected = dict(found), dict(expected)
    if isinstance(found, float) and isinstance(expected, float):
        if not math.isclose(found, expected, rel_tol=0, abs_tol=within):
            yield f"{at}: {found} is not within {within} of {expected}"
    elif isinstance(found, Mapping) and isinstance(expected, Mapping):
        if found.keys() != expected.keys():
            yield f"{at}: has {sorted(found)} and not {sorted(expected)}"
        for name in found.keys() & expected.keys():
            yield from differences(found[name], expected[name], within=within, at=f"{at}.{name}")
    elif _is_row(found) and _is_row(expected):
        if len(found) != len(expected):
            yield f"{at}: has {len(found)} items and not {len(expected)}"
        for place, (one, other) in enumerate(zip(found, expected, strict=False)):
            yield from differences(one, other, within=within, at=f"{at}[{place}]")
    elif type(found) is not type(expected) or found != expected:
        yield f"{at}: {found!r} is not {expected!r}"


def _is_row(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
