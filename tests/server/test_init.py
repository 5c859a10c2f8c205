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


def test_the_message_for_missing_packages_says_what_to_install() -> None:
    program = (
        "import importlib.util as util; found = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name in ('torch', 'uvicorn') else found(name, *rest)\n"
        "import hfstream.server"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    failed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert 'ImportError: hfstream.server needs uvicorn, torch: pip install "hfstream[server]"' in failed.stderr
