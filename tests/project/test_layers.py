"""A module imports only from the layers below it; no import circle; models run in the server only."""

from __future__ import annotations

import ast
import graphlib

from tests.helpers.modules import MODULES, Import, all_imports, imports_of, parse, within

SERVER = "hfstream.server"
CORE = "hfstream.core"

LAYERS: list[tuple[str, ...]] = [
    ("hfstream.errors", "hfstream.version", "hfstream._lazy_names"),
    ("hfstream.types",),
    (CORE,),
    (
        "hfstream._base_client", "hfstream._config", "hfstream._journal", "hfstream._limiting", "hfstream._mapping",
        "hfstream._model_argument", "hfstream._openai_names", "hfstream._progress", "hfstream._request_factory",
        "hfstream._signatures", "hfstream._tool_calling", "hfstream._transport", "hfstream._stream_manager",
        "hfstream._workers", "hfstream._async", "hfstream._sync",
    ),
]  # fmt: skip
"""From the bottom up. Every other module is above them: the conveniences, the server, and `hfstream` itself."""

SERVER_LAYERS: list[tuple[str, ...]] = [
    ("model_files",),
    ("engine", "settings"),
    ("text", "schemas"),
    ("service",),
    ("routes", "auth", "request_rules", "connections"),
    ("application",),
    ("app", "upstream"),
    ("services", "ray_proxy"),
    ("serving",),
    ("ray",),
]
"""The folders and modules of the server, from the bottom up. Those of one layer do not import each other."""

IMPORTS_FOR_TYPES_ONLY = ("hfstream._stream_manager",)
"""Modules whose imports under TYPE_CHECKING may close a circle: a stream manager names the stream that it opens, and
the client that returns the manager imports both."""


def layer_of(module: str) -> int:
    return next((height for height, packages in enumerate(LAYERS) if within(module, *packages)), len(LAYERS))


def server_part(module: str) -> str:
    """``engine`` of ``hfstream.server.engine.worker``; empty for ``hfstream.server`` itself."""
    return module.removeprefix(SERVER).removeprefix(".").partition(".")[0]


def server_layer_of(module: str) -> int:
    part = server_part(module)
    return next((height for height, parts in enumerate(SERVER_LAYERS) if part in parts), len(SERVER_LAYERS))


def as_text(found: list[Import]) -> list[str]:
    return [str(each) for each in found]


def our_imports() -> list[Import]:
    return [found for found in all_imports() if within(found.name, "hfstream")]


# --- The whole package -----------------------------------------------------------------------------------------------


def test_every_layer_has_modules() -> None:
    assert {layer_of(module) for module in MODULES} == set(range(len(LAYERS) + 1))


def test_a_module_imports_only_from_its_own_layer_and_those_below() -> None:
    upward = [found for found in our_imports() if layer_of(found.name) > layer_of(found.module)]
    assert as_text(upward) == []


def test_errors_and_version_import_nothing_else_of_hfstream() -> None:
    lowest = [(found, package) for found in our_imports() for package in LAYERS[0] if within(found.module, package)]
    assert as_text([found for found, package in lowest if not within(found.name, package)]) == []


def test_no_module_is_in_an_import_circle() -> None:
    """Parents are left out: that ``hfstream/__init__.py`` runs before any module of hfstream is in no module's text."""
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for found in our_imports():
        for_types_only = found.type_checking and found.module in IMPORTS_FOR_TYPES_ONLY
        if found.name != found.module and not for_types_only:
            graph[found.module].add(found.name)
    circle: list[str] = []
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle = error.args[1]
    assert circle == []


# --- The core --------------------------------------------------------------------------------------------------------

IO_LIBRARIES = (
    "httpx", "httpx_sse", "httpcore", "anyio", "asyncio", "trio", "socket", "ssl", "select", "threading", "concurrent",
    "multiprocessing", "subprocess", "os", "io", "pathlib",
)  # fmt: skip


def test_the_core_has_no_async() -> None:
    nodes = [(module, node) for module in MODULES if within(module, CORE) for node in ast.walk(parse(module))]
    asynchronous = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    found = [f"{module}:{node.lineno}" for module, node in nodes if isinstance(node, asynchronous)]
    found += [
        f"{module}:{node.target.lineno}"
        for module, node in nodes
        if isinstance(node, ast.comprehension) and node.is_async
    ]
    assert found == []


def test_the_core_imports_no_library_that_does_io() -> None:
    found = [found for found in all_imports() if within(found.module, CORE) and within(found.name, *IO_LIBRARIES)]
    assert as_text(found) == []


# --- The server ------------------------------------------------------------------------------------------------------


UPSTREAM = f"{SERVER}.upstream"
"""The part of the server that is a client: it answers with what other servers say."""


def test_the_server_imports_only_errors_types_version_and_the_formats_of_events() -> None:
    allowed = (SERVER, *LAYERS[0], *LAYERS[1], "hfstream.core.sse", "hfstream.core.response_events")
    server = [found for found in our_imports() if within(found.module, SERVER) and not within(found.module, UPSTREAM)]
    assert as_text([found for found in server if not within(found.name, *allowed)]) == []


def test_the_server_with_a_model_never_imports_the_part_that_is_a_client() -> None:
    found = [found for found in our_imports() if within(found.name, UPSTREAM) and not within(found.module, UPSTREAM)]
    assert {each.module for each in found} == {f"{SERVER}.services"}  # inside a function, for a server with `upstreams`


def test_the_part_of_the_server_that_is_a_client_imports_nothing_of_models() -> None:
    models = [f"{SERVER}.{part}" for part in ("engine", "text", "app", "model_files")]
    found = [found for found in our_imports() if within(found.module, UPSTREAM) and within(found.name, *models)]
    assert as_text(found) == []


def test_the_layers_of_the_server_are_all_there_is() -> None:
    parts = {server_part(module) for module in MODULES if within(module, SERVER)} - {""}
    assert parts == {part for parts in SERVER_LAYERS for part in parts}


def test_the_folders_of_the_server_import_one_way() -> None:
    inside = [found for found in our_imports() if within(found.module, SERVER) and within(found.name, SERVER)]
    across = [found for found in inside if server_part(found.module) != server_part(found.name)]
    assert as_text([found for found in across if server_layer_of(found.name) >= server_layer_of(found.module)]) == []


def test_only_the_server_imports_libraries_for_models() -> None:
    libraries = ("torch", "transformers", "tokenizers", "safetensors")
    found = [found for found in all_imports() if within(found.name, *libraries) and not within(found.module, SERVER)]
    assert as_text(found) == []


def test_within_the_server_only_the_engine_imports_torch() -> None:
    found = [found for found in all_imports() if within(found.name, "torch")]
    assert found
    assert as_text([found for found in found if not within(found.module, f"{SERVER}.engine")]) == []


def test_below_its_routes_the_server_imports_no_web_framework() -> None:
    below = [module for module in MODULES if within(module, SERVER)]
    below = [module for module in below if server_layer_of(module) < server_layer_of(f"{SERVER}.routes")]
    frameworks = ("starlette", "uvicorn", "httpx")
    found = [found for module in below for found in imports_of(module) if within(found.name, *frameworks)]
    assert as_text(found) == []
