"""The rules of the house: what may import what, what is public, how long a module may be."""

from __future__ import annotations

import ast
import graphlib
import importlib
import inspect
import io
import json
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest

import hfstream
from hfstream import errors
from hfstream._transport import map_exception
from hfstream.core.request_spec import RequestSpec
from hfstream.core.text_generation import text_generation
from hfstream.core.urls import Endpoint
from hfstream.types import aliases, inputs

ROOT = Path(__file__).parent.parent
FILES = sorted(path for path in (ROOT / "hfstream").rglob("*.py") if "bundled" not in path.parts)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}
EVERY_MODULE = pytest.mark.parametrize("module", MODULES)
CORE = [module for module in MODULES if module.startswith("hfstream.core")]


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports_of(module: str) -> Iterator[str]:
    """Every module that `module` imports, wherever in its text; of our own always the one that the name comes from."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in MODULES else base


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


# --- The core --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", CORE)
def test_the_core_neither_waits_nor_knows_who_does(module: str) -> None:
    waiting = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    assert not [node.lineno for node in ast.walk(tree_of(module)) if isinstance(node, waiting)]
    assert not [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.comprehension) and node.is_async]
    forbidden = (
        "httpx", "httpx_sse", "httpcore", "anyio", "asyncio", "trio", "socket", "ssl", "select", "threading",
        "concurrent", "multiprocessing", "subprocess", "os", "io", "pathlib",
    )  # fmt: skip
    assert not [name for name in imports_of(module) if within(name, *forbidden)]


def test_the_core_imports_in_no_circle() -> None:
    graph = {module: {name for name in imports_of(module) if name in CORE and name != module} for module in CORE}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(CORE)


# --- Floors ----------------------------------------------------------------------------------------------------------

FLOORS = [
    ["hfstream.errors", "hfstream.version"],
    ["hfstream.types"],
    ["hfstream.core"],
    ["hfstream._config", "hfstream._transport", "hfstream._stream_manager", "hfstream._async", "hfstream._sync"],
]
"""From the ground up. Above them are the conveniences: every other module, and `hfstream` itself."""

ANNEX = "hfstream.server"


def floor_of(module: str) -> int:
    return next((height for height, rooms in enumerate(FLOORS) if within(module, *rooms)), len(FLOORS))


@EVERY_MODULE
def test_imports_only_go_down(module: str) -> None:
    if within(module, ANNEX):
        return
    ours = [name for name in imports_of(module) if within(name, "hfstream")]
    assert not [name for name in ours if floor_of(name) > floor_of(module)]
    if floor_of(module) == 0:
        assert not ours, "the ground floor stands on nothing"
    if floor_of(module) < len(FLOORS):
        assert not [name for name in ours if within(name, ANNEX)]


@pytest.mark.parametrize("module", [module for module in MODULES if within(module, ANNEX)] or [ANNEX])
def test_the_server_leans_on_the_nouns_and_the_SSE_codec_only(module: str) -> None:
    if module not in MODULES:
        pytest.skip("there is no server yet")
    allowed = (ANNEX, *FLOORS[0], *FLOORS[1], "hfstream.core.sse")
    assert not [name for name in imports_of(module) if within(name, "hfstream") and not within(name, *allowed)]


@EVERY_MODULE
def test_models_are_the_servers_alone(module: str) -> None:
    if not within(module, ANNEX):
        heavy = ("torch", "transformers", "tokenizers", "safetensors")
        assert not [name for name in imports_of(module) if within(name, *heavy)]


def test_every_floor_is_inhabited() -> None:
    assert {floor_of(module) for module in MODULES} == set(range(len(FLOORS) + 1))


# --- Importing -------------------------------------------------------------------------------------------------------


@cache
def loaded_by(module: str) -> frozenset[str]:
    """What a fresh interpreter has loaded after importing `module`."""
    code = f"import json, sys; import {module}; print(json.dumps(list(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    return frozenset(json.loads(told.stdout))


@pytest.mark.parametrize("module", ["hfstream", "hfstream.sse", "hfstream.retry"])
def test_the_import_is_light(module: str) -> None:
    heavy = (
        "torch", "transformers", "tokenizers", "safetensors", "numpy", "starlette", "uvicorn", "jinja2",
        "huggingface_hub", "openai", "pytest", "hfstream.server", "hfstream.testing", "hfstream.cli", "hfstream.bench",
    )  # fmt: skip
    assert "hfstream" in loaded_by(module)
    assert not [name for name in loaded_by(module) if within(name, *heavy)]


# --- The public surface ----------------------------------------------------------------------------------------------

PUBLIC = [
    "hfstream", "hfstream.errors", "hfstream.types", "hfstream.types.aliases", "hfstream.types.inputs", "hfstream.sse",
    "hfstream.retry", "hfstream.testing",
]  # fmt: skip


@pytest.mark.parametrize("module", PUBLIC)
def test_all_is_sorted_and_every_name_is_there(module: str) -> None:
    found = importlib.import_module(module)
    names: list[str] = found.__all__
    from_elsewhere = {*aliases.__all__, *inputs.__all__} if module in ("hfstream", "hfstream.types") else set()
    own = [name for name in names if name not in from_elsewhere]
    orders = [lambda name: name, lambda name: (name.startswith("__"), name), lambda name: (not name.isupper(), name)]
    assert own in [sorted(own, key=order) for order in orders]
    assert from_elsewhere <= set(names)
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(found, name) is not None


@EVERY_MODULE
def test_what_a_module_says_it_has_it_has(module: str) -> None:
    [names] = [
        ast.literal_eval(node.value)
        for node in tree_of(module).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"
    ] or [[]]
    top = {
        node.name
        for node in tree_of(module).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    targets = [node.targets[0] for node in tree_of(module).body if isinstance(node, ast.Assign)]
    targets += [node.target for node in tree_of(module).body if isinstance(node, ast.AnnAssign)]
    top |= {target.id for target in targets if isinstance(target, ast.Name)}
    for node in tree_of(module).body:
        if isinstance(node, ast.ImportFrom | ast.Import):
            top |= {alias.asname or alias.name for alias in node.names}
    assert set(names) <= top


def test_the_names_of_this_version_are_there() -> None:
    assert set(hfstream.__all__) >= {
        "AsyncInferenceClient", "AsyncTokenStream", "AuthenticationError", "BadRequestError", "BestOfSequence",
        "Details", "FinishReason", "GenerationError", "IncompleteGenerationError", "IncompleteStreamError",
        "InferenceClient", "InferenceConnectionError", "InferenceError", "InferenceTimeoutError", "NotFoundError",
        "OverloadedError", "RetryPolicy", "ServerError", "StreamDetails", "StreamResponse", "TextGenerationError",
        "TextGenerationOutput", "TextGenerationResponse", "TextGenerationStreamOutput", "TextGenerationStreamResponse",
        "Timeouts", "Token", "TokenStream", "UnexpectedResponseError", "UnknownError", "ValidationError", "__version__",
    }  # fmt: skip
    assert set(errors.__all__) - {"Phase"} <= set(hfstream.__all__)


@pytest.mark.parametrize("name", [name for name in hfstream.__all__ if not name.startswith("_")])
def test_everything_public_says_that_it_is_from_hfstream(name: str) -> None:
    found = getattr(hfstream, name)
    if name in (*aliases.__all__, *inputs.__all__) and not inspect.isclass(found):
        return  # a union, or a choice of literals
    assert found.__module__ == "hfstream"
    assert inspect.getdoc(found), "and what it is"
    if inspect.isclass(found):
        assert getattr(hfstream, found.__name__) is found


def test_nothing_public_is_left_over() -> None:
    left = {name for name, value in vars(hfstream).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert left <= set(hfstream.__all__)


def test_the_package_is_typed() -> None:
    assert (ROOT / "hfstream" / "py.typed").exists()


# --- Errors of the network -------------------------------------------------------------------------------------------


def exceptions_of(module: Any) -> list[type[Exception]]:
    found = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, Exception)]
    return sorted(set(found), key=lambda kind: kind.__name__)


HTTPX = [
    kind for kind in exceptions_of(httpx) if issubclass(kind, httpx.HTTPError | httpx.StreamError | httpx.InvalidURL)
]
HTTPCORE = exceptions_of(httpcore)
TIMEOUT, CONNECTION = errors.InferenceTimeoutError, errors.InferenceConnectionError
CLASSES: dict[str, type[errors.InferenceError]] = {
    "ConnectTimeout": TIMEOUT, "PoolTimeout": TIMEOUT, "ReadTimeout": TIMEOUT, "WriteTimeout": TIMEOUT,
    "TimeoutException": TIMEOUT,
    "CloseError": CONNECTION, "ConnectError": CONNECTION, "NetworkError": CONNECTION, "ProtocolError": CONNECTION,
    "ProxyError": CONNECTION, "ReadError": CONNECTION, "RemoteProtocolError": CONNECTION, "TransportError": CONNECTION,
    "WriteError": CONNECTION, "ConnectionNotAvailable": CONNECTION,
    "StreamError": CONNECTION, "StreamClosed": CONNECTION, "StreamConsumed": CONNECTION, "RequestNotRead": CONNECTION,
    "ResponseNotRead": CONNECTION,
    "InvalidURL": errors.BadRequestError, "LocalProtocolError": errors.BadRequestError,
    "UnsupportedProtocol": errors.BadRequestError,
    "DecodingError": errors.UnexpectedResponseError, "TooManyRedirects": errors.UnexpectedResponseError,
    "RequestError": CONNECTION, "HTTPError": CONNECTION, "HTTPStatusError": errors.OverloadedError,
}  # fmt: skip
FOREIGN = [pytest.param(kind, id=f"{kind.__module__.split('.')[0]}.{kind.__name__}") for kind in HTTPX + HTTPCORE]


def raised(kind: type[Exception]) -> Exception:
    if issubclass(kind, httpx.HTTPStatusError):
        request = httpx.Request("POST", "http://h")
        return kind("why", request=request, response=httpx.Response(429, request=request))
    takes_none = kind.__module__ == "httpx" and issubclass(kind, httpx.StreamError) and kind is not httpx.StreamError
    return kind() if takes_none else kind("why")


def secret_call() -> RequestSpec[Any, Any, Any]:
    target = Endpoint("https://user:secret@h:8080/secret?key=secret", stream_in_body=False)
    return text_generation(target, "p", {}, stream=True, details=False, headers={"Authorization": "Bearer secret"})


@pytest.mark.parametrize("kind", FOREIGN)
def test_every_error_of_the_network_becomes_ours(kind: type[Exception]) -> None:
    theirs = raised(kind)
    ours = map_exception(theirs, secret_call().url)
    assert type(ours) is CLASSES[kind.__name__]
    assert ours.__cause__ is theirs
    assert "https://h:8080" in str(ours) or kind in (httpx.PoolTimeout, httpcore.PoolTimeout, httpx.HTTPStatusError)
    assert "secret" not in str(ours)


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_error_without_a_word_still_has_a_message(kind: type[Exception]) -> None:
    if issubclass(kind, httpx.HTTPStatusError | httpx.StreamError):
        return
    ours = map_exception(kind(""), secret_call().url)
    assert len(str(ours)) > 10
    assert ": ." not in str(ours)


def test_errors_of_later_making_are_known_by_their_base() -> None:
    class OddTimeoutError(httpx.ReadTimeout):
        pass

    class ConnectError(Exception):
        """Of the same name, but nobody's of httpx."""

    assert type(map_exception(OddTimeoutError("x"), secret_call().url)) is errors.InferenceTimeoutError
    theirs = ConnectError("x")
    assert map_exception(theirs, secret_call().url) is theirs


