"""The span of a request, beside the client's: one trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hfstream import InferenceClient
from hfstream.otel import OpenTelemetry
from hfstream.server import BackgroundServer, Settings
from hfstream.server.service.request_record import RequestRecord
from hfstream.server.service.spans import make_span
from tests.helpers.scripted_engine import ScriptedEngine, endless, eventually


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[TracerProvider]:
    """In place of the global one, which can be set only once in a process."""
    provider = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield provider
    provider.shutdown()


@pytest.fixture
def exporter(provider: TracerProvider) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


def test_a_call_is_one_trace_in_client_and_server(
    model: Path, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    engine = ScriptedEngine(endless, interval=0.001)
    with BackgroundServer(Settings(model=str(model)), engine=engine) as server:
        observer = OpenTelemetry(tracer_provider=provider)
        with InferenceClient(server.url, observers=[observer]) as client:
            client.text_generation("Hi", max_new_tokens=3, stream=True).final()
        assert eventually(lambda: len(exporter.get_finished_spans()) == 2)
    in_server, in_client = sorted(exporter.get_finished_spans(), key=lambda span: span.kind.value)
    assert (in_server.kind, in_server.name) == (trace.SpanKind.SERVER, "POST /generate_stream")
    assert in_server.parent is not None
    assert (in_server.parent.trace_id, in_server.parent.span_id) == (_context(in_client))
    attributes = dict(in_server.attributes or {})
    assert attributes.pop("hfstream.request.id")
    first_token = attributes.pop("hfstream.time_to_first_token")
    assert isinstance(first_token, float)
    assert first_token > 0
    assert attributes == {
        "hfstream.outcome": "length",
        "gen_ai.usage.input_tokens": 2,
        "gen_ai.usage.output_tokens": 3,
    }
    assert in_server.start_time is not None
    assert in_server.end_time is not None
    assert in_server.end_time - in_server.start_time >= first_token * 1e9


def _context(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("overloaded", trace.StatusCode.UNSET),
        ("dropped", trace.StatusCode.UNSET),
        ("refused (422)", trace.StatusCode.UNSET),
        ("generation", trace.StatusCode.ERROR),
        ("error", trace.StatusCode.ERROR),
    ],
)
def test_only_the_servers_own_faults_are_errors(
    exporter: InMemorySpanExporter, outcome: str, status: trace.StatusCode
) -> None:
    make_span(RequestRecord("POST /generate"), outcome)
    [span] = exporter.get_finished_spans()
    assert span.parent is None
    assert span.status.status_code is status
    assert (span.attributes or {})["hfstream.outcome"] == outcome
    assert ((span.attributes or {}).get("error.type") == outcome) is (status is trace.StatusCode.ERROR)
