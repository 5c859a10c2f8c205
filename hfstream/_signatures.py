"""Methods that show what they take and return to `inspect`, and so to notebooks, mocks and frameworks.

The parameters are declared once, in a TypedDict, and the signature is made of it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["coroutine_function", "with_parameters_of"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def with_parameters_of(options: type) -> Callable[[FunctionT], FunctionT]:
    """Gives a function whose last parameter is ``**options`` the keys of a TypedDict as its keyword parameters."""

    def decorate(function: FunctionT) -> FunctionT:
        signature = inspect.signature(function)
        keywords = [
            # The text, as the other annotations of the function are.
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_as_text(annotation))
            for name, annotation in options.__annotations__.items()
        ]
        parameters = [*list(signature.parameters.values())[:-1], *keywords]
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return function

    return decorate


def _as_text(annotation: Any) -> Any:
    return getattr(annotation, "__forward_arg__", annotation)


def coroutine_function(function: FunctionT) -> FunctionT:
    """Marks a plain function whose result is awaited: `inspect.iscoroutinefunction` and mocks take it for one."""
    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        return mark(function)  # type: ignore[no-any-return]
    if sys.implementation.name == "cpython":
        # Python 3.11 looks at the flag only. How a function runs is in its instructions, not in the flag.
        code: Any = function.__code__
        function.__code__ = code.replace(co_flags=code.co_flags | inspect.CO_COROUTINE)
    return function
