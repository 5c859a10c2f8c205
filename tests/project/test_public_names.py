"""What users import: every name is there, documented, and shown as of the module it is imported from."""

from __future__ import annotations

import ast
import importlib
import inspect

import hfstream
from hfstream import errors
from hfstream.types import aliases, inputs
from tests.helpers.modules import MODULES, ROOT, tree_of

PUBLIC = [
    "hfstream", "hfstream.errors", "hfstream.types", "hfstream.types.aliases", "hfstream.types.inputs", "hfstream.sse",
    "hfstream.retry", "hfstream.testing",
]  # fmt: skip

REEXPORTED = {*aliases.__all__, *inputs.__all__}


def test_all_is_sorted_and_complete() -> None:
    orders = [lambda name: name, lambda name: (name.startswith("__"), name), lambda name: (not name.isupper(), name)]
    violations = []
    for module in PUBLIC:
        found = importlib.import_module(module)
        names: list[str] = found.__all__
        reexported = REEXPORTED if module in ("hfstream", "hfstream.types") else set()
        own = [name for name in names if name not in reexported]
        if own not in [sorted(own, key=order) for order in orders]:
            violations.append(f"{module}: not sorted")
        if not reexported <= set(names):
            violations.append(f"{module}: lacks {reexported - set(names)}")
        if len(set(names)) != len(names):
            violations.append(f"{module}: the same name twice")
        violations += [f"{module}.{name}" for name in names if getattr(found, name, None) is None]
    assert violations == []


def test_every_name_of_all_is_defined_in_its_module() -> None:
    violations = []
    for module in MODULES:
        body = tree_of(module).body
        names: list[str] = []
        defined: set[str] = set()
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                defined.add(node.name)
            elif isinstance(node, ast.ImportFrom | ast.Import):
                defined |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name):
                    defined.add(target.id)
                    if target.id == "__all__" and isinstance(node, ast.Assign):
                        names = ast.literal_eval(node.value)
        violations += [f"{module}.{name}" for name in names if name not in defined]
    assert violations == []


def test_the_names_of_this_version_are_there() -> None:
    assert set(hfstream.__all__) >= {
        "AsyncInferenceClient", "AsyncStreamManager", "AsyncTokenStream", "AuthenticationError", "BadRequestError",
        "BestOfSequence", "Details", "FinishReason", "GenerationError", "IncompleteGenerationError",
        "IncompleteStreamError", "InferenceClient", "InferenceConnectionError", "InferenceError",
        "InferenceTimeoutError", "NotFoundError", "OverloadedError", "RetryPolicy", "ServerError", "StreamDetails",
        "StreamResponse", "TextGenerationError", "TextGenerationOutput", "TextGenerationResponse",
        "TextGenerationStreamOutput", "TextGenerationStreamResponse", "Timeouts", "Token", "TokenStream",
        "UnexpectedResponseError", "UnknownError", "ValidationError", "__version__",
    }  # fmt: skip
    assert set(errors.__all__) - {"Phase"} <= set(hfstream.__all__)


def test_public_names_are_documented_and_shown_as_of_hfstream() -> None:
    violations = []
    for name in hfstream.__all__:
        found = getattr(hfstream, name)
        if name.startswith("_") or (name in REEXPORTED and not inspect.isclass(found)):
            continue  # the version; and unions, which are not classes
        if found.__module__ != "hfstream":
            violations.append(f"{name}: of {found.__module__}")
        if not inspect.getdoc(found):
            violations.append(f"{name}: no docstring")
        if inspect.isclass(found) and getattr(hfstream, found.__name__) is not found:
            violations.append(f"{name}: is {found.__name__}")
    assert violations == []


def test_every_public_name_is_in_all() -> None:
    names = {name for name, value in vars(hfstream).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert names - set(hfstream.__all__) == set()


def test_the_package_is_typed() -> None:
    assert (ROOT / "hfstream" / "py.typed").exists()
