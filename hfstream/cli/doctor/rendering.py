"""The doctor's report as text: the diagnosis in the first line, the evidence and the lines to change below.

Does not depend on what was found.
"""

from __future__ import annotations

import textwrap

from rich.text import Text

from .findings import Finding, Report, Severity
from .words import count, duration

__all__ = ["render"]

_INDENT = 9

_STYLES = {Severity.OK: "green", Severity.NOTE: "cyan", Severity.WARNING: "yellow", Severity.ERROR: "bold red"}

_NAMES = {
    "text": "text generation",
    "tools": "tool calls",
    "json": "JSON of a schema",
}
"""What a thing is called that has another name in the JSON."""


def render(report: Report, width: int) -> Text:
    """The whole report, wrapped to `width` columns; the lines to change are never wrapped."""
    first = report.diagnosis
    text = Text()
    _add(text, first, width)
    rest = [finding for finding in report.findings if finding is not first]
    if rest:
        text.append("\n")
    for finding in rest:
        _add(text, finding, width)
    if report.works:
        text.append("\n")
        _add_works(text, report, width)
    asked = (
        f"{count(report.requests, 'request')}, {count(report.tokens, 'token')} asked for, {duration(report.seconds)}"
    )
    text.append(f"\n{asked}\n", style="dim")
    return text


def _add(text: Text, finding: Finding, width: int) -> None:
    text.append(finding.severity.name.lower().ljust(_INDENT), style=_STYLES[finding.severity])
    lines = _wrap(finding.summary, width - _INDENT)
    text.append(f"\n{' ' * _INDENT}".join(lines) + "\n", style="bold" if finding.severity > Severity.NOTE else "")
    for evidence in finding.evidence:
        indent = " " * (_INDENT + 2)
        text.append("".join(f"{indent}{line}\n" for line in _wrap(evidence, width - len(indent))), style="dim")
    for number, mend in enumerate(finding.mend):
        indent = " " * _INDENT
        text.append(("" if number else "mend").ljust(_INDENT), style="bold green")
        text.append(f"\n{indent}".join(_wrap(f"{mend.where}:", width - _INDENT)) + "\n")
        text.append(f"{indent}    {mend.line}\n", style="bold green")


def _add_works(text: Text, report: Report, width: int) -> None:
    groups = (("works", True), ("lacks", False), ("unknown", None))
    for title, value in groups:
        names = [_NAMES.get(name, name) for name, works in report.works.items() if works is value]
        if names:
            text.append(title.ljust(_INDENT), style="bold")
            text.append(f"\n{' ' * _INDENT}".join(_wrap(", ".join(names), width - _INDENT)) + "\n")


def _wrap(text: str, width: int) -> list[str]:
    """The lines of a text. A URL is not divided, so that it can be copied; what a server has sent, in quotes, is."""
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words='"' in text) or [""]
