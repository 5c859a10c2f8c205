"""Overload beyond one machine, simulated: many clients and servers, with the client's own code for retries.

    python -m tests.stress.simulation [--seed 1] [--write]

Seeded discrete events; no clock, no network. Requests arrive at random at servers that run a number of them at once and
refuse the rest, as the reference server and TGI do. Every refusal is handled by a `RetryState` and its client's
`RetryPacer`, as in a call, and each policy gets the same arrivals. Reports tables; with ``--write`` those in
docs/design/overload.md and the pictures beside it are replaced.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

import tenacity

from hfstream import OverloadedError, RetryPolicy
from hfstream.core.retry import RetryPacer, RetryState
from tests.stress.pages import replace_tables

__all__ = ["POLICIES", "Result", "simulate"]

DOCS = Path(__file__).parents[2] / "docs"

SERVERS = 4
ROWS = 16
"""Requests that a server runs at once."""
PERMITS = 32
"""Requests that it accepts: twice as many as it runs, so that a row never waits for the network."""
SERVICE = 2.0
"""Seconds of a response, on average (exponential)."""
REFUSAL = 0.004
"""Seconds of a row that a refusal costs its server: reading the request, and the response."""
CAPACITY = SERVERS * ROWS / SERVICE
"""Responses per second, if nothing is refused."""
CLIENTS = 50
"""Processes with a client each; their calls share its pacer."""
TIME_LIMIT = 30.0
"""Seconds after which a caller gives up."""
DURATION = 60.0
"""Seconds in which requests arrive."""
LOADS = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)


class _StopAfter(tenacity.stop.stop_base):
    """tenacity's ``stop=`` after so many seconds of the simulation."""

    def __init__(self, simulation: Simulation, until: float) -> None:
        self._simulation, self._until = simulation, until

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        return self._simulation.now >= self._until


def _ours(stop: _StopAfter) -> RetryPolicy:
    return RetryPolicy(stop=stop)


def _fixed(stop: _StopAfter) -> RetryPolicy:
    return RetryPolicy(stop=stop, wait=tenacity.wait_fixed(0.25))


def _exponential(stop: _StopAfter) -> RetryPolicy:
    return RetryPolicy(stop=stop, wait=tenacity.wait_exponential(multiplier=0.5, max=10))


def _none(stop: _StopAfter) -> RetryPolicy:
    return RetryPolicy(attempts=1)


POLICIES: dict[str, Callable[[_StopAfter], RetryPolicy]] = {
    "no retries": _none,
    "a fixed wait of 0.25 s": _fixed,
    "exponential, without jitter": _exponential,
    "hfstream": _ours,
}


@dataclass
class Result:
    """What came of one run."""

    arrived: int = 0
    answered: int = 0
    refused: int = 0
    """Attempts that a server refused."""
    first_tokens: list[float] = field(default_factory=list)
    """Seconds from a call to its first token, for those that were answered."""
    busiest: int = 0
    """Attempts in the busiest tenth of a second."""

    def percentile(self, percent: int) -> float:
        ordered = sorted(self.first_tokens) or [math.nan]
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


class _Server:
    def __init__(self) -> None:
        self.accepted = 0
        self.free_at = [0.0] * ROWS
        """When each row is free, as a heap."""
        self.down_until = 0.0

    def accept(self, now: float, seconds: float) -> tuple[float, float] | None:
        """When the response begins and ends; None if it is refused."""
        if now < self.down_until:
            return None
        if self.accepted >= PERMITS:
            heapq.heapreplace(self.free_at, max(now, self.free_at[0]) + REFUSAL)
            return None
        self.accepted += 1
        begins = max(now, self.free_at[0])
        heapq.heapreplace(self.free_at, begins + seconds)
        return begins, begins + seconds


class Simulation:
    """Events in the order of their times."""

    def __init__(self, policy: Callable[[_StopAfter], RetryPolicy], seed: int, *, down: float) -> None:
        self.now = 0.0
        self.result = Result()
        self._policy = policy
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._random = random.Random(seed)  # the same arrivals for each policy
        self._servers = [_Server() for _ in range(SERVERS)]
        for server in self._servers:
            server.down_until = down
        self._pacers = [RetryPacer() for _ in range(CLIENTS)]
        self._attempts: dict[int, int] = {}
        random.seed(seed)  # the product's own jitter

    def run(self, load: float) -> Result:
        rate, at = load * CAPACITY, 0.0
        while (at := at + self._random.expovariate(rate)) < DURATION:
            self._at(at, self._call(self._random.expovariate(1 / SERVICE), self._random.randrange(CLIENTS)))
        while self._events:
            self.now, _, act = heapq.heappop(self._events)
            act()
        self.result.busiest = max(self._attempts.values(), default=0)
        return self.result

    def _at(self, time: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), act))

    def _call(self, seconds: float, client: int) -> Callable[[], None]:
        def begin() -> None:
            self.result.arrived += 1
            began = self.now
            state = RetryState(self._policy(_StopAfter(self, began + TIME_LIMIT)), self._pacers[client])
            attempt(state, began, retried=False)

        def attempt(state: RetryState, began: float, *, retried: bool) -> None:
            tenth = int(self.now * 10)
            self._attempts[tenth] = self._attempts.get(tenth, 0) + 1
            server = self._random.choice(self._servers)
            times = server.accept(self.now, seconds)
            if times is None:
                self.result.refused += 1
                delay = state.next_delay(
                    OverloadedError("busy", retry_after=1.0), now=self.now, latest=began + TIME_LIMIT
                )
                if delay is not None:
                    self._at(self.now + delay, lambda: attempt(state, began, retried=True))
                return
            if retried:
                state.record_success()
            self._at(times[1], lambda: end(server, times[0] - began))

        def end(server: _Server, first_token: float) -> None:
            server.accepted -= 1
            self.result.answered += 1
            self.result.first_tokens.append(first_token)

        return begin


