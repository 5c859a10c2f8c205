"""OpenTelemetry: a span for a request, made when it has ended. Does not depend on the SDK, only on the API.

Nothing is exported unless an SDK is configured: ``opentelemetry-instrument hfstream serve``, or in your own program.
"""

from __future__ import annotations

import time

from opentelemetry import propagate, trace

from .request_record import RequestRecord

_FAULTS = ("error", "generation", "incomplete_generation", "unknown")
"""Outcomes that are the server's errors; other failures are the client's."""


def make_span(record: RequestRecord, outcome: str) -> None:
    """The span of a request, in the client's trace if the request has told which."""
    now, ended = time.perf_counter(), time.time_ns()
    span = trace.get_tracer("hfstream.server").start_span(
        record.route,
        propagate.extract(record.trace_context),
        trace.SpanKind.SERVER,
        start_time=ended - int((now - record.received) * 1e9),
    )
    if span.is_recording():
        span.set_attributes({"hfstream.request.id": record.id, "hfstream.outcome": str(outcome)})
        if record.validated is not None:
            span.set_attribute("gen_ai.usage.input_tokens", record.prompt_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", record.generated_tokens)
        if record.first_token is not None:
            span.set_attribute("hfstream.time_to_first_token", record.first_token - record.received)
        if outcome in _FAULTS:
            span.set_attribute("error.type", outcome)
            span.set_status(trace.StatusCode.ERROR)
    span.end(ended)
