"""The rows of docs/robustness.md: what can happen to a stream, what other clients do, what hfstream does.

A row is a decorator of the tests that stand for it. ``python tests/robustness.py`` runs them and writes the page.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

__all__ = ["PAGE", "ROWS", "Result", "Row", "page"]

PAGE = Path(__file__).parent.parent / "docs" / "robustness.md"
TESTS = Path(__file__).with_name("test_peers.py")

T = TypeVar("T", bound=Callable[..., Any])

VARIANTS = ("sync", "async")
TASKS = ("text", "chat")

Pair = tuple[str, str]
"""A face and a task."""


@dataclass(frozen=True, eq=False)
class Row:
    """One line of a table, and the tests that stand for it."""

    happens: str
    peers: str
    hfstream: str
    tests: dict[str, set[Pair]] = field(default_factory=dict[str, set[Pair]])
    """Name of each test, and where it says that the row holds."""

    def __call__(self, test: T) -> T:
        """For a test that takes both fixtures, `variant` and `task`."""
        return self.only()(test)

    def only(self, *, variant: str | None = None, task: str | None = None) -> Callable[[T], T]:
        """For a test that lacks one of the fixtures, or both: it is named here what it is about."""

        def decorate(test: T) -> T:
            fixtures = inspect.signature(test).parameters
            if ("variant" in fixtures) == (variant is not None) or ("task" in fixtures) == (task is not None):
                raise TypeError(f"{test.__name__}: say the face and the task, each by its fixture or by name")
            pairs = {(f, t) for f in ([variant] if variant else VARIANTS) for t in ([task] if task else TASKS)}
            self.tests[test.__name__] = pairs
            marked: T = pytest.mark.row.with_args(self, variant=variant, task=task)(test)
            return marked

        return decorate

    @property
    def claimed(self) -> Result:
        """What the page says if all tests pass."""
        return Result(set().union(*self.tests.values()))


ROWS: dict[str, list[Row]] = {}
"""The rows of each section of the page, in its order."""


def row(section: str, happens: str, peers: str, hfstream: str) -> Row:
    """A new row of `section`."""
    made = Row(happens, peers, hfstream)
    ROWS.setdefault(section, []).append(made)
    return made


@dataclass
class Result:
    """What came of a row's tests."""

    held: set[Pair] = field(default_factory=set[Pair])
    failed: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        if self.failed:
            return "**not held:** " + ", ".join(f"`{name}`" for name in self.failed)
        by_task = {task: [variant for variant in VARIANTS if (variant, task) in self.held] for task in TASKS}
        if by_task["text"] == by_task["chat"]:
            return f"held: {', '.join(TASKS)}; {', '.join(by_task['text'])}"
        return "held: " + " · ".join(f"{task}; {', '.join(variants)}" for task, variants in by_task.items() if variants)


HEAD = """# Robustness

What can happen to a stream, what other clients make of it, and what hfstream does. Each row is tested, by the tests
named at the end of this page, against a server that does to the connection what the row says.

The column *other clients* was measured once, with huggingface_hub 2.4.0, openai 3.52, mistralai 3.7, litellm 1.106,
cohere 7.3, google-genai 3.4, anthropic, httpx-sse 0.4.3 and httpx2 2.16 against scripted servers. It is of those
versions: later ones may do better. A row that names no client is about most of them.

The column *result* is hfstream's own, from this version's tests: text generation or chat, the plain client or the
asynchronous one. This page was made from a run of them by `python tests/robustness.py`; a test fails if they part.
"""

SECTIONS = {
    "Streams": "",
    "Lines on the wire": (
        "The format is [Server-Sent Events](https://html.spec.whatwg.org/multipage/server-sent-events.html). Of 27\n"
        "cases written from that text, mistralai read 24 as they are meant, httpx2 22, httpx-sse and cohere 21,\n"
        "openai and anthropic 20, huggingface_hub 15, google-genai 8. `hfstream.sse` passes all that its own tests\n"
        "have from it, however the wire is cut; the rows here are mostly seen through the client.\n"
    ),
}


def page(results: Mapping[Row, Result]) -> str:
    """The page's text."""
    parts = [HEAD]
    for section, rows in ROWS.items():
        parts += [f"\n## {section}\n", f"\n{SECTIONS[section]}" * bool(SECTIONS[section])]
        parts.append("\n| what happens | other clients | hfstream | result |\n|---|---|---|---|\n")
        parts += [f"| {row.happens} | {row.peers} | {row.hfstream} | {results[row]} |\n" for row in rows]
    parts.append("\n## The tests\n\nAll in `tests/test_peers.py`.\n\n")
    parts += [f"- {row.happens}: {_names(row)}\n" for rows in ROWS.values() for row in rows]
    return "".join(parts)


def _names(row: Row) -> str:
    return ", ".join(f"`{name}`" for name in row.tests)


class Recorder:
    """A plugin of pytest that notes what becomes of each row's tests."""

    def __init__(self) -> None:
        self.results: dict[Row, Result] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if (mark := item.get_closest_marker("row")) is not None:
            result = self.results.setdefault(mark.args[0], Result())
            if report.failed:
                result.failed.append(item.name)
            elif report.when == "call" and report.passed:
                params: dict[str, Any] = getattr(item, "callspec").params if hasattr(item, "callspec") else {}  # noqa: B009
                result.held.add(tuple(mark.kwargs[name] or params[name].name for name in ("variant", "task")))
        return report


def main() -> int:
    """Runs the tests and writes the page, also if some fail: then it says so."""
    recorder = Recorder()
    code = pytest.main(["-q", "-m", "row", str(TESTS)], [recorder])
    missing = [row.happens for rows in ROWS.values() for row in rows if row not in recorder.results]
    if missing:
        print("not run:", *missing, sep="\n  ", file=sys.stderr)  # noqa: T201
        return 1
    PAGE.write_text(page(recorder.results), encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.path.insert(0, str(TESTS.parent.parent))
    from tests import robustness  # the module that the tests import, and not this one

    sys.exit(robustness.main())
