"""Importing hfstream.server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_importing_the_server_does_not_import_torch() -> None:
    program = "import sys, hfstream.server; print(sorted({'torch', 'transformers'} & sys.modules.keys()))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    ).stdout
    assert out == "[]\n"


def run_without(packages: tuple[str, ...], program: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in an environment that seems to lack some packages."""
    hide = (
        "import importlib.util as util, sys; found = util.find_spec\n"
        f"util.find_spec = lambda name, *rest: None if name in {packages!r} else found(name, *rest)\n"
        f"sys.modules.update(dict.fromkeys({packages!r}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", hide + program], capture_output=True, text=True, env=environment, check=False
    )


def test_the_message_for_missing_packages_says_what_to_install() -> None:
    failed = run_without(("uvicorn",), "import hfstream.server")
    assert 'ImportError: hfstream.server needs uvicorn: pip install "hfstream[server]"' in failed.stderr
    failed = run_without(("torch",), "import hfstream.server; hfstream.server.create_app()")
    assert 'ImportError: a server with a model needs torch: pip install "hfstream[server]"' in failed.stderr


def test_a_server_in_front_of_others_needs_no_libraries_for_models() -> None:
    program = (
        "from hfstream.server import BackgroundServer, Settings\n"
        "with BackgroundServer(Settings(upstreams=('http://127.0.0.1:1/v1',))) as server: print(server.url)\n"
    )
    done = run_without(("torch", "transformers", "tokenizers", "jinja2", "safetensors", "llguidance"), program)
    assert done.stdout.startswith("http://127.0.0.1:"), done.stderr


def test_a_server_with_a_model_has_nothing_of_one_in_front_of_others() -> None:
    program = (
        "import sys, hfstream.server as server; server.create_app()\n"
        "print([name for name in sys.modules if name.startswith('hfstream.server.upstream')])"
    )
    assert run_without((), program).stdout == "[]\n"
