"""What ``--fail-on-unlisted-skips`` does to a run of pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.skips import LIST, allowed_reasons

ROOT = LIST.parent.parent
TESTS = """
import pytest

def test_passes(): pass

def test_in_its_body(): pytest.skip({reason!r})

@pytest.mark.skipif(True, reason={reason!r})
def test_by_mark(): pass
"""
MODULE = 'import pytest\nno_such_module = pytest.importorskip("no_such_module", reason={reason!r})'
UNLISTED = "there is no printer"
LISTED = allowed_reasons(LIST.read_text(encoding="utf-8"))[0]


def run_pytest(path: Path, reason: str, *options: str) -> subprocess.CompletedProcess[str]:
    (path / "test_some.py").write_text(TESTS.format(reason=reason), encoding="utf-8")
    (path / "test_module.py").write_text(MODULE.format(reason=reason), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.helpers.skips", "-p", "no:cacheprovider", *options],
        cwd=path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_unlisted_skips_fail_the_run_and_are_named(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, UNLISTED, "--fail-on-unlisted-skips")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    _, _, summary = done.stdout.partition("skips that tests/skips.txt does not list")
    for test in ("test_some.py::test_in_its_body", "test_some.py::test_by_mark", "test_module.py"):
        assert f"{test}: {UNLISTED}\n" in summary
    assert "test_passes" not in summary


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        (UNLISTED, []),
        (UNLISTED, ["--fail-on-unlisted-skips", "--allow-skip", "there is no p*"]),
        (LISTED, ["--fail-on-unlisted-skips"]),
    ],
    ids=["without-the-option", "allowed-by-an-option", "listed"],
)
@pytest.mark.slow
def test_other_skips_do_not_fail_the_run(tmp_path: Path, reason: str, options: list[str]) -> None:
    done = run_pytest(tmp_path, reason, *options)
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
    assert "1 passed, 3 skipped" in done.stdout
    assert "does not list" not in done.stdout


@pytest.mark.slow
def test_a_failed_run_stays_a_failed_run(tmp_path: Path) -> None:
    (tmp_path / "test_fails.py").write_text("def test_fails(): assert False", encoding="utf-8")
    done = run_pytest(tmp_path, UNLISTED, "--fail-on-unlisted-skips", "--allow-skip", "*")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr


def test_a_listed_skip_without_a_reason_is_refused() -> None:
    with pytest.raises(ValueError, match="no reason why this is allowed: no network"):
        allowed_reasons("# a comment\nno forks | Windows has none\nno network\n")
