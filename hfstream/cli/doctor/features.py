"""What else works at a server whose stream works: tools, JSON, tokenize, refusals, and that closing frees a slot.

Each check sends one request, or two, and adds what it finds to the report.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import BadRequestError, InferenceError, ValidationError
from .findings import Finding, Mend, Report, Severity
from .pacing import Pacing
from .prober import Recorded
from .questions import LONG_STREAM_TOKENS, Questions
from .servers import running_requests
from .streaming import SendStream
from .words import duration, quote

__all__ = ["check_closing", "check_json", "check_key", "check_refusal", "check_tokenize", "check_tools"]

SETTLE_SECONDS = 0.3
"""How long a server has to notice that a client is gone: TGI and vLLM notice between two tokens."""

SHORTEST_CLOSED = 1.0
"""Seconds that a closed stream would have lasted, so that a request that waits for it is noticed."""

STOP_AT_CLOSE = (
    Mend("nginx, in the location that passes requests to the model server", "proxy_ignore_client_abort off;"),
)
"""A server stops when it notices; a proxy may keep it from noticing."""


def check_closing(report: Report, questions: Questions, send: SendStream, pacing: Pacing) -> None:
    """Closes a stream after its first token, and looks whether the server has stopped.

    `pacing` is that of a stream that was read to its end.
    """

    def has_token(recorded: Recorded) -> bool:
        return bool(recorded.arrivals)

    closed = send(LONG_STREAM_TOKENS, until=has_token)
    if not closed.closed_early or not closed.works:
        report.add([_closing(Severity.NOTE, "Whether closing a stream frees its slot is not known", _why(closed))])
        return
    seen: list[tuple[str, float]] = []
    for wait in (SETTLE_SECONDS, 2 * SETTLE_SECONDS):
        time.sleep(min(wait, questions.prober.remaining))
        metrics = questions.prober.get("/metrics")
        gauge = running_requests(metrics.result) if metrics.works and isinstance(metrics.result, bytes) else None
        if gauge is None:
            report.add([_time_next(send(1), pacing)])
            return
        seen.append(gauge)
        if gauge[1] == 0:
            break
    report.add([_read_gauge(seen)])


def _read_gauge(seen: Sequence[tuple[str, float]]) -> Finding:
    values = ", then ".join(f"{name} {running:g}" for name, running in seen)
    evidence = f"after a stream was closed at its first token, /metrics said {values}"
    running = seen[-1][1]
    if running == 0:
        return _closing(Severity.OK, "Closing a stream frees its slot", evidence)
    if running > 1:
        summary = "Whether closing a stream frees its slot is not known: the server serves others"
        return _closing(Severity.NOTE, summary, evidence)
    summary = "A closed stream goes on: the server generates for a client that is gone (or for another one)"
    return _closing(Severity.WARNING, summary, evidence, mend=STOP_AT_CLOSE)


def _time_next(following: Recorded, pacing: Pacing) -> Finding:
    """Of a server without a gauge: whether the next request has to wait for the stream that was closed."""
    gap = (pacing.last - pacing.first) / max(1, pacing.tokens - 1)
    closed_lasts = gap * LONG_STREAM_TOKENS
    evidence = "the server has no /metrics that say how many requests run"
    if not following.arrivals or closed_lasts < SHORTEST_CLOSED:
        return _closing(Severity.NOTE, "Whether closing a stream frees its slot is not known", evidence)
    waited = following.arrivals[0]
    evidence += (
        f"; the next request, sent when a stream of {duration(closed_lasts)} had been closed at its first token, was "
        f"answered after {duration(waited)}"
    )
    if waited < pacing.first + closed_lasts / 2:
        return _closing(Severity.OK, "A closed stream does not hold up the next request", evidence)
    summary = "A closed stream goes on, and holds up the next request"
    return _closing(Severity.WARNING, summary, evidence, mend=STOP_AT_CLOSE)


def _closing(severity: Severity, summary: str, evidence: str, *, mend: tuple[Mend, ...] = ()) -> Finding:
    return Finding("closing", severity, summary, (evidence,), mend)


def check_refusal(report: Report, questions: Questions) -> None:
    """Sends an invalid value: is it refused, and in words that a program can read?"""
    refused = questions.send_invalid()
    error = refused.error
    what = 'temperature "hot"'
    if error is None:
        report.add(
            [
                Finding(
                    "refusal", Severity.NOTE, f"The server takes invalid values: {what} is no error", (_why(refused),)
                )
            ]
        )
    elif isinstance(error, BadRequestError | ValidationError):
        summary = f"An invalid value is refused with HTTP {refused.status}"
        report.add([Finding("refusal", Severity.OK, summary, (f"{what}: {quote(error.message)}",))])
    else:
        summary = f"An invalid value is not refused as such (422 or 400): HTTP {refused.status or 'nothing'}"
        evidence = (f"{what}: {quote(error.message)}", "a client cannot tell this from a failure that passes by itself")
        report.add([Finding("refusal", Severity.NOTE, summary, evidence)])


def check_key(report: Report, questions: Questions) -> None:
    """Sends a request without the API key: is it refused?"""
    refused = questions.send_without_key()
    if refused.works:
        summary, severity = "The server takes requests without an API key, although one was given", Severity.NOTE
    elif refused.status in (401, 403):
        summary, severity = f"Without the API key the server refuses: HTTP {refused.status}", Severity.OK
    else:
        summary, severity = f"Without the API key: HTTP {refused.status or 'nothing'}, and not 401", Severity.NOTE
    report.add([Finding("key", severity, summary, (_why(refused),))])


def check_tools(report: Report, questions: Questions) -> None:
    """Asks for a tool call."""

    def has_call(result: Any) -> bool:
        return bool(result.choices[0].message.tool_calls)

    _check(report, "tools", "a tool call", questions.call_tool(), has_call)


def check_json(report: Report, questions: Questions) -> None:
    """Asks for JSON of a schema."""

    def is_object(result: Any) -> bool:
        text = str(result.choices[0].message.content or "").strip()
        try:
            return isinstance(json.loads(text), dict)
        except ValueError:
            # Cut off at the limit of tokens, it is still one object from its first character on.
            return result.choices[0].finish_reason == "length" and text.startswith("{")

    _check(report, "json", "JSON of a schema", questions.ask_json(), is_object)


def check_tokenize(report: Report, questions: Questions) -> None:
    """Asks for the tokens of a text."""
    _check(report, "tokenize", "the tokens of a text", questions.tokenize(), bool)


def _check(report: Report, name: str, what: str, recorded: Recorded, fits: Callable[[Any], bool]) -> None:
    """One thing that works or not."""
    try:
        works = recorded.works and fits(recorded.result)
    except (AttributeError, IndexError, TypeError):  # of an answer without a choice
        works = False
    report.works[name] = works
    if not works:
        reason = _why(recorded) if recorded.error else f"instead it answers {quote(_shown(recorded))}"
        report.add([Finding(name, Severity.NOTE, f"The server does not give {what}", (reason,))])


def _shown(recorded: Recorded) -> str:
    return recorded.body[:300].decode("utf-8", "replace")


def _why(recorded: Recorded) -> str:
    error: InferenceError | None = recorded.error
    if error is None:
        return f"HTTP {recorded.status}, complete after {duration(recorded.ended_at)}"
    return f"HTTP {recorded.status or 'nothing'}: {quote(error.message)}"
