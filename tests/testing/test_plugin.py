"""Tests of the pytest plugin."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def run_pytest(directory: Path, test: str, *options: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
    """Runs pytest as a user does, without the configuration of this suite."""
    (directory / "test_mine.py").write_text(textwrap.dedent(test), "utf-8")
    code = f"import sys, pytest\n{prelude}\nsys.exit(pytest.main(sys.argv[1:]))"
    command = [
        sys.executable,
        "-c",
        code,
        "-q",
        "-W",
        "error",
        "-p",
        "no:asyncio",
        "--rootdir",
        str(directory),
        "-c",
        "/dev/null",
        *options,
    ]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def test_pytest_finds_the_fixtures(tmp_path: Path) -> None:
    done = run_pytest(
        tmp_path,
        """
        import sys
        from hfstream import InferenceClient
        from hfstream.testing import Response, token_events

        def test_light():
            heavy = ("torch", "transformers", "starlette", "uvicorn", "hfstream.server")
            assert not [name for name in heavy if name in sys.modules]

        def test_two_servers(scripted_server):
            one, two = (scripted_server(Response(token_events(text))) for text in "ab")
            assert InferenceClient(one.url).text_generation("Hi", stream=True).final() == "a"
            assert InferenceClient(two.url).text_generation("Hi", stream=True).final() == "b"
        """,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_reference_settings_are_used(tmp_path: Path) -> None:
    done = run_pytest(
        tmp_path,
        """
        import pytest
        from hfstream.server import Settings

        @pytest.fixture(scope="session")
        def reference_settings():
            return Settings(model="/nowhere")

        def test_it(reference_backend):
            pass
        """,
    )
    assert "StartError: there is no model in /nowhere" in done.stdout, done.stdout + done.stderr


def test_tests_of_the_server_are_skipped_without_its_dependencies(tmp_path: Path) -> None:
    hide = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else find_spec(name, *more)
"""
    test = "def test_it(reference_backend): pass\ndef test_other(scripted_server): pass"
    done = run_pytest(tmp_path, test, "-rs", prelude=hide)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    assert 'a server with a model needs torch: pip install "hfstream[server]"' in done.stdout
