"""``pytest --fail-on-unlisted-skips``: the run fails if a test was skipped for a reason that tests/skips.txt lacks."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

LIST = Path(__file__).parent.parent / "skips.txt"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("skips")
    group.addoption(
        "--fail-on-unlisted-skips",
        action="store_true",
        help="fail if a test is skipped for a reason that is not in tests/skips.txt",
    )
    group.addoption(
        "--allow-skip",
        action="append",
        default=[],
        metavar="PATTERN",
        help="one more reason for a skip, as in tests/skips.txt, that this machine cannot do without",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    # Not changed: the status of a run that failed anyway.
    if session.exitstatus == pytest.ExitCode.OK and unlisted_skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if unlisted := unlisted_skips(config):
        terminalreporter.section("skips that tests/skips.txt does not list", red=True)
        for test, reason in unlisted:
            terminalreporter.write_line(f"{test}: {reason}", red=True)


def unlisted_skips(config: pytest.Config) -> list[tuple[str, str]]:
    """Test and reason of each skip that is not allowed; none without ``--fail-on-unlisted-skips``."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not config.getoption("--fail-on-unlisted-skips"):
        return []
    allowed = [*allowed_reasons(LIST.read_text(encoding="utf-8")), *config.getoption("--allow-skip")]
    skips = [(report.nodeid, reason_of(report)) for report in reporter.stats.get("skipped", [])]
    return [(test, why) for test, why in skips if not any(fnmatchcase(why, pattern) for pattern in allowed)]


def allowed_reasons(lines: str) -> list[str]:
    """The patterns of a list like tests/skips.txt: what is before ``|`` in each line that is not a comment.

    Raises:
        ValueError: A line does not say why the skip is allowed.
    """
    patterns: list[str] = []
    for line in lines.splitlines():
        if line.strip() and not line.startswith("#"):
            pattern, _, why = line.partition("|")
            if not why.strip():
                raise ValueError(f"tests/skips.txt: no reason why this is allowed: {line}")
            patterns.append(pattern.strip())
    return patterns


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The reason without pytest's ``Skipped: `` before it. Skipped modules have one too."""
    _, _, reason = report.longrepr if isinstance(report.longrepr, tuple) else (None, None, str(report.longrepr))
    return reason.removeprefix("Skipped: ")
