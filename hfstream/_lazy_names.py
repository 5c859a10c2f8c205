"""Names of a module that are imported when they are used: making a client needs few of them.

Does not depend on which names these are.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["names_from"]


def names_from(name: str, *modules: str) -> Callable[[str], Any]:
    """A ``__getattr__`` (PEP 562) for the module `name`: it has what one of `modules` has in its ``__all__``.

    They are imported in this order, until one of them has the attribute.
    """

    def find(attribute: str) -> Any:
        for module in modules if not attribute.startswith("_") else ():
            found = importlib.import_module(module)
            if attribute in found.__all__:
                _show_as_public(found)
                value = getattr(found, attribute)
                setattr(sys.modules[name], attribute, value)
                return value
        raise AttributeError(f"module {name!r} has no attribute {attribute!r}", name=attribute, obj=sys.modules[name])

    return find


def _show_as_public(module: ModuleType) -> None:
    """Tracebacks, reprs and the documentation show the module that users import from."""
    public = sys.modules["hfstream"].__all__
    for name in module.__all__:
        value = getattr(module, name)
        if name in public and isinstance(value, type):
            value.__module__ = "hfstream"