def simulate(policy: str, load: float, *, seed: int, down: float = 0.0) -> Result:
    """One run: a policy's name, arrivals as a multiple of the capacity; `down`: seconds until the servers are there."""
    return Simulation(POLICIES[policy], seed, down=down).run(load)


# Tables and pictures --------------------------------------------------------------------------------------------------

Measure = Callable[[Result], float]

PANELS: dict[str, Measure] = {
    "answered, % of all calls": lambda result: 100 * result.answered / result.arrived,
    "refused attempts per answer": lambda result: result.refused / max(1, result.answered),
    "time to first token, p99, s": lambda result: result.percentile(99),
}


def load_table(results: dict[str, dict[float, Result]]) -> str:
    lines = ["| arrivals, times capacity | policy | answered | refused attempts per answer | first token p50, p99 |"]
    lines.append("|---|---|---|---|---|")
    for load in LOADS:
        for name, by_load in results.items():
            result = by_load[load]
            lines.append(
                f"| {load:g} | {name} | {100 * result.answered / result.arrived:.0f} % | "
                f"{result.refused / max(1, result.answered):.1f} | "
                f"{result.percentile(50):.1f} s, {result.percentile(99):.1f} s |"
            )
    return "\n".join(lines)


def outage_table(results: dict[str, Result]) -> str:
    lines = ["| policy | answered | refused attempts | most attempts in 0.1 s |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {100 * result.answered / result.arrived:.0f} % | {result.refused:,} | {result.busiest} |"
        for name, result in results.items()
    ]
    return "\n".join(lines)


COLOURS = {
    "light": {"text": "#24292f", "grid": "#d0d7de", "lines": ("#8c959f", "#cf222e", "#bf8700", "#2a7f3f")},
    "dark": {"text": "#e6edf3", "grid": "#30363d", "lines": ("#6e7681", "#ff7b72", "#e3b341", "#56d364")},
}
WIDTH, HEIGHT, LEFT, TOP, GAP = 250, 150, 44, 56, 60


def plot(results: dict[str, dict[float, Result]], scheme: str) -> str:
    """A panel for each measure, with a line for each policy, as SVG with a transparent background."""
    colours = COLOURS[scheme]
    width = LEFT + len(PANELS) * (WIDTH + GAP)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + HEIGHT + 44}" role="img" '
        f'aria-label="Overload, simulated" font-family="system-ui, sans-serif" font-size="12" fill="{colours["text"]}">'
    )
    parts = [head]
    for number, (name, colour) in enumerate(zip(results, colours["lines"], strict=True)):
        x = LEFT + number * 200
        parts.append(f'<line x1="{x}" x2="{x + 20}" y1="12" y2="12" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 26}" y="16">{escape(name)}</text>')
    for number, (title, measure) in enumerate(PANELS.items()):
        left = LEFT + number * (WIDTH + GAP)
        most = max(measure(result) for by_load in results.values() for result in by_load.values())
        parts.append(f'<text x="{left}" y="{TOP - 12}">{escape(title)}</text>')
        for share in (0.0, 0.5, 1.0):
            height = TOP + HEIGHT * (1 - share)
            parts.append(
                f'<line x1="{left}" x2="{left + WIDTH}" y1="{height}" y2="{height}" stroke="{colours["grid"]}"/>'
            )
            parts.append(f'<text x="{left - 6}" y="{height + 4}" text-anchor="end">{most * share:.0f}</text>')
        for times in (1, 2, 3, 4, 5):
            at = left + WIDTH * times / LOADS[-1]
            parts.append(f'<text x="{at}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{times}</text>')
        for by_load, colour in zip(results.values(), colours["lines"], strict=True):
            points = " ".join(
                f"{left + WIDTH * load / LOADS[-1]:.1f},{TOP + HEIGHT * (1 - measure(result) / most):.1f}"
                for load, result in by_load.items()
            )
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 36}" text-anchor="middle">times capacity</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="replace the tables and pictures of the documentation")
    arguments = parser.parse_args()
    results = {name: {load: simulate(name, load, seed=arguments.seed) for load in LOADS} for name in POLICIES}
    outage = {name: simulate(name, 0.8, seed=arguments.seed, down=20.0) for name in POLICIES}
    tables = {"load": load_table(results), "outage": outage_table(outage)}
    for name, table in tables.items():
        print(f"\n{name}:\n\n{table}")
    if arguments.write:
        replace_tables(DOCS / "design" / "overload.md", tables)
        for scheme in COLOURS:
            (DOCS / "images" / f"overload-{scheme}.svg").write_text(plot(results, scheme), "utf-8")


if __name__ == "__main__":
    main()
