# ruff: noqa: E501, S101, T201  lines of the SVG are long; the program prints what it has drawn
"""Draws the trace of one call that is refused once, as OpenTelemetry's SDK gets it from the client and the server.

python docs/images/trace.py        runs the reference server and writes trace.svg next to this file
"""

from __future__ import annotations

import threading
from html import escape
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hfstream import InferenceClient
from hfstream.otel import OpenTelemetry
from hfstream.server import BackgroundServer, Settings

QUESTION = [{"role": "user", "content": "How do you make cheese?"}]
USAGE = {"include_usage": True}
WIDTH, LEFT, RIGHT, TOP, ROW = 880, 275, 20, 30, 40
COLOURS = {trace.SpanKind.INTERNAL: "#7a7a7a", trace.SpanKind.CLIENT: "#2a7f3f", trace.SpanKind.SERVER: "#2f6fb5"}


def record() -> list[ReadableSpan]:
    """The spans of one call to a server that is busy at first."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    with BackgroundServer(Settings(tokens_per_second=30, max_concurrent_requests=1)) as server:
        client = InferenceClient(server.url, observers=[OpenTelemetry()])
        InferenceClient(server.url).chat_completion(QUESTION, max_tokens=2)  # what is done once is not in the picture
        other = InferenceClient(server.url).chat_completion(QUESTION, max_tokens=1000, stream=True)
        threading.Timer(0.3, other.close).start()
        with trace.get_tracer("my-app").start_as_current_span("answer a question"):
            client.chat_completion(QUESTION, model="bundled", max_tokens=40, stream=True, stream_options=USAGE).final()
    spans = exporter.get_finished_spans()
    [caller] = [span for span in spans if span.name == "answer a question"]
    assert caller.context is not None
    own = [span for span in spans if span.context is not None and span.context.trace_id == caller.context.trace_id]
    return sorted(own, key=lambda span: span.start_time or 0)


def draw(spans: list[ReadableSpan]) -> str:
    """A bar for each span, a mark for each event, and the attributes of the client's span."""
    begin = min(span.start_time or 0 for span in spans)
    seconds = (max(span.end_time or 0 for span in spans) - begin) / 1e9

    def x(nanoseconds: int) -> float:
        return LEFT + (nanoseconds - begin) / 1e9 / seconds * (WIDTH - LEFT - RIGHT)

    parts: list[str] = []
    for number, span in enumerate(spans):
        y = TOP + number * ROW
        start, end = x(span.start_time or 0), x(span.end_time or 0)
        outcome = (span.attributes or {}).get("hfstream.outcome")
        label = f"{span.name}, {outcome}" if outcome else span.name
        indent = 0 if span.parent is None else 14 if span.kind is trace.SpanKind.CLIENT else 28
        parts.append(f'<text x="{indent}" y="{y + 16}">{escape(label)}</text>')
        parts.append(
            f'<rect x="{start:.1f}" y="{y + 4}" width="{max(2.0, end - start):.1f}" height="16" rx="3" fill="{COLOURS[span.kind]}"/>'
        )
        for event in span.events:
            at, failed = x(event.timestamp), event.name.endswith("failed")
            parts.append(
                f'<path d="M{at:.1f} {y + 1} v22" stroke="{"#c8452a" if failed else "#e0a52e"}" stroke-width="3"><title>{event.name}</title></path>'
            )
        if span.kind is trace.SpanKind.CLIENT:
            first = (span.attributes or {})["gen_ai.response.time_to_first_chunk"]
            assert isinstance(first, float)
            at = x((span.start_time or 0) + int(first * 1e9))
            parts.append(f'<circle cx="{at:.1f}" cy="{y + 12}" r="5" fill="#fff" stroke="#2a7f3f" stroke-width="2"/>')
    bottom = TOP + len(spans) * ROW
    for half in range(int(seconds * 2) + 1):
        at = x(begin + half * 500_000_000)
        parts.append(f'<path d="M{at:.1f} {TOP - 6} V{bottom}" stroke="#999" stroke-opacity=".35"/>')
        parts.append(f'<text x="{at:.1f}" y="{TOP - 12}" text-anchor="middle">{half / 2} s</text>')
    legend = (("#e0a52e", "hfstream.attempt"), ("#c8452a", "hfstream.attempt_failed"))
    for number, (colour, name) in enumerate(legend):
        parts.append(f'<path d="M{LEFT + number * 170} {bottom + 4} v16" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{LEFT + number * 170 + 8}" y="{bottom + 17}">{name}</text>')
    parts.append(f'<circle cx="{LEFT + 352}" cy="{bottom + 12}" r="5" fill="#fff" stroke="#2a7f3f" stroke-width="2"/>')
    parts.append(f'<text x="{LEFT + 363}" y="{bottom + 17}">first chunk</text>')
    [client] = [span for span in spans if span.kind is trace.SpanKind.CLIENT]
    y = bottom + 48
    for name, value in sorted((client.attributes or {}).items()):
        shown = f"{value:.3f}" if isinstance(value, float) else ", ".join(value) if isinstance(value, tuple) else value  # type: ignore[arg-type]
        parts.append(
            f'<text x="14" y="{y}" fill="#2a7f3f">{name}</text><text x="{LEFT + 40}" y="{y}">{escape(str(shown))}</text>'
        )
        y += 19
    body = "\n".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img" font-family="sans-serif"
 font-size="13" fill="#888"><title>The trace of one call: refused once, then streamed</title>
{body}
</svg>
"""


if __name__ == "__main__":
    found = record()
    (Path(__file__).parent / "trace.svg").write_text(draw(found), encoding="utf-8")
    for each in found:
        print(each.name, dict(each.attributes or {}))
