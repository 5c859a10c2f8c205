"""What `hfstream bench` has measured, as a table and as JSON with the names of vLLM's benchmark.

Does not depend on how requests are sent.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Level", "percentile", "report", "table"]


@dataclass
class Level:
    """The measurements at one concurrency. All times are in seconds."""

    concurrency: int
    ttft: list[float] = field(default_factory=list[float])
    """Time to first token, of each request that was answered in full."""
    itl: list[float] = field(default_factory=list[float])
    """Inter-token latency: between any two tokens of those requests that follow each other."""
    tpot: list[float] = field(default_factory=list[float])
    """Time per output token of each such request, without its first one."""
    e2el: list[float] = field(default_factory=list[float])
    """End-to-end latency, of each such request."""
    tokens: int = 0
    """Received, also of requests that failed later."""
    overloaded: int = 0
    """How many of the failures were refusals because of overload."""
    errors: Counter[str] = field(default_factory=Counter[str])
    began: float = field(default_factory=time.perf_counter)
    ended: float | None = None

    def add(self, began: float, times: Sequence[float]) -> None:
        """Takes a request that was sent at `began`, and whose tokens came at `times`."""
        if not times:
            self.errors["the answer has no tokens"] += 1
            return
        self.ttft.append(times[0] - began)
        self.itl += [later - earlier for earlier, later in itertools.pairwise(times)]
        self.e2el.append(times[-1] - began)
        if len(times) > 1:
            self.tpot.append((times[-1] - times[0]) / (len(times) - 1))

    def add_failure(self, error: Exception, *, overloaded: bool) -> None:
        """Takes a request that failed."""
        self.overloaded += overloaded
        self.errors[f"{type(error).__name__}: {error}"] += 1

    def end(self) -> None:
        """Stops the clock; again, it has no effect."""
        if self.ended is None:
            self.ended = time.perf_counter()

    @property
    def duration(self) -> float:
        """Seconds since the level began, until its end."""
        return max((self.ended or time.perf_counter()) - self.began, 1e-9)

    @property
    def failed(self) -> int:
        """Requests that were not answered in full."""
        return self.errors.total()

    @property
    def tokens_per_second(self) -> float:
        """Of all requests together."""
        return self.tokens / self.duration


def percentile(values: Iterable[float], percent: int) -> float:
    """The smallest of `values` that at least `percent` % of them do not exceed; 0 if there are none."""
    ordered = sorted(values)
    return ordered[-(-percent * len(ordered) // 100) - 1] if ordered else 0.0


def report(levels: Iterable[Level], **described: Any) -> dict[str, Any]:
    """All figures; `described` says of what. Throughputs are per second, latencies in milliseconds."""
    return {**described, "levels": [_figures(level) for level in levels]}


def _figures(level: Level) -> dict[str, Any]:
    figures = {
        "max_concurrency": level.concurrency,
        "duration": level.duration,
        "completed": len(level.ttft),
        "failed": level.failed,
        "overloaded": level.overloaded,
        "total_output_tokens": level.tokens,
        "request_throughput": len(level.ttft) / level.duration,
        "output_throughput": level.tokens_per_second,
    }
    for name, values in (("ttft", level.ttft), ("tpot", level.tpot), ("itl", level.itl), ("e2el", level.e2el)):
        figures[f"mean_{name}_ms"] = 1000 * statistics.fmean(values) if values else 0.0
        figures[f"median_{name}_ms"] = 1000 * percentile(values, 50)
        figures[f"p95_{name}_ms"] = 1000 * percentile(values, 95)
        figures[f"p99_{name}_ms"] = 1000 * percentile(values, 99)
    return {**figures, "errors": dict(level.errors)}


def table(levels: Sequence[Level]) -> str:
    """One line for each level, and the failures by message."""
    lines = [
        "             requests    tokens  time to first token, ms  inter-token latency, ms",
        "concurrency  a second  a second     p50     p95     p99      p50     p95     p99  failed",
    ]
    errors: Counter[str] = Counter()
    for level in levels:
        errors += level.errors
        latencies = [[1000 * percentile(values, p) for p in (50, 95, 99)] for values in (level.ttft, level.itl)]
        first, between = ("".join(f"{value:8.1f}" for value in values) for values in latencies)
        rates = f"{len(level.ttft) / level.duration:10.2f}{level.tokens_per_second:10.0f}"
        lines.append(f"{level.concurrency:11}{rates}{first} {between}{level.failed:8}")
    lines += [f"failed: {count} x {message}" for message, count in errors.most_common()]
    return "\n".join(lines) + "\n"
