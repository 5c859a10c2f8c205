"""Checks of what constructors get, so that a mistake is found where it is made. Does not depend on what is built."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["check_count", "check_function", "check_number", "check_texts"]


def check_number(name: str, value: Any, *, positive: bool = False, infinite: bool = False) -> None:
    """Raises TypeError unless `value` is a number, ValueError unless it is in range: from 0, or above it (`positive`).

    `infinite` allows infinity.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {value!r:.50}")
    if math.isnan(value) or value < 0 or (positive and value == 0) or (math.isinf(value) and not infinite):
        finite = "" if infinite else "finite and "
        raise ValueError(f"{name} must be {finite}{'greater than 0' if positive else 'at least 0'}, not {value}")


def check_count(name: str, value: Any) -> None:
    """Raises TypeError unless `value` is a whole number, ValueError if it is negative."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r:.50}")
    if value < 0:
        raise ValueError(f"{name} must be at least 0, not {value}")


def check_function(name: str, value: Any) -> None:
    """Raises TypeError unless `value` can be called, or is None."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function, not {value!r:.50}")


def check_texts(name: str, values: tuple[Any, ...]) -> None:
    """Raises TypeError unless all of `values`, the arguments of the function `name`, are str."""
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f'{name} takes each text as an argument, {name}("a", "b"), not {value!r:.50}')
