"""What a module may import: layers, the server's folders, and no circle."""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys

import pytest

from tests.helpers.modules import MODULES, ROOT, imports_of, tree_of, within

LAYERS = [
    ["hfstream.errors", "hfstream.version"],
    ["hfstream.types"],
    ["hfstream.core"],
    ["hfstream._config", "hfstream._request_factory", "hfstream._transport", "hfstream._stream_manager",
     "hfstream._async", "hfstream._sync"],
]  # fmt: skip
"""From the lowest up; a module imports its own layer and lower ones. All other modules are above them."""

SERVER = "hfstream.server"

SERVER_LAYERS = [
    [f"{SERVER}.settings", f"{SERVER}.auth", f"{SERVER}.bundled"],
    [f"{SERVER}.engine"],
    [f"{SERVER}.text", f"{SERVER}.schemas"],
    [f"{SERVER}.service"],
    [f"{SERVER}.routes"],
    [f"{SERVER}.app"],
    [f"{SERVER}.serving"],
    [SERVER],
]
"""The server's own layers, from the lowest up: tokens; text and JSON; requests; HTTP."""

MODEL_LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors")


def layer_of(module: str, layers: list[list[str]]) -> int:
    return next((height for height, packages in enumerate(layers) if within(module, *packages)), len(layers))


def test_the_core_neither_awaits_nor_does_IO() -> None:
    forbidden = (
        "httpx", "httpx_sse", "httpcore", "anyio", "asyncio", "trio", "socket", "ssl", "select", "threading",
        "concurrent", "multiprocessing", "subprocess", "os", "io", "pathlib",
    )  # fmt: skip
    waiting = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    core = [module for module in MODULES if within(module, "hfstream.core")]
    assert len(core) > 10
    violations = [
        f"{module}:{getattr(node, 'lineno', '')} {type(node).__name__}"
        for module in core
        for node in ast.walk(tree_of(module))
        if isinstance(node, waiting) or (isinstance(node, ast.comprehension) and node.is_async)
    ]
    violations += [
        f"{module} imports {name}" for module in core for name in imports_of(module) if within(name, *forbidden)
    ]
    assert violations == []


def test_imports_go_down_the_layers() -> None:
    violations = [
        f"{module} imports {name}"
        for module in MODULES
        if not within(module, SERVER)
        for name in imports_of(module)
        if within(name, "hfstream")
        if layer_of(name, LAYERS) > layer_of(module, LAYERS)
        or (layer_of(module, LAYERS) < len(LAYERS) and within(name, SERVER))
        or (
            layer_of(module, LAYERS) == 0
            and not (within(module, "hfstream.errors") and within(name, "hfstream.errors"))
        )
    ]
    assert violations == []


def test_no_layer_is_empty() -> None:
    assert {layer_of(module, LAYERS) for module in MODULES} == set(range(len(LAYERS) + 1))
    server = [module for module in MODULES if within(module, SERVER)]
    assert {layer_of(module, SERVER_LAYERS) for module in server} == set(range(len(SERVER_LAYERS)))


def test_the_server_depends_on_the_types_the_errors_and_the_SSE_encoder_only() -> None:
    allowed = (SERVER, *LAYERS[0], *LAYERS[1], "hfstream.core.sse")
    violations = [
        f"{module} imports {name}"
        for module in MODULES
        if within(module, SERVER)
        for name in imports_of(module)
        if within(name, "hfstream") and not within(name, *allowed)
    ]
    assert violations == []


def test_the_folders_of_the_server_import_one_way() -> None:
    violations = [
        f"{module} imports {name}"
        for module in MODULES
        if within(module, SERVER)
        for name in imports_of(module)
        if within(name, SERVER) and layer_of(name, SERVER_LAYERS) > layer_of(module, SERVER_LAYERS)
    ]
    folders = {"text": "schemas", "schemas": "text"}  # of one layer, and independent of each other
    violations += [
        f"{module} imports {name}"
        for module in MODULES
        for folder, other in folders.items()
        if within(module, f"{SERVER}.{folder}")
        for name in imports_of(module)
        if within(name, f"{SERVER}.{other}")
    ]
    assert violations == []


def test_only_the_server_imports_models() -> None:
    violations = [
        f"{module} imports {name}"
        for module in MODULES
        if not within(module, SERVER)
        for name in imports_of(module)
        if within(name, *MODEL_LIBRARIES)
    ]
    assert violations == []


def test_no_module_imports_itself_through_others() -> None:
    # At run time, the imports within functions included. `_stream_manager` names its stream's class for annotations.
    graph = {
        module: {name for name in imports_of(module, for_types=False) if name in MODULES and name != module}
        for module in MODULES
    }
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, with the circle
    assert len(order) == len(MODULES)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["hfstream", "hfstream.sse", "hfstream.retry"])
def test_importing_the_client_imports_nothing_large(module: str) -> None:
    large = (
        *MODEL_LIBRARIES, "numpy", "starlette", "uvicorn", "jinja2", "huggingface_hub", "openai", "pytest",
        SERVER, "hfstream.testing", "hfstream.cli",
    )  # fmt: skip
    code = f"import json, sys; import {module}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    imported = json.loads(done.stdout)
    assert module in imported
    assert [name for name in imported if within(name, *large)] == []
