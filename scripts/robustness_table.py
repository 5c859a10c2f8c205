"""Runs the tests of the rows of docs/robustness.md, and writes the page from their results.

python scripts/robustness_table.py            runs tests/peers and writes the page
python scripts/robustness_table.py --check    compares the page with what the rows say; runs no test
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # for `tests`, which is not installed

from tests.helpers.robustness_rows import Result, Row, rows  # noqa: E402  from there

PAGE = ROOT / "docs" / "robustness.md"
TESTS = ROOT / "tests" / "peers"

HEAD = """# Robustness

What can go wrong with a stream, how other clients handle it, and how hfstream handles it. Each row is tested by the
tests listed at the end of this page, against a server that does to the connection what the row says.

The column *other clients* was measured once, with huggingface_hub 2.4.0, openai 3.52, mistralai 3.7, litellm 1.106,
cohere 7.3, google-genai 3.4, anthropic, httpx-sse 0.4.3 and httpx2 2.16 against scripted servers. It is valid for
these versions; later ones may be better. If a row names no client, it is true of most of them.

The column *result* shows for which tasks (text generation, chat) and clients (sync, async) of this version the tests
pass. This page is generated from a run of the tests by `python scripts/robustness_table.py`; a test fails if it is out
of date.
"""

SECTIONS = {
    "Streams": "",
    "Responses in other forms": (
        "Servers with OpenAI's API differ in what they send beside the text, and in how they report errors.\n"
        "[What is read leniently](guides/servers.md#what-is-read-leniently) has the rules. For these rows only openai\n"
        "and huggingface_hub were measured.\n"
    ),
    "Decoding Server-Sent Events": (
        "The format is [Server-Sent Events](https://html.spec.whatwg.org/multipage/server-sent-events.html). Of 27\n"
        "test cases written from the specification, mistralai decodes 24 correctly, httpx2 22, httpx-sse and cohere\n"
        "21, openai and anthropic 20, huggingface_hub 15, google-genai 8. `hfstream.sse` passes all of its own test\n"
        "cases, for all chunk boundaries; the rows here are mostly tested through the client.\n"
    ),
    "Heads and codings": "",
    "Proxies, certificates and addresses": "",
    "Processes and other programs": "",
}


def import_rows() -> None:
    """Imports all modules that define rows."""
    for path in sorted(TESTS.glob("test_*.py")):
        importlib.import_module(f"tests.peers.{path.stem}")


def page(results: Mapping[Row, Result] | None = None) -> str:
    """The text of the page; without results as it is if all tests pass."""
    parts = [HEAD]
    for section, introduction in SECTIONS.items():
        parts += [f"\n## {section}\n", f"\n{introduction}" * bool(introduction)]
        parts.append("\n| situation | other clients | hfstream | result |\n|---|---|---|---|\n")
        for row in rows(section):
            result = row.expected if results is None else results[row]
            parts.append(f"| {row.happens} | {row.peers} | {row.hfstream} | {result} |\n")
    parts.append("\n## The tests\n\nAll in `tests/peers`.\n\n")
    parts += [f"- {row.happens}: {_names(row)}\n" for section in SECTIONS for row in rows(section)]
    return "".join(parts)


def _names(row: Row) -> str:
    return ", ".join(f"`{name.rpartition('.')[2]}`" for name in row.tests)


class Recorder:
    """A pytest plugin that records the result of each row's tests."""

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
    """Writes the page, also if some tests fail: then the page says so. With ``--check`` compares it only."""
    if "--check" in sys.argv[1:]:
        import_rows()
        if PAGE.read_text(encoding="utf-8") == page():
            return 0
        print(f"{PAGE.relative_to(ROOT)} is out of date: run python scripts/robustness_table.py")
        return 1
    recorder = Recorder()
    code = pytest.main(["-q", "-n", "0", "-m", "row", "-p", "no:randomly", str(TESTS)], [recorder])
    missing = [row.happens for section in SECTIONS for row in rows(section) if row not in recorder.results]
    if missing:
        print("not run:", *missing, sep="\n  ", file=sys.stderr)
        return 1
    PAGE.write_text(page(recorder.results), encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
