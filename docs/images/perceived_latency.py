# ruff: noqa: E501, T201  lines of the SVG are long; the program prints its figures
"""Measures when tokens can be read, and draws it: 1,000 tokens at 100 per second, with and without streaming.

python docs/images/perceived_latency.py        runs the reference server and writes perceived-latency.svg next to this file
"""

from __future__ import annotations

import time
from pathlib import Path

from hfstream import InferenceClient
from hfstream.server import BackgroundServer, Settings

TOKENS, PACE, SEED = 1_000, 100.0, 4
QUESTION = "How do you make cheese?"
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 720, 320, 60, 40, 50


def measure() -> tuple[list[float], float]:
    """Seconds until each token of a stream arrived, and until the complete response without streaming arrived."""
    # A very high temperature, so that the model does not end its output: only the times matter, not the text.
    options = {"max_new_tokens": TOKENS, "temperature": 50.0, "seed": SEED}
    with BackgroundServer(Settings(tokens_per_second=PACE)) as server:
        client = InferenceClient(server.url)
        started = time.monotonic()
        stream = client.text_generation(QUESTION, stream=True, details=True, **options)
        arrivals = [time.monotonic() - started for _ in stream]
        started = time.monotonic()
        client.text_generation(QUESTION, details=True, **options)
        return arrivals, time.monotonic() - started


def draw(arrivals: list[float], complete: float) -> str:
    """An SVG with two lines: the number of tokens that can be read over time, with and without streaming."""
    seconds = max(complete, arrivals[-1]) * 1.05

    def x(second: float) -> float:
        return LEFT + second / seconds * (WIDTH - LEFT - 20)

    def y(tokens: float) -> float:
        return HEIGHT - BOTTOM - tokens / len(arrivals) * (HEIGHT - BOTTOM - TOP)

    step = max(1, len(arrivals) // 100)
    streamed = " ".join(f"{x(at):.1f},{y(count + 1):.1f}" for count, at in list(enumerate(arrivals))[::step])
    waited = f"{x(0):.1f},{y(0):.1f} {x(complete):.1f},{y(0):.1f} {x(complete):.1f},{y(len(arrivals)):.1f}"
    ticks = "".join(
        f'<text x="{x(at):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{at} s</text>'
        for at in range(0, int(seconds) + 1, 2)
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif"
 font-size="13" fill="#888"><title>Text that can be read, over time: with and without streaming</title>
<line x1="{LEFT}" y1="{y(0):.1f}" x2="{WIDTH - 20}" y2="{y(0):.1f}" stroke="#999"/>
<line x1="{LEFT}" y1="{y(0):.1f}" x2="{LEFT}" y2="{TOP}" stroke="#999"/>
{ticks}
<text x="{LEFT}" y="{TOP - 16}">tokens that can be read, of {len(arrivals)}</text>
<polyline points="{streamed}" fill="none" stroke="#2a7f3f" stroke-width="3"/>
<polyline points="{waited}" fill="none" stroke="#b5482a" stroke-width="3"/>
<text x="{x(seconds * 0.06):.1f}" y="{y(len(arrivals) * 0.6):.1f}" fill="#2a7f3f">streaming: first token after {arrivals[0]:.2f} s</text>
<text x="{x(complete) - 8:.1f}" y="{y(len(arrivals) * 0.06):.1f}" fill="#b5482a" text-anchor="end">no streaming: first token after {complete:.1f} s</text>
</svg>
"""


if __name__ == "__main__":
    times, complete_time = measure()
    print(
        f"{len(times)} tokens: the first after {times[0]:.3f} s, the last after {times[-1]:.2f} s; without streaming {complete_time:.2f} s"
    )
    Path(__file__).with_name("perceived-latency.svg").write_text(draw(times, complete_time), encoding="utf-8")
