"""What README.md and docs/ show is true: their Python runs as it is written, and CI runs the README's commands.

Every fenced block of Python is run; one that cannot be has ``<!-- not run: why -->`` on the line before it. So are the
shell's lines that ask a server; JavaScript is run where there is node, in tests/clients.
"""

from __future__ import annotations

import gc
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hfstream.cli.options import parse_args
from hfstream.core.retry_decisions import DECISIONS
from hfstream.server import BackgroundServer
from tests.helpers.shared_engine import SharedEngine

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^(<!-- not run: .+ -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
URL = "http://127.0.0.1:8080"


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """The line on which each block to be run begins, and its text."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        if found[2] == language and not found[1]:
            yield text.count("\n", 0, found.start(3)) + 1, found[3]


PROGRAMS = [
    pytest.param(page, line, code, id=f"{page.relative_to(ROOT).as_posix()}:{line}")
    for page in PAGES
    for line, code in blocks(page, "python")
]


@pytest.fixture(scope="module")
def url(shared_engine: SharedEngine) -> Iterator[str]:
    with BackgroundServer(engine=shared_engine.connect()) as server:
        yield server.url


@pytest.mark.parametrize(("page", "line", "code"), PROGRAMS)
def test_python_runs_as_it_is_written(page: Path, line: int, code: str, url: str) -> None:
    program = "\n" * (line - 1) + code.replace(URL, url)  # so that a traceback has the page's own lines
    exec(compile(program, page, "exec", dont_inherit=True), {"__name__": "__main__"})
    gc.collect()  # what it leaves unclosed is warned of here


def test_what_is_printed_token_by_token_is_seen_token_by_token() -> None:
    """Without a flush a terminal shows nothing until the line is whole; and a pipe, nothing until the end."""
    shown = [code for page in PAGES for _, code in blocks(page, "python")]
    shown += [program.read_text(encoding="utf-8") for program in (ROOT / "examples").glob("*.py")]
    prints = [line.strip() for code in shown for line in code.splitlines() if "end=" in line]
    assert prints
    assert not [line for line in prints if "flush=True" not in line]


LINES = [line for page in PAGES for _, code in blocks(page, "sh") for line in code.replace("\\\n", "").splitlines()]


@pytest.mark.parametrize("line", [line for line in LINES if URL in line])
def test_a_line_of_the_shell_that_asks_a_server_is_answered(line: str, url: str, tmp_path: Path) -> None:
    if "curl" in line and shutil.which("curl") is None:
        pytest.skip("there is no curl")
    command = re.sub(r"\bhfstream (?=[a-z])", f"{shlex.quote(sys.executable)} -m hfstream.cli ", line)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command.replace(URL, url), shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=300, check=False, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout or (tmp_path / "answer.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("hfstream serve")])
def test_a_server_is_started_with_options_that_it_has(line: str) -> None:
    parse_args(shlex.split(line)[1:])


def test_the_table_of_verdicts_is_the_codes() -> None:
    page = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    drawn = page.partition("<!-- retry-decisions -->")[2].partition("<!-- /retry-decisions -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in drawn.strip().splitlines()[2:]]
    assert [(kind, before, after) for kind, _, before, after in rows] == [
        (kind.value, before.value, after.value) for kind, (before, after) in DECISIONS.items()
    ]


def test_the_loops_that_users_come_for_are_in_the_readme() -> None:
    shown = "".join(code for _, code in blocks(ROOT / "README.md", "python"))
    assert 'for token in client.text_generation("How do you make cheese?", max_new_tokens=12, stream=True):' in shown
    assert "max_new_tokens=12, details=True, stream=True):" in shown
    assert 'async for token in await client.text_generation("How do you make cheese?", stream=True):' in shown


def commands() -> list[list[str]]:
    """The steps of the README's set-up commands."""
    shell = "".join(code for _, code in blocks(ROOT / "README.md", "sh"))
    return [line.split(" && ") for line in shell.splitlines() if line.startswith("python3 -m venv ")]


def test_two_commands_set_everything_up() -> None:
    run, test = commands()
    assert run[:2] == test[:2] == ["python3 -m venv .venv", ". .venv/bin/activate"]
    assert run[-1].startswith("hfstream generate ")
    assert all("-c constraints.txt" in step for step in (run[2], test[2]))


def test_ci_runs_the_readmes_test_command() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    _, _, *steps = commands()[1]  # CI has its environments elsewhere
    assert len(steps) == 2
    at = lines.index(steps[0])
    assert lines[at : at + len(steps)] == steps


@pytest.mark.parametrize("overview", ["README.md", "docs/index.md"])
def test_each_guide_is_in_the_overviews(overview: str) -> None:
    page = ROOT / overview
    linked = {(page.parent / target).resolve() for target in LINK.findall(page.read_text(encoding="utf-8"))}
    assert not [guide.name for guide in (ROOT / "docs" / "guides").glob("*.md") if guide.resolve() not in linked]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert not [target for target in targets if not (page.parent / target).exists()]
