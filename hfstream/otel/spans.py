"""The observer that makes a span and records metrics. Does not depend on OpenTelemetry's SDK, only on its API.

What is recorded of a request and a response is in `attributes` and `content`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

try:
    from opentelemetry import metrics, propagate, trace
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        "hfstream.otel needs OpenTelemetry's API: pip install 'hfstream[otel]'", name=_error.name
    ) from _error

from ..core.attempts import Attempt
from ..core.observers import Call, CallObserver
from ..version import __version__
from .attributes import identity, request_attributes, response_attributes, response_identity, span_name, token_counts
from .content import input_messages, output_messages

__all__ = ["OpenTelemetry"]

CAPTURE_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(4**power for power in range(14))
"""The boundaries of the buckets that the conventions ask for."""


class OpenTelemetry:
    """Records the calls of a client: ``InferenceClient(url, observers=[OpenTelemetry()])``.

    One span for each call, however many attempts it takes, with an event for each attempt; metrics of its duration, its
    tokens, the time to the first and the mean time per output token; and the trace context is sent with each request.

    Args:
        tracer_provider: makes the spans. None: the global one.
        meter_provider: makes the metrics. None: the global one.
        provider_name: the attribute `gen_ai.provider.name`. None: by the host of the URL; for hosts that are not known
            "openai" where the request is OpenAI's, else "tgi".
        capture_content: whether spans contain messages, texts and the messages of errors, which may quote them. None:
            if the environment variable OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT is "true", "span_only" or
            "span_and_event".
        chunk_times: also record the time of each single chunk of a stream, as the metric
            gen_ai.client.operation.time_per_output_chunk. That takes some microseconds for each chunk, after the last.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        provider_name: str | None = None,
        capture_content: bool | None = None,
        chunk_times: bool = False,
    ) -> None:
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        if capture_content is None:
            capture_content = os.environ.get(CAPTURE_CONTENT, "").lower() in ("true", "span_only", "span_and_event")
        self._options = _Options(provider_name, capture_content, chunk_times)

    def __call__(self, call: Call) -> CallObserver:
        """The observer of one call."""
        return _CallSpan(call, self._options, self._tracer, self._instruments)

    @cached_property
    def _tracer(self) -> trace.Tracer:
        return trace.get_tracer("hfstream", __version__, self._tracer_provider)

    @cached_property
    def _instruments(self) -> _Instruments:
        return _Instruments(metrics.get_meter("hfstream", __version__, self._meter_provider))

    def __getstate__(self) -> dict[str, Any]:
        # A client can be pickled: tracer and instruments, which cannot, are made again.
        return {name: value for name, value in vars(self).items() if name not in ("_tracer", "_instruments")}


@dataclass(frozen=True)
class _Options:
    provider_name: str | None
    capture_content: bool
    chunk_times: bool


class _Instruments:
    """The conventions' metrics of a client."""

    def __init__(self, meter: metrics.Meter) -> None:
        def histogram(name: str, unit: str, buckets: tuple[float, ...], description: str) -> metrics.Histogram:
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=buckets)

        operation = "gen_ai.client.operation"
        self.duration = histogram(f"{operation}.duration", "s", _SECONDS, "GenAI operation duration.")
        self.first_chunk = histogram(
            f"{operation}.time_to_first_chunk", "s", _SECONDS, "Time to receive the first chunk of a stream."
        )
        self.per_token = histogram(
            "hfstream.client.operation.time_per_output_token",
            "s",
            _SECONDS,
            "Mean time per output token of a stream, after the first one.",
        )
        self.per_chunk = histogram(
            f"{operation}.time_per_output_chunk", "s", _SECONDS, "Time from one chunk of a stream to the next."
        )
        self.tokens = histogram("gen_ai.client.token.usage", "{token}", _TOKENS, "Input and output tokens used.")


class _CallSpan(CallObserver):
    """The span of one call, and its metrics."""

    def __init__(self, call: Call, options: _Options, tracer: trace.Tracer, instruments: _Instruments) -> None:
        super().__init__(call)
        self._options = options
        self._instruments = instruments
        self._identity = identity(call, options.provider_name)
        """The attributes that the span and all metrics have."""
        self._started = time.monotonic()
        self._time_to_first_chunk: float | None = None
        self._span = tracer.start_span(span_name(call), kind=trace.SpanKind.CLIENT, attributes=self._identity)
        self._context = trace.set_span_in_context(self._span)
        if self._span.is_recording():
            self._span.set_attributes(request_attributes(call))
            if options.capture_content:
                self._span.set_attribute("gen_ai.input.messages", input_messages(call))

    def on_request(self, attempt: Attempt) -> Mapping[str, str]:
        attributes = {"hfstream.attempt.number": attempt.number, "hfstream.attempt.delay": attempt.delay}
        self._span.add_event("hfstream.attempt", attributes)
        headers: dict[str, str] = {}
        propagate.inject(headers, self._context)
        return headers

    def on_first_token(self) -> None:
        self._time_to_first_chunk = time.monotonic() - self._started

    def on_attempt_failed(self, attempt: Attempt, delay: float | None) -> None:
        attributes: dict[str, str | int] = {
            "hfstream.attempt.number": attempt.number,
            "error.type": type(attempt.error).__name__,
        }
        if attempt.status_code is not None:
            attributes["http.response.status_code"] = attempt.status_code
        if self._options.capture_content:
            attributes["hfstream.attempt.error"] = str(attempt.error)
        self._span.add_event("hfstream.attempt_failed", attributes)

    def on_end(self, error: BaseException | None) -> None:
        try:
            self._record_metrics(error)
            if self._span.is_recording():
                self._describe_end(error)
        finally:
            self._span.end()

    def _describe_end(self, error: BaseException | None) -> None:
        self._span.set_attributes(response_attributes(self.call))
        if self._time_to_first_chunk is not None:
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", self._time_to_first_chunk)
        if error is not None:
            self._span.set_attribute("error.type", type(error).__name__)
            description = str(error) if self._options.capture_content else None
            self._span.set_status(trace.Status(trace.StatusCode.ERROR, description))
        if self._options.capture_content:
            self._span.set_attribute("gen_ai.output.messages", output_messages(self.call))

    def _record_metrics(self, error: BaseException | None) -> None:
        call, instruments = self.call, self._instruments
        attributes = {**self._identity, **response_identity(call)}
        for token_type, count in token_counts(call).items():
            typed = {**attributes, "gen_ai.token.type": token_type}
            instruments.tokens.record(count, typed, self._context)
        if self._time_to_first_chunk is not None:
            instruments.first_chunk.record(self._time_to_first_chunk, attributes, self._context)
        if call.streamed and call.metrics.tokens_per_second:
            instruments.per_token.record(1 / call.metrics.tokens_per_second, attributes, self._context)
        if call.streamed and self._options.chunk_times:
            # At the end, from the stream's own histogram: a token costs no more while the stream is read.
            for seconds, count in call.metrics.gaps():
                for _ in range(count):
                    instruments.per_chunk.record(seconds, attributes, self._context)
        if error is not None:
            attributes["error.type"] = type(error).__name__
        instruments.duration.record(time.monotonic() - self._started, attributes, self._context)
