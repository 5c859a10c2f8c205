"""Spans and metrics of OpenTelemetry, as the SDK's in-memory exporters get them. On both variants of the client."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import tenacity
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from hfstream import OverloadedError, RetryPolicy, ValidationError
from hfstream.otel import OpenTelemetry
from hfstream.testing import Fault, Response, ScriptedServer, chat_events, token_events
from tests.helpers.exchanges import numbered
from tests.helpers.variants import HI, Clients, Variant

SECRET = "the secret of cheese"
STREAM = token_events("Milk", ",", SECRET, finish_reason="eos_token")
OVERLOADED = Response.error(429, "Model is overloaded", "overloaded")
REFUSED = Response.error(400, f"invalid: {SECRET}", "validation")
AT_ONCE = RetryPolicy(attempts=2, wait=tenacity.wait_none())


class Telemetry:
    """The SDK, with exporters in memory."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._metrics = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider([self._metrics])

    def observer(self, **options: Any) -> OpenTelemetry:
        return OpenTelemetry(tracer_provider=self.tracers, meter_provider=self.meters, **options)

    @property
    def span(self) -> ReadableSpan:
        """The only span."""
        [span] = self._spans.get_finished_spans()
        return span

    @property
    def attributes(self) -> dict[str, Any]:
        return dict(self.span.attributes or {})

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        return [(event.name.removeprefix("hfstream."), dict(event.attributes or {})) for event in self.span.events]

    def metrics(self) -> dict[str, list[HistogramDataPoint]]:
        data = self._metrics.get_metrics_data()
        assert data is not None
        found: dict[str, list[HistogramDataPoint]] = {}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            found[metric.name] = [point for point in metric.data.data_points if isinstance(point, HistogramDataPoint)]
        return found


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    telemetry.tracers.shutdown()
    telemetry.meters.shutdown()


async def test_a_stream_of_text(variant: Variant, clients: Clients, telemetry: Telemetry) -> None:
    with ScriptedServer(Response(STREAM)) as server:
        client = clients(server.url, observers=[telemetry.observer()])
        stream = await variant.open(client, "Hi", max_new_tokens=20, temperature=0.5, stop=["."], seed=3)
        assert "".join(await variant.rest(stream)) == f"Milk,{SECRET}"
        [request] = server.requests
        port = int(server.url.rpartition(":")[2])
    span = telemetry.span
    assert (span.name, span.kind) == ("text_completion", trace.SpanKind.CLIENT)
    assert span.status.status_code is trace.StatusCode.UNSET
    first_chunk = telemetry.attributes["gen_ai.response.time_to_first_chunk"]
    assert first_chunk > 0
    assert telemetry.attributes == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "tgi",
        "server.address": "127.0.0.1",
        "server.port": port,
        "gen_ai.request.max_tokens": 20,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.stop_sequences": (".",),
        "gen_ai.request.seed": 3,
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ("eos_token",),
        "gen_ai.response.time_to_first_chunk": first_chunk,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 4,
        "hfstream.attempts": 1,
    }
    assert telemetry.events == [("attempt", {"hfstream.attempt.number": 1, "hfstream.attempt.delay": 0.0})]
    context = span.get_span_context()
    assert context is not None
    assert request.headers["traceparent"].split("-")[1:3] == [f"{context.trace_id:032x}", f"{context.span_id:016x}"]
    assert SECRET not in span.to_json()


