"""The rows of docs/robustness.md: what can happen to a stream, what other clients do, what hfstream does.

A row is a decorator of the tests that show it. `scripts/robustness_table.py` runs them and writes the page.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

__all__ = ["TASKS", "VARIANTS", "Result", "Row", "row", "rows"]

T = TypeVar("T", bound=Callable[..., Any])

VARIANTS = ("sync", "async")
TASKS = ("text", "chat")

Pair = tuple[str, str]
"""A variant and a task."""


@dataclass(frozen=True, eq=False)
class Row:
    """One line of a table, and the tests that show it."""

    section: str
    happens: str
    peers: str
    hfstream: str
    tests: dict[str, set[Pair]] = field(default_factory=dict[str, set[Pair]])
    """Name of each test (module and function), and the pairs for which it shows that the row holds."""

    def __call__(self, test: T) -> T:
        """For a test that takes both fixtures, `variant` and `task`."""
        return self.only()(test)

    def only(self, *, variant: str | None = None, task: str | None = None) -> Callable[[T], T]:
        """For a test that lacks one of the fixtures, or both: the arguments say what it is about."""

        def decorate(test: T) -> T:
            fixtures = inspect.signature(test).parameters
            if ("variant" in fixtures) == (variant is not None) or ("task" in fixtures) == (task is not None):
                raise TypeError(f"{test.__name__}: give the variant and the task, each by its fixture or by name")
            pairs = {(v, t) for v in ([variant] if variant else VARIANTS) for t in ([task] if task else TASKS)}
            self.tests[f"{test.__module__}.{test.__name__}"] = pairs
            marked: T = pytest.mark.row.with_args(self, variant=variant, task=task)(test)
            return marked

        return decorate

    @property
    def expected(self) -> Result:
        """The result if all tests pass."""
        return Result(set().union(*self.tests.values()))


_ROWS: list[Row] = []


def row(section: str, happens: str, peers: str, hfstream: str) -> Row:
    """A new row of `section`."""
    _ROWS.append(Row(section, happens, peers, hfstream))
    return _ROWS[-1]


def rows(section: str) -> list[Row]:
    """The rows of one section, module by module: the order does not depend on which module was imported first."""
    return sorted(
        (each for each in _ROWS if each.section == section), key=lambda each: min(each.tests).rpartition(".")[0]
    )


@dataclass
class Result:
    """What the tests of a row have shown."""

    held: set[Pair] = field(default_factory=set[Pair])
    failed: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        if self.failed:
            return "**failed:** " + ", ".join(f"`{name}`" for name in self.failed)
        by_task = {task: [variant for variant in VARIANTS if (variant, task) in self.held] for task in TASKS}
        if by_task["text"] == by_task["chat"]:
            return f"passed: {', '.join(TASKS)}; {', '.join(by_task['text'])}"
        return "passed: " + " · ".join(
            f"{task}; {', '.join(variants)}" for task, variants in by_task.items() if variants
        )
