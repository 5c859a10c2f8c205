"""Counters and gauges in Prometheus' text format. Names and labels are TGI's, save those that begin with hfstream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from hfstream.errors import InferenceError

from .errors import ClientDisconnectedError

# TGI's labels of tgi_request_failure where they are not the error_type itself.
_LABELS = {
    "batch size exceeded": "validation",
    "incomplete_generation": "incomplete",
    "suffix not supported": "validation",
    "template_error": "template",
}


class Metrics:
    """How many requests came, and how they ended."""

    def __init__(self) -> None:
        self._requests = 0
        self._successes = 0
        self._failures: Counter[str] = Counter()

    @contextmanager
    def counted(self) -> Generator[None, None, None]:
        """Count one request, and by the error that leaves the block, if any, how it ended."""
        self._requests += 1
        try:
            yield
        except InferenceError as error:
            error_type = error.error_type or "unknown"
            self._failures[_LABELS.get(error_type, error_type)] += 1
            raise
        except ClientDisconnectedError:
            self._failures["dropped"] += 1
            raise
        self._successes += 1

    def render(self, *, batch: int, queue: int, permits: int) -> str:
        """The exposition text: the counters, and three gauges that the caller reads at this time.

        `permits` is reported beside TGI's two gauges because a paced response can hold its permit after the engine has
        finished with it.
        """
        failures = [(f'tgi_request_failure{{err="{label}"}}', count) for label, count in sorted(self._failures.items())]
        return "".join(
            [
                _family("tgi_request_count", "counter", [("tgi_request_count", self._requests)]),
                _family("tgi_request_success", "counter", [("tgi_request_success", self._successes)]),
                _family("tgi_request_failure", "counter", failures),
                _family("tgi_batch_current_size", "gauge", [("tgi_batch_current_size", batch)]),
                _family("tgi_queue_size", "gauge", [("tgi_queue_size", queue)]),
                _family("hfstream_permits_taken", "gauge", [("hfstream_permits_taken", permits)]),
            ]
        )


def _family(name: str, kind: str, samples: list[tuple[str, int]]) -> str:
    return f"# TYPE {name} {kind}\n" + "".join(f"{sample} {value}\n" for sample, value in samples)
