"""A checkpoint's own defaults of sampling, for requests to OpenAI's routes. Does not depend on files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SamplingDefaults:
    """What OpenAI's routes use where a request has no value of its own. None: off, as without a checkpoint's advice.

    TGI's own routes do not use them, because TGI does not: there a parameter that is not given is off.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SamplingDefaults:
        """Those in the content of a generation_config.json. Values that are out of range are passed over."""
        temperature, top_p = _positive(config.get("temperature")), _positive(config.get("top_p"))
        top_k = config.get("top_k")
        return cls(
            temperature=temperature,
            top_k=top_k if isinstance(top_k, int) and not isinstance(top_k, bool) and 0 < top_k < 2**31 else None,
            top_p=top_p if top_p is not None and top_p < 1 else None,
            repetition_penalty=_positive(config.get("repetition_penalty")),
        )


def _positive(value: object) -> float | None:
    """`value`, if it is a number above 0."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 < value < math.inf else None
