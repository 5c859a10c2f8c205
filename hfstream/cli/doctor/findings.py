"""What the doctor has found: each finding with its evidence and the lines that mend it.

Does not depend on the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from .words import redact

__all__ = ["EXIT_CODES", "Finding", "Mend", "Report", "Severity"]


class Severity(IntEnum):
    """How bad a finding is; the worst one is the diagnosis."""

    OK = 0
    """It is as it should be."""
    NOTE = 1
    """Worth knowing; nothing has to be changed."""
    WARNING = 2
    """It streams, but something should be changed."""
    ERROR = 3
    """It does not stream, or not at all."""


EXIT_CODES = {Severity.OK: 0, Severity.NOTE: 0, Severity.WARNING: 3, Severity.ERROR: 1}
"""1 is also the exit code of the other commands for an error; 2 stands for invalid options."""


@dataclass(frozen=True)
class Mend:
    """A change that mends something: where it is made, and the exact line."""

    where: str
    line: str


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """The name of the check, such as ``"streaming"``: in the JSON, so that programs can tell findings apart."""
    severity: Severity
    summary: str
    """One sentence."""
    evidence: tuple[str, ...] = ()
    """What was seen, a sentence each."""
    mend: tuple[Mend, ...] = ()


@dataclass
class Report:
    """All findings about one URL."""

    url: str
    """Without user, password and query, which may be secret."""
    findings: list[Finding] = field(default_factory=list[Finding])
    works: dict[str, bool | None] = field(default_factory=dict[str, bool | None])
    """Of each thing that a client may want, whether it works; None: not known."""
    server: dict[str, Any] = field(default_factory=dict[str, Any])
    times: dict[str, float] = field(default_factory=dict[str, float])
    """Figures of the first stream, in seconds."""
    requests: int = 0
    tokens: int = 0
    """How many tokens the requests have asked for, at most."""
    seconds: float = 0.0

    def add(self, findings: Iterable[Finding]) -> None:
        """Adds findings, in the order in which they are shown."""
        self.findings.extend(findings)

    def has(self, check: str) -> bool:
        """Whether there is a finding of this check."""
        return any(finding.check == check for finding in self.findings)

    @property
    def diagnosis(self) -> Finding:
        """The worst finding; of several the first one. If there is nothing to mend, what was found about streaming."""
        worst = max(finding.severity for finding in self.findings)
        if worst < Severity.WARNING:
            streaming = [finding for finding in self.findings if finding.check == "streaming"]
            return (streaming or self.findings)[0]
        return next(finding for finding in self.findings if finding.severity is worst)

    @property
    def exit_code(self) -> int:
        """0: nothing to mend; 3: warnings; 1: errors."""
        return EXIT_CODES[self.diagnosis.severity]

    def without(self, secrets: Sequence[str]) -> Report:
        """The same report, with ``[secret]`` in place of each of the secrets."""

        def clean(text: str) -> str:
            return redact(text, secrets)

        findings = [
            Finding(
                finding.check, finding.severity, clean(finding.summary), tuple(map(clean, finding.evidence)),
                tuple(Mend(clean(mend.where), clean(mend.line)) for mend in finding.mend),
            )
            for finding in self.findings
        ]  # fmt: skip
        server = {name: clean(value) if isinstance(value, str) else value for name, value in self.server.items()}
        return replace(self, url=clean(self.url), findings=findings, server=server)

    def as_json(self) -> dict[str, Any]:
        """The report as a JSON object; the diagnosis is the first of its findings."""
        first = self.diagnosis
        rest = [finding for finding in self.findings if finding is not first]
        return {
            "url": self.url,
            "severity": first.severity.name.lower(),
            "diagnosis": first.summary,
            "findings": [_finding_as_json(finding) for finding in (first, *rest)],
            "works": self.works,
            "server": self.server,
            "times": self.times,
            "requests": self.requests,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
        }


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "severity": finding.severity.name.lower(),
        "summary": finding.summary,
        "evidence": list(finding.evidence),
        "mend": [{"where": mend.where, "line": mend.line} for mend in finding.mend],
    }