@pytest.mark.parametrize(
    "error", [ValueError("x"), RuntimeError("x"), OSError("x"), errors.OverloadedError("x"), KeyError("x")]
)
def test_what_is_not_of_the_networks_making_stays_as_it_is(error: Exception) -> None:
    assert map_exception(error, secret_call().url) is error


@pytest.mark.parametrize(
    ("kind", "phase"),
    [(httpx.ConnectTimeout, "connect"), (httpx.PoolTimeout, "connect"), (httpcore.ConnectTimeout, "connect")],
)
def test_a_wait_for_a_connection_has_its_phase(kind: type[Exception], phase: str) -> None:
    ours = map_exception(kind("x"), secret_call().url)
    assert isinstance(ours, errors.InferenceTimeoutError)
    assert ours.phase == phase


@pytest.mark.parametrize("kind", [httpx.LocalProtocolError, httpcore.LocalProtocolError])
def test_a_header_that_is_refused_is_not_quoted(kind: type[Exception]) -> None:
    assert "secret" not in str(map_exception(kind("Illegal header value b'Bearer secret\\n'"), secret_call().url))


# --- Size ------------------------------------------------------------------------------------------------------------

MOST_LINES = 250


def lines_of_code(text: str) -> int:
    """Lines that have code on them: no blank ones, no comments, no docstrings."""
    prose: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose.update(range(node.lineno, (node.end_lineno or 0) + 1))
    nothing = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in nothing:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - prose)


COUNTED = '''"""Doc."""

# no
x = 1  # yes
"""about x
long"""

def f():
    """Doc."""
    return (
        1
    )
'''


def test_lines_are_counted_as_they_should_be() -> None:
    assert lines_of_code(COUNTED) == 5


@EVERY_MODULE
def test_a_module_fits_on_a_few_screens(module: str) -> None:
    assert lines_of_code(MODULES[module].read_text(encoding="utf-8")) <= MOST_LINES


@EVERY_MODULE
def test_a_module_opens_with_what_it_does(module: str) -> None:
    assert len(ast.get_docstring(tree_of(module)) or "") > 20
