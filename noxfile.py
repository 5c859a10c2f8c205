"""What is checked, each in an environment of its own: ``nox -s lint types tests docs build``, or one of them.

Everything is installed under constraints.txt, so that all of it runs with the versions that were tried together.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "docs", "build"]
nox.options.error_on_missing_interpreters = True

PINNED = ("-c", "constraints.txt")
PYTHON = ["hfstream", "tests", "examples", "training", "noxfile.py"]

SHIPPED = {
    "hfstream/py.typed",
    "hfstream/server/bundled/config.json",
    "hfstream/server/bundled/model.safetensors",
    "hfstream/server/bundled/tokenizer.json",
}
"""Files without which a wheel would install, and fail later."""

ALONE = """
import sys, importlib.util
absent = [name for name in ("torch", "transformers", "starlette", "rich") if importlib.util.find_spec(name) is None]
assert len(absent) == 4, "this environment has more than the client's dependencies"
import hfstream, hfstream.retry, hfstream.sse, hfstream.testing
assert "site-packages" in hfstream.__file__, hfstream.__file__
print("hfstream", hfstream.__version__, "imports alone")
"""


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    session.install(*PINNED, "ruff")
    session.run("ruff", "check", *PYTHON)
    session.run("ruff", "format", "--check", *PYTHON)


@nox.session
def types(session: nox.Session) -> None:
    """Mypy and pyright, both strict.

    With torch and the rest of the server's libraries: without them all that they return is Any, and strictness about
    Any would have to be switched off for the server.
    """
    session.install(*PINNED, "-e", ".[server,cli,test,lint]")
    session.run("mypy")
    session.run("pyright")


@nox.session
def tests(session: nox.Session) -> None:
    """The tests; arguments behind ``--`` go to pytest."""
    session.install(*PINNED, "-e", ".[server,cli,test]")
    session.run("pytest", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, with every warning an error. Reads the source of hfstream, and imports nothing of it."""
    session.install(*PINNED, "mkdocs", "mkdocs-material", "mkdocstrings-python", "ruff")  # ruff formats signatures
    session.run("mkdocs", "build", "--strict", "--site-dir", str(Path(session.create_tmp()) / "site"))


@nox.session
def build(session: nox.Session) -> None:
    """The sdist, the wheel made from it, and an import with nothing but the client's dependencies installed."""
    session.install(*PINNED, "build")
    out = Path(session.create_tmp()) / "dist"
    for old in out.glob("*"):
        old.unlink()
    constraints = str(Path("constraints.txt").resolve())
    session.run("python", "-m", "build", "--outdir", str(out), env={"PIP_CONSTRAINT": constraints})
    (wheel,) = out.glob("*.whl")
    lacking = SHIPPED - set(zipfile.ZipFile(wheel).namelist())
    if lacking:
        session.error(f"{wheel.name} lacks {', '.join(sorted(lacking))}")
    session.install(*PINNED, str(wheel))
    session.chdir(session.create_tmp())  # away from the checkout, which would be imported instead
    session.run("python", "-c", ALONE)
