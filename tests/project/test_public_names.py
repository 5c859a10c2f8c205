"""The public names: sorted, present, documented, and shown to users as names of hfstream."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hfstream
from hfstream import _transport, errors
from hfstream.types import aliases, inputs
from tests.helpers.modules import MODULES, ROOT, parse

PUBLIC_MODULES = [
    "hfstream", "hfstream.errors", "hfstream.types", "hfstream.types.aliases", "hfstream.types.inputs", "hfstream.sse",
    "hfstream.retry", "hfstream.testing", "hfstream.observers", "hfstream.otel", "hfstream.starlette",
]  # fmt: skip

ORDERS: list[Callable[[str], Any]] = [
    lambda name: name,
    lambda name: (name.startswith("__"), name),
    lambda name: (not name.isupper(), name),
]
"""Plain; with dunders last; with constants first."""


def test_all_is_sorted_and_every_name_resolves() -> None:
    wrong: list[str] = []
    for name in PUBLIC_MODULES:
        module = importlib.import_module(name)
        public: list[str] = module.__all__
        # Added as two lists at the end: they are huggingface_hub's names.
        added = {*aliases.__all__, *inputs.__all__} if name in ("hfstream", "hfstream.types") else set[str]()
        own = [each for each in public if each not in added]
        if own not in [sorted(own, key=order) for order in ORDERS]:
            wrong.append(f"{name}.__all__ is not sorted")
        wrong += [f"{name}.__all__ lacks {each}" for each in sorted(added - set(public))]
        wrong += [f"{name}.__all__ has {each} twice" for each in sorted(set(public)) if public.count(each) > 1]
        wrong += [f"{name}.{each} does not exist" for each in public if getattr(module, each, None) is None]
    assert wrong == []


def declared(module: str) -> list[str]:
    """What ``__all__ = [...]`` of `module` lists."""
    for node in parse(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []


def top_level_names(module: str) -> Iterator[str]:
    statements = list(parse(module).body)
    for node in statements:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            statements += node.body  # names that `__getattr__` imports when they are used: the test below uses them
    for node in statements:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
            yield from declared(f"{package}.{node.module}")
        elif isinstance(node, ast.ImportFrom | ast.Import):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield ast.unparse(node.targets[0])
        elif isinstance(node, ast.AnnAssign):
            yield ast.unparse(node.target)


def test_every_module_has_the_names_in_its_all() -> None:
    """In the text: without importing modules that need torch."""
    missing = [(module, set(declared(module)) - set(top_level_names(module))) for module in MODULES]
    assert [f"{module}.{name}" for module, names in missing for name in sorted(names)] == []


def test_the_transports_names_are_imported_when_they_are_used() -> None:
    assert all(callable(getattr(_transport, name)) for name in _transport.__all__)
    with pytest.raises(AttributeError, match="no attribute 'AsyncHttp'"):
        _ = _transport.AsyncHttp


def test_the_names_of_this_version_are_there() -> None:
    expected = {
        "AsyncInferenceClient", "AsyncTokenStream", "AuthenticationError", "BadRequestError", "BestOfSequence",
        "Details", "FinishReason", "GenerationError", "IncompleteGenerationError", "IncompleteStreamError",
        "InferenceClient", "InferenceConnectionError", "InferenceError", "InferenceTimeoutError", "NotFoundError",
        "OverloadedError", "RetryPolicy", "ServerError", "StreamDetails", "StreamResponse", "TextGenerationError",
        "TextGenerationOutput", "TextGenerationResponse", "TextGenerationStreamOutput", "TextGenerationStreamResponse",
        "Timeouts", "Token", "TokenStream", "UnexpectedResponseError", "UnknownError", "ValidationError", "__version__",
        *errors.__all__,
    }  # fmt: skip
    assert sorted(expected - {"Phase"} - set(hfstream.__all__)) == []


def test_every_public_name_is_documented_and_shown_as_one_of_hfstream() -> None:
    wrong: list[str] = []
    for name in hfstream.__all__:
        value = getattr(hfstream, name)
        if name.startswith("_") or (name in (*aliases.__all__, *inputs.__all__) and not inspect.isclass(value)):
            continue  # a union, or a choice of literals, has no module and no docstring of its own
        if value.__module__ != "hfstream":
            wrong.append(f"{name}.__module__ is {value.__module__}")
        if not inspect.getdoc(value):
            wrong.append(f"{name} has no docstring")
        if inspect.isclass(value) and getattr(hfstream, value.__name__, None) is not value:
            wrong.append(f"{name}.__name__ is {value.__name__}, which is another object")
    assert wrong == []


def test_nothing_public_is_outside_of_all() -> None:
    public = {
        name for name, value in vars(hfstream).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert sorted(public - set(hfstream.__all__)) == ["TYPE_CHECKING"]


def test_the_package_is_typed() -> None:
    assert (ROOT / "hfstream" / "py.typed").exists()