async def test_metrics_of_a_stream(variant: Variant, clients: Clients, telemetry: Telemetry) -> None:
    with ScriptedServer(Response([STREAM[0], 0.01, *STREAM[1:]])) as server:
        client = clients(server.url, observers=[telemetry.observer(chunk_times=True, provider_name="mine")])
        await variant.rest(await variant.open(client))
        port = int(server.url.rpartition(":")[2])
    metrics = telemetry.metrics()
    common = {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "mine",
        "server.address": "127.0.0.1",
        "server.port": port,
    }
    tokens = metrics.pop("gen_ai.client.token.usage")
    assert [(dict(point.attributes or {}), point.sum) for point in tokens] == [
        ({**common, "gen_ai.token.type": "input"}, 7),
        ({**common, "gen_ai.token.type": "output"}, 4),
    ]
    assert tokens[0].explicit_bounds[:3] == (1, 4, 16)
    assert {name: point.count for name, [point] in metrics.items()} == {
        "gen_ai.client.operation.duration": 1,
        "gen_ai.client.operation.time_to_first_chunk": 1,
        "gen_ai.client.operation.time_per_output_chunk": 3,
        "hfstream.client.operation.time_per_output_token": 1,
    }
    for [point] in metrics.values():
        assert point.attributes == common
        assert point.explicit_bounds[:2] == (0.01, 0.02)
        assert point.sum > 0
    chunks = metrics["gen_ai.client.operation.time_per_output_chunk"][0]
    mean = metrics["hfstream.client.operation.time_per_output_token"][0]
    assert chunks.sum == pytest.approx(3 * mean.sum, rel=0.1)


async def test_a_chat_that_is_not_streamed(variant: Variant, clients: Clients, telemetry: Telemetry) -> None:
    body = {
        "id": "chatcmpl-1",
        "model": "m-1",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": SECRET}, "finish_reason": "stop"},
            {"index": 1, "message": {"role": "assistant", "content": SECRET}, "finish_reason": "length"},
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14},
    }
    with ScriptedServer(Response.json(body)) as server:
        client = clients(server.url, observers=[telemetry.observer()])
        await variant.chat(client, model="m", n=2, max_tokens=9, response_format={"type": "json_object"})
    assert telemetry.span.name == "chat m"
    attributes = telemetry.attributes
    assert {name: attributes[name] for name in attributes if not name.startswith("server.")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.choice.count": 2,
        "gen_ai.output.type": "json",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "m-1",
        "gen_ai.response.finish_reasons": ("stop", "length"),
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 9,
        "hfstream.attempts": 1,
    }
    assert sorted(telemetry.metrics()) == ["gen_ai.client.operation.duration", "gen_ai.client.token.usage"]
    assert SECRET not in telemetry.span.to_json()


async def test_a_call_that_is_retried_is_one_span(variant: Variant, clients: Clients, telemetry: Telemetry) -> None:
    with ScriptedServer(OVERLOADED, Response(chat_events("Hello", " you"))) as server:
        client = clients(server.url, retry=AT_ONCE, observers=[telemetry.observer()])
        await variant.rest(await variant.open_chat(client))
        assert len({request.headers["traceparent"] for request in server.requests}) == 1
    assert telemetry.events == [
        ("attempt", {"hfstream.attempt.number": 1, "hfstream.attempt.delay": 0.0}),
        (
            "attempt_failed",
            {"hfstream.attempt.number": 1, "error.type": "OverloadedError", "http.response.status_code": 429},
        ),
        ("attempt", {"hfstream.attempt.number": 2, "hfstream.attempt.delay": 0.0}),
    ]
    assert telemetry.attributes["hfstream.attempts"] == 2
    assert "error.type" not in telemetry.attributes


async def test_a_call_that_fails(variant: Variant, clients: Clients, telemetry: Telemetry) -> None:
    with ScriptedServer(OVERLOADED, OVERLOADED) as server:
        client = clients(server.url, retry=AT_ONCE, observers=[telemetry.observer()])
        with pytest.raises(OverloadedError):
            await variant.open(client)
    assert [name for name, _ in telemetry.events] == ["attempt", "attempt_failed"] * 2
    assert telemetry.span.status.status_code is trace.StatusCode.ERROR
    assert telemetry.span.status.description is None
    assert telemetry.attributes["error.type"] == "OverloadedError"
    [duration] = telemetry.metrics()["gen_ai.client.operation.duration"]
    assert (duration.attributes or {})["error.type"] == "OverloadedError"


async def test_an_error_is_quoted_only_if_content_is_captured(
    variant: Variant, clients: Clients, telemetry: Telemetry
) -> None:
    for capture, quoted in ((False, False), (True, True)):
        telemetry._spans.clear()
        with ScriptedServer(REFUSED) as server:
            client = clients(server.url, observers=[telemetry.observer(capture_content=capture)])
            with pytest.raises(ValidationError):
                await variant.whole(client)
        assert (SECRET in telemetry.span.to_json()) is quoted


