"""Counters and gauges in Prometheus' text format."""

from __future__ import annotations

import pytest

from hfstream.errors import InferenceError, OverloadedError, ValidationError
from hfstream.server.service.errors import ClientDisconnectedError
from hfstream.server.service.metrics import Metrics


def samples(metrics: Metrics) -> dict[str, int]:
    lines = metrics.render(batch=2, queue=1, permits=3).splitlines()
    return {name: int(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_the_exposition_text() -> None:
    metrics = Metrics()
    with metrics.counted():
        pass
    with pytest.raises(OverloadedError), metrics.counted():
        raise OverloadedError("Model is overloaded")
    assert metrics.render(batch=2, queue=1, permits=3) == (
        "# TYPE tgi_request_count counter\ntgi_request_count 2\n"
        "# TYPE tgi_request_success counter\ntgi_request_success 1\n"
        '# TYPE tgi_request_failure counter\ntgi_request_failure{err="overloaded"} 1\n'
        "# TYPE tgi_batch_current_size gauge\ntgi_batch_current_size 2\n"
        "# TYPE tgi_queue_size gauge\ntgi_queue_size 1\n"
        "# TYPE hfstream_permits_taken gauge\nhfstream_permits_taken 3\n"
    )


@pytest.mark.parametrize(
    ("error", "label"),
    [
        (OverloadedError("x"), "overloaded"),
        (ValidationError("x"), "validation"),
        (ValidationError("x", error_type="template_error"), "template"),
        (ValidationError("x", error_type="suffix not supported"), "validation"),
        (ValidationError("x", error_type="batch size exceeded"), "validation"),
        (InferenceError("x"), "unknown"),
        (ClientDisconnectedError(), "dropped"),
    ],
)
def test_a_failure_is_counted_under_tgis_label(error: Exception, label: str) -> None:
    metrics = Metrics()
    with pytest.raises(type(error)), metrics.counted():
        raise error
    found = samples(metrics)
    assert found[f'tgi_request_failure{{err="{label}"}}'] == 1
    assert (found["tgi_request_count"], found["tgi_request_success"]) == (1, 0)


def test_another_exception_is_neither_a_success_nor_a_failure() -> None:
    metrics = Metrics()
    with pytest.raises(ZeroDivisionError), metrics.counted():
        raise ZeroDivisionError
    found = samples(metrics)
    assert (found["tgi_request_count"], found["tgi_request_success"]) == (1, 0)
    assert not any(name.startswith("tgi_request_failure") for name in found)
