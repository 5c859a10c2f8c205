"""All that the page of comparison shows, measured in one run; ``nox -s bench`` pins the versions of the other clients.

    python tests/stress/bench.py [--rounds 3] [--streams 100 400 1000] [--write]

Bulk and one send per event (`cost`), paced streams (`paced`), and what importing a client and making one takes. Prints
Markdown; with ``--write`` the tables of docs/comparison.md and the pictures beside it are replaced.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from tests.stress import cost, paced
from tests.stress.pages import replace_tables

DOCS = Path(__file__).parents[2] / "docs"

SHOWN = ("bulk", "one send per event", "400 streams", "start-up")
"""The tables of the page."""

START_UPS = {
    "Python alone": "pass",
    "hfstream": "from hfstream import InferenceClient; InferenceClient('http://127.0.0.1:1')",
    "huggingface_hub": "from huggingface_hub import InferenceClient; InferenceClient('http://127.0.0.1:1')",
    "openai": "from openai import OpenAI; OpenAI(base_url='http://127.0.0.1:1', api_key='none')",
}


def start_ups(rounds: int) -> dict[str, float]:
    """Milliseconds of CPU of a process that imports a client and makes one, the best of so many rounds."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, code in START_UPS.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", code], check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            best[name] = min(best.get(name, float("inf")), spent * 1000)
    return best


def start_up_table(milliseconds: dict[str, float]) -> str:
    ours = milliseconds["hfstream"]
    rows = [f"| {name} | {spent:.0f} | {spent / ours:.2f} |" for name, spent in milliseconds.items()]
    return "\n".join(["| | CPU, ms | times hfstream's |", "|---|---|---|", *rows])


# The picture ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """Bars beneath a title: names and values, hfstream's own among them."""

    title: str
    bars: dict[str, float]


COLOURS = {
    "light": {"text": "#24292f", "ours": "#2a7f3f", "others": "#8c959f"},
    "dark": {"text": "#e6edf3", "ours": "#56d364", "others": "#6e7681"},
}
WIDTH, LABEL, BAR, GAP = 360, 170, 18, 28
"""Pixels: a panel's bars, the room for names, the height of a bar with the space below, the space between panels."""


def plot(panels: list[Panel], scheme: str) -> str:
    """The panels below each other, as SVG with a transparent background."""
    colours = COLOURS[scheme]
    parts: list[str] = []
    top = 20
    for panel in panels:
        parts.append(f'<text x="0" y="{top}" font-weight="600">{escape(panel.title)}</text>')
        longest = max(panel.bars.values())
        for name, value in panel.bars.items():
            top += BAR
            colour = colours["ours" if name.startswith("hfstream") else "others"]
            length = max(1.0, WIDTH * value / longest)
            parts += [
                f'<text x="{LABEL - 8}" y="{top + 10}" text-anchor="end">{escape(name)}</text>',
                f'<rect x="{LABEL}" y="{top}" width="{length:.1f}" height="{BAR - 6}" fill="{colour}"/>',
                f'<text x="{LABEL + length + 6:.1f}" y="{top + 10}">{value:.1f}</text>',
            ]
        top += BAR + GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LABEL + WIDTH + 60} {top - GAP + 12}" role="img" '
        f'aria-label="{escape("; ".join(panel.title for panel in panels))}" font-family="system-ui, sans-serif" '
        f'font-size="12" fill="{colours["text"]}">'
    )
    return "\n".join([head, *parts, "</svg>", ""])


def panels(bulk: cost.Costs, many: dict[tuple[str, str], paced.Cost] | None, start_up: dict[str, float]) -> list[Panel]:
    def bars(variant: str, column: str) -> dict[str, float]:
        return {_short(name): spent for (name, its, kind), spent in bulk.items() if (its, kind) == (variant, column)}

    found = [
        Panel("Chat, one stream: microseconds of CPU per token", bars("sync", "chat")),
        Panel("Text, one stream: microseconds of CPU per token", bars("sync", "text")),
    ]
    if many:
        named = {f"{LABELS.get(name, name)}, {kind}": each.cpu for (name, kind), each in many.items()}
        found.append(Panel("400 streams, 10 tokens a second each: microseconds of CPU per token", named))
    return [*found, Panel("Importing and making a client: milliseconds of CPU", start_up)]


LABELS = {"asyncio_streams": "asyncio's streams", "bare_httpx": "httpx"}


def _short(name: str) -> str:
    name = re.sub(r" [\d.]+$", "", name)
    return "socket" if name.startswith("socket") else name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=20_000, help="of one stream in bulk")
    parser.add_argument("--streams", type=int, nargs="*", default=[100, 400, 1000], help="at once, paced")
    parser.add_argument("--seconds", type=float, default=10.0, help="that paced streams last")
    parser.add_argument("--write", action="store_true", help="replace the tables and pictures of the documentation")
    arguments = parser.parse_args()
    tables = {"start-up": start_up_table(start_up := start_ups(4 * arguments.rounds))}
    bulk = cost.run(arguments.tokens, arguments.rounds)
    tables["bulk"] = cost.table(bulk)
    one_by_one = cost.run(arguments.tokens, arguments.rounds, one_send_per_event=True)
    tables["one send per event"] = cost.table(one_by_one)
    many: dict[int, dict[tuple[str, str], paced.Cost]] = {}
    for streams in arguments.streams:
        many[streams] = paced.run(streams, rate=10.0, seconds=arguments.seconds, rounds=max(1, arguments.rounds - 1))
        tables[f"{streams} streams"] = paced.table(many[streams])
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors, the best of {arguments.rounds} rounds")
    for name, table in tables.items():
        print(f"\n{name}:\n\n{table}")
    if arguments.write:
        replace_tables(DOCS / "comparison.md", {name: tables[name] for name in SHOWN})
        for scheme in COLOURS:
            picture = plot(panels(bulk, many.get(400), start_up), scheme)
            (DOCS / "images" / f"benchmark-{scheme}.svg").write_text(picture, "utf-8")


if __name__ == "__main__":
    main()