async def test_a_stream_that_is_closed_early(variant: Variant, clients: Clients, telemetry: Telemetry) -> None:
    with ScriptedServer(Response([*STREAM[:2], Fault.STALL])) as server:
        client = clients(server.url, observers=[telemetry.observer()])
        stream = await variant.open(client)
        await variant.next(stream)
        await variant.close(stream)
    attributes = telemetry.attributes
    assert attributes["hfstream.incomplete"] is True
    assert attributes["gen_ai.usage.output_tokens"] in (1, 2)
    assert "gen_ai.response.finish_reasons" not in attributes
    assert telemetry.span.status.status_code is trace.StatusCode.UNSET


async def test_a_stream_that_is_resumed(variant: Variant, clients: Clients, telemetry: Telemetry) -> None:
    first, *rest = numbered(STREAM)
    with ScriptedServer(Response([first, Fault.RESET]), Response(rest)) as server:
        client = clients(server.url, retry=AT_ONCE, resume=True, observers=[telemetry.observer()])
        await variant.rest(await variant.open(client))
    assert telemetry.attributes["hfstream.resumed"] == 1
    assert telemetry.attributes["gen_ai.usage.output_tokens"] == 4
    assert [name for name, _ in telemetry.events] == ["attempt", "attempt_failed", "attempt"]


async def test_the_span_is_the_child_of_the_callers(variant: Variant, clients: Clients, telemetry: Telemetry) -> None:
    with ScriptedServer(Response(STREAM)) as server:
        client = clients(server.url, observers=[telemetry.observer()])
        with telemetry.tracers.get_tracer("test").start_as_current_span("caller") as caller:
            await variant.rest(await variant.open(client))
    child, parent = telemetry._spans.get_finished_spans()
    assert parent.name == "caller"
    assert child.parent == caller.get_span_context()


@pytest.mark.parametrize(
    ("setting", "captured"),
    [(None, False), ("false", False), ("event_only", False), ("True", True), ("SPAN_ONLY", True)],
)
async def test_content_is_captured_only_if_it_is_asked_for(
    variant: Variant,
    clients: Clients,
    telemetry: Telemetry,
    monkeypatch: pytest.MonkeyPatch,
    setting: str | None,
    captured: bool,
) -> None:
    if setting is not None:
        monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", setting)
    with ScriptedServer(Response(chat_events("Hello", " you"))) as server:
        await variant.rest(await variant.open_chat(clients(server.url, observers=[telemetry.observer()])))
    attributes = telemetry.attributes
    assert ("gen_ai.input.messages" in attributes) is captured
    if captured:
        part = {"type": "text", "content": HI[0]["content"]}
        assert json.loads(attributes["gen_ai.input.messages"]) == [{"role": "user", "parts": [part]}]
        part = {"type": "text", "content": "Hello you"}
        assert json.loads(attributes["gen_ai.output.messages"]) == [
            {"role": "assistant", "parts": [part], "finish_reason": "stop"}
        ]


async def test_a_span_that_is_not_sampled_records_nothing_and_is_sent_on(
    variant: Variant, clients: Clients, telemetry: Telemetry
) -> None:
    telemetry.tracers.sampler = ALWAYS_OFF
    with ScriptedServer(Response(STREAM)) as server:
        await variant.rest(
            await variant.open(clients(server.url, observers=[telemetry.observer(capture_content=True)]))
        )
        assert int(server.requests[0].headers["traceparent"].rpartition("-")[2], 16) & 1 == 0
    assert telemetry._spans.get_finished_spans() == ()
    assert "gen_ai.client.operation.duration" in telemetry.metrics()


async def test_without_an_sdk_a_call_goes_on_as_before(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(STREAM)) as server:
        client = pickle.loads(pickle.dumps(variant.client(server.url, observers=[OpenTelemetry()])))
        clients.made.append(client)
        assert "".join(await variant.rest(await variant.open(client))) == f"Milk,{SECRET}"
        assert "traceparent" not in server.requests[0].headers


@pytest.mark.slow
def test_without_the_package_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; import hfstream; import hfstream.otel"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(
        "hfstream.otel needs OpenTelemetry's API: pip install 'hfstream[otel]'"
    )
