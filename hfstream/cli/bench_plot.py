"""The figures of `hfstream bench` as an SVG picture: throughput and latencies over concurrency, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

__all__ = ["plot"]

_WIDTH, _HEIGHT = 300, 190
_LEFT, _TOP, _GAP = 56, 56, 46
"""Pixels: the size of a panel, and the room beside it, above it and between two."""

_PANELS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("tokens a second", (("output_throughput", "all streams"),)),
    ("time to first token, ms", (("median_ttft_ms", "p50"), ("p95_ttft_ms", "p95"), ("p99_ttft_ms", "p99"))),
    ("inter-token latency, ms", (("median_itl_ms", "p50"), ("p95_itl_ms", "p95"), ("p99_itl_ms", "p99"))),
)

_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f } .title { font-size: 14px; font-weight: 600 }
.paper { fill: #ffffff } .grid { stroke: #d0d7de } .line { fill: none; stroke-width: 2 } .end { text-anchor: end }
.middle { text-anchor: middle } .s0 { stroke: #0969da } .s1 { stroke: #bf8700 } .s2 { stroke: #cf222e }
circle { stroke-width: 2; fill: #ffffff }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .paper, circle { fill: #0d1117 } .grid { stroke: #30363d }
.s0 { stroke: #58a6ff } .s1 { stroke: #e3b341 } .s2 { stroke: #ff7b72 } }
"""


def plot(results: dict[str, Any]) -> str:
    """The picture of what `bench_results.report` returns."""
    width = _LEFT + len(_PANELS) * (_WIDTH + _GAP)
    height = _TOP + _HEIGHT + 60
    title = escape(f"hfstream bench {results['url']}: {results['api']}, up to {results['max_tokens']} tokens")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">',
        f'<style>{_STYLE}</style><rect class="paper" width="{width}" height="{height}"/>',
        f'<text class="title" x="{_LEFT}" y="22">{title}</text>',
    ]
    levels = sorted(results["levels"], key=lambda level: level["max_concurrency"])
    for number, (name, series) in enumerate(_PANELS):
        parts += _panel(_LEFT + number * (_WIDTH + _GAP), name, series, levels)
    return "\n".join([*parts, "</svg>", ""])


def _panel(left: int, name: str, series: Sequence[tuple[str, str]], levels: Sequence[dict[str, Any]]) -> list[str]:
    top = _ceiling(max((level[key] for level in levels for key, _ in series), default=0.0))
    bottom = _TOP + _HEIGHT

    def x(place: int) -> float:
        return left + _WIDTH * (place + 0.5) / len(levels)

    def y(value: float) -> float:
        return bottom - _HEIGHT * value / top

    parts = [f'<text x="{left}" y="{_TOP - 12}">{name}</text>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = y(top * share)
        parts.append(f'<line class="grid" x1="{left}" x2="{left + _WIDTH}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="end" x="{left - 6}" y="{at + 4:.1f}">{top * share:g}</text>')
    for place, level in enumerate(levels):
        parts.append(f'<text class="middle" x="{x(place):.1f}" y="{bottom + 18}">{level["max_concurrency"]}</text>')
    parts.append(f'<text class="middle" x="{left + _WIDTH / 2}" y="{bottom + 38}">requests at a time</text>')
    for number, (key, label) in enumerate(series):
        points = [(x(place), y(level[key])) for place, level in enumerate(levels)]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(f'<polyline class="line s{number}" points="{line}"/>')
        parts += [f'<circle class="s{number}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in points]
        at = left + _WIDTH - 44 * (len(series) - number)
        if len(series) > 1:
            parts.append(f'<line class="line s{number}" x1="{at}" x2="{at + 14}" y1="{_TOP - 16}" y2="{_TOP - 16}"/>')
            parts.append(f'<text x="{at + 18}" y="{_TOP - 12}">{label}</text>')
    return parts


def _ceiling(value: float) -> float:
    """The next of 1, 2, 4, 6, 8 or 10 times a power of ten: a quarter of each is a short number."""
    scale = 1e-6
    while scale * 10 < value:
        scale *= 10
    return next((scale * step for step in (1, 2, 4, 6, 8) if scale * step >= value), scale * 10)
