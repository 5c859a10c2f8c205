"""Draws the life of an exchange from its table of transitions.

python scripts/exchange_diagram.py            writes docs/images/exchange.svg and the table of the page
python scripts/exchange_diagram.py --check    exits with 1 if one of them is out of date
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from hfstream.core.exchange_states import FINAL_STATES, TRANSITIONS, Event, State

ROOT = Path(__file__).parent.parent
IMAGE = ROOT / "docs" / "images" / "exchange.svg"
PAGE = ROOT / "docs" / "design" / "architecture.md"
BEGIN, END = "<!-- exchange-states -->", "<!-- /exchange-states -->"

WIDTH, HEIGHT = 980, 430
BOX_WIDTH, BOX_HEIGHT = 116, 40

PLACES: dict[State, tuple[int, int]] = {
    State.WAITING: (90, 170),
    State.SENDING: (340, 170),
    State.RECEIVING: (600, 170),
    State.STREAMING: (870, 170),
    State.PROBING: (215, 300),
    State.COMPLETE: (870, 390),
    State.CLOSED: (470, 390),
}
"""The middle of each state's box."""

BENDS: dict[tuple[State, State], float] = {
    (State.SENDING, State.WAITING): 46,
    (State.RECEIVING, State.WAITING): 84,
    (State.STREAMING, State.WAITING): 150,
    (State.PROBING, State.WAITING): -24,
    (State.SENDING, State.PROBING): -24,
    (State.WAITING, State.CLOSED): 110,
    (State.SENDING, State.COMPLETE): 30,
}
"""How far the middle of an arrow lies beside the straight line, to the right of its direction; else 0."""


def edges() -> dict[tuple[State, State], list[Event]]:
    """The arrows, each with the events that it stands for."""
    found: dict[tuple[State, State], list[Event]] = {}
    for state, events in TRANSITIONS.items():
        for event, following in events.items():
            found.setdefault((state, following), []).append(event)
    return found


def border(state: State, toward: tuple[float, float]) -> tuple[float, float]:
    """Where a line from the middle of a box toward a point leaves the box."""
    x, y = PLACES[state]
    dx, dy = toward[0] - x, toward[1] - y
    scale = min(
        (BOX_WIDTH / 2 + 4) / abs(dx) if dx else math.inf,
        (BOX_HEIGHT / 2 + 4) / abs(dy) if dy else math.inf,
    )
    return x + dx * scale, y + dy * scale


def arrow(source: State, target: State, events: list[Event]) -> str:
    """One arrow, curved by its bend, with the names of its events."""
    (x1, y1), (x2, y2) = PLACES[source], PLACES[target]
    length = math.hypot(x2 - x1, y2 - y1)
    bend = 2 * BENDS.get((source, target), 0.0)
    control = ((x1 + x2) / 2 - (y2 - y1) / length * bend, (y1 + y2) / 2 + (x2 - x1) / length * bend)
    (x1, y1), (x2, y2) = border(source, control), border(target, control)
    x, y = (x1 + 2 * control[0] + x2) / 4, (y1 + 2 * control[1] + y2) / 4
    failure = events == [Event.FAILURE]
    curve = f"M{x1:.0f} {y1:.0f} Q{control[0]:.0f} {control[1]:.0f} {x2:.0f} {y2:.0f}"
    path = f'<path class="{"failure" if failure else "arrow"}" d="{curve}"/>'
    if failure:  # the dashed lines all mean the same
        return path
    return (
        path + f'\n<text class="event" x="{x:.0f}" y="{y - 5:.0f}">{", ".join(event.value for event in events)}</text>'
    )


def box(state: State) -> str:
    """One state."""
    x, y = PLACES[state]
    kind = "final" if state in FINAL_STATES else "state"
    left, top = x - BOX_WIDTH // 2, y - BOX_HEIGHT // 2
    return (
        f'<rect class="{kind}" x="{left}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>\n'
        f'<text class="name" x="{x}" y="{y + 5}">{state.name}</text>'
    )


STYLE = """
rect { fill: #ffffff; stroke: #3f51b5; stroke-width: 1.5 }
rect.final { stroke-width: 3 }
path { fill: none; stroke: #546e7a; stroke-width: 1.3; marker-end: url(#head) }
path.failure { stroke-dasharray: 4 4; stroke: #b0746e }
text { font: 13px sans-serif; text-anchor: middle; fill: #263238 }
text.event { font-size: 12px; paint-order: stroke; stroke: #ffffff; stroke-width: 4px }
"""


def svg() -> str:
    """The diagram."""
    parts = [arrow(*pair, events) for pair, events in edges().items()] + [box(state) for state in PLACES]
    head = '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n'
        "<title>The states of an exchange. Dashed: a failure ends it.</title>\n"
        f"<style>{STYLE}</style>\n"
        f'<defs>{head}<path d="M0 0 L10 5 L0 10 z" style="fill:#546e7a;stroke:none"/></marker></defs>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" style="fill:#ffffff;stroke:none"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def table() -> str:
    """The same as a table: a row for each state, a column for each event."""
    used = [event for event in Event if any(event in events for events in TRANSITIONS.values())]
    lines = ["| in state | " + " | ".join(event.value for event in used) + " |", "|---" * (len(used) + 1) + "|"]
    for state, events in TRANSITIONS.items():
        if events:
            cells = [events[event].name if event in events else "" for event in used]
            lines.append(f"| {state.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page `text` with the diagram and the table of today between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n![The states of an exchange](../images/exchange.svg)\n\n{table()}\n\n{END}{after}"


def main() -> int:
    """Writes both files; with ``--check`` compares them only."""
    written = {IMAGE: svg(), PAGE: page(PAGE.read_text(encoding="utf-8"))}
    if "--check" in sys.argv[1:]:
        stale = [
            path for path, text in written.items() if not path.is_file() or path.read_text(encoding="utf-8") != text
        ]
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: run python scripts/exchange_diagram.py")
        return bool(stale)
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
