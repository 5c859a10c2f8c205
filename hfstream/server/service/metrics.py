"""Metrics in Prometheus' text format, and the request log. Names and labels are TGI's, save those of hfstream's own."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from hfstream.errors import InferenceError

from .errors import ClientDisconnectedError
from .request_record import RequestRecord

logger: logging.Logger = logging.getLogger(__name__)

# TGI's labels of tgi_request_failure where they are not the error_type itself.
_LABELS = {
    "batch size exceeded": "validation",
    "incomplete_generation": "incomplete",
    "suffix not supported": "validation",
    "template_error": "template",
}

SECONDS = tuple(float(f"{0.00015 * 1.5**step:.4g}") for step in range(1, 36))
"""TGI's buckets for durations: from 0.2 ms to 3 minutes."""

TOKENS = tuple(2.0**power for power in range(18))


class Histogram:
    """How often values were at most as large as each of the upper bounds."""

    def __init__(self, name: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def render(self) -> str:
        """The exposition text."""
        lines: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*(f"{bound:g}" for bound in self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            lines.append((f'{self._name}_bucket{{le="{bound}"}}', total))
        lines += [(f"{self._name}_sum", self._sum), (f"{self._name}_count", total)]
        return _family(self._name, "histogram", lines)


class Metrics:
    """How many requests came, how they ended, and how long they took."""

    def __init__(self) -> None:
        self._requests = 0
        self._successes = 0
        self._failures: Counter[str] = Counter()
        self._duration = Histogram("tgi_request_duration", SECONDS)
        self._validation = Histogram("tgi_request_validation_duration", SECONDS)
        self._inference = Histogram("tgi_request_inference_duration", SECONDS)
        self._per_token = Histogram("tgi_request_mean_time_per_token_duration", SECONDS)
        self._input_length = Histogram("tgi_request_input_length", TOKENS)
        self._generated = Histogram("tgi_request_generated_tokens", TOKENS)
        self._max_new_tokens = Histogram("tgi_request_max_new_tokens", TOKENS)
        self._first_token = Histogram("hfstream_time_to_first_token_seconds", SECONDS)
        self._inter_token = Histogram("hfstream_inter_token_latency_seconds", SECONDS)

    @contextmanager
    def counted(self, record: RequestRecord) -> Generator[None, None, None]:
        """Counts one request and logs it, by the error that leaves the block, if any, how it ended."""
        self._requests += 1
        outcome = "error"
        try:
            yield
            self._succeed(record)
            outcome = record.finish_reason or "success"
        except InferenceError as error:
            outcome = error.error_type or "unknown"
            self._failures[_LABELS.get(outcome, outcome)] += 1
            raise
        except ClientDisconnectedError:
            outcome = "dropped"
            self._failures[outcome] += 1
            raise
        finally:
            report(record, outcome)

    def _succeed(self, record: RequestRecord) -> None:
        """As in TGI, the times of requests that failed are not observed."""
        self._successes += 1
        now = time.perf_counter()
        if record.validated is None or record.first_token is None:
            return
        self._duration.observe(now - record.received)
        self._validation.observe(record.validated - record.received)
        self._inference.observe(now - record.validated)
        self._per_token.observe((now - record.validated) / record.generated_tokens)
        self._input_length.observe(record.prompt_tokens)
        self._generated.observe(record.generated_tokens)
        self._max_new_tokens.observe(record.max_new_tokens)
        self._first_token.observe(record.first_token - record.received)
        for gap in record.gaps:
            self._inter_token.observe(gap)

    def render(self, *, batch: int, queue: int, permits: int) -> str:
        """The exposition text: counters, histograms, and three gauges that the caller reads at this time.

        `permits` is reported beside TGI's two gauges because a paced response can hold its permit after the engine has
        finished with it.
        """
        failures = [(f'tgi_request_failure{{err="{label}"}}', count) for label, count in sorted(self._failures.items())]
        histograms = [value for value in vars(self).values() if isinstance(value, Histogram)]
        return "".join(
            [
                _family("tgi_request_count", "counter", [("tgi_request_count", self._requests)]),
                _family("tgi_request_success", "counter", [("tgi_request_success", self._successes)]),
                _family("tgi_request_failure", "counter", failures),
                _family("tgi_batch_current_size", "gauge", [("tgi_batch_current_size", batch)]),
                _family("tgi_queue_size", "gauge", [("tgi_queue_size", queue)]),
                _family("hfstream_permits_taken", "gauge", [("hfstream_permits_taken", permits)]),
                *(histogram.render() for histogram in histograms),
            ]
        )


def report(record: RequestRecord, outcome: str) -> None:
    """Logs the one line of a request that has ended, and makes its span where OpenTelemetry is installed."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s", record.describe(outcome))
    if _make_span is not None:
        _make_span(record, outcome)


def _span_maker() -> Callable[[RequestRecord, str], None] | None:
    """None where OpenTelemetry is not installed."""
    try:
        from .spans import make_span  # noqa: PLC0415
    except ModuleNotFoundError:
        return None
    return make_span


_make_span = _span_maker()


def _family(name: str, kind: str, samples: Sequence[tuple[str, float]]) -> str:
    return f"# TYPE {name} {kind}\n" + "".join(f"{sample} {value}\n" for sample, value in samples)
