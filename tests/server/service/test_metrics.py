"""Counters and gauges in Prometheus' text format."""

from __future__ import annotations

import logging
import re

import pytest

from hfstream.errors import InferenceError, OverloadedError, ValidationError
from hfstream.server.service.errors import ClientDisconnectedError
from hfstream.server.service.metrics import Histogram, Metrics
from hfstream.server.service.request_record import RequestRecord


def samples(metrics: Metrics) -> dict[str, float]:
    lines = metrics.render(batch=2, queue=1, permits=3).splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_the_exposition_text() -> None:
    metrics = Metrics()
    with metrics.counted(RequestRecord("POST /generate")):
        pass
    with pytest.raises(OverloadedError), metrics.counted(RequestRecord("POST /generate")):
        raise OverloadedError("Model is overloaded")
    text = metrics.render(batch=2, queue=1, permits=3)
    assert text[: text.index("# TYPE tgi_request_duration")] == (
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
    with pytest.raises(type(error)), metrics.counted(RequestRecord("POST /generate")):
        raise error
    found = samples(metrics)
    assert found[f'tgi_request_failure{{err="{label}"}}'] == 1
    assert (found["tgi_request_count"], found["tgi_request_success"]) == (1, 0)


def test_another_exception_is_neither_a_success_nor_a_failure() -> None:
    metrics = Metrics()
    with pytest.raises(ZeroDivisionError), metrics.counted(RequestRecord("POST /generate")):
        raise ZeroDivisionError
    found = samples(metrics)
    assert (found["tgi_request_count"], found["tgi_request_success"]) == (1, 0)
    assert not any(name.startswith("tgi_request_failure") for name in found)


def finished() -> RequestRecord:
    record = RequestRecord("POST /generate")
    record.mark_validated(prompt_tokens=31, max_new_tokens=64)
    for reason in (None, None, "length"):
        record.mark_token(reason)
    return record


def test_histograms_count_values_up_to_each_bound() -> None:
    histogram = Histogram("x", (1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 7.0):
        histogram.observe(value)
    assert histogram.render() == (
        '# TYPE x histogram\nx_bucket{le="1"} 2\nx_bucket{le="2"} 3\nx_bucket{le="+Inf"} 4\nx_sum 10.0\nx_count 4\n'
    )


def test_a_success_is_observed_once_and_a_failure_is_not() -> None:
    metrics = Metrics()
    with metrics.counted(finished()):
        pass
    with pytest.raises(ClientDisconnectedError), metrics.counted(finished()):
        raise ClientDisconnectedError
    found = samples(metrics)
    for name in ("duration", "validation_duration", "inference_duration", "mean_time_per_token_duration"):
        assert found[f"tgi_request_{name}_count"] == 1
    assert found["tgi_request_input_length_sum"] == 31
    assert found["tgi_request_generated_tokens_sum"] == 3
    assert found["tgi_request_max_new_tokens_sum"] == 64
    assert found["hfstream_time_to_first_token_seconds_count"] == 1
    assert found["hfstream_inter_token_latency_seconds_count"] == 2


def test_the_exposition_is_prometheus_text() -> None:
    """Each family is one block under its type, buckets add up, and every line is a name, labels and a number."""
    metrics = Metrics()
    with metrics.counted(finished()):
        pass
    family, families, last = "", set[str](), 0.0
    for line in metrics.render(batch=1, queue=0, permits=1).splitlines():
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            assert family not in families
            assert kind in {"counter", "gauge", "histogram"}
            families.add(family)
            last = 0.0
            continue
        match = re.fullmatch(r'([a-z_]+)(?:\{[a-z]+="[^"\\]+"\})? (\S+)', line)
        assert match is not None
        assert match[1].removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") in {
            family, family.removesuffix("_count"),
        }  # fmt: skip
        if match[1].endswith("_bucket"):
            assert float(match[2]) >= last
            last = float(match[2])


def test_each_request_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    with caplog.at_level(logging.INFO, "hfstream"):
        with metrics.counted(record := finished()):
            pass
        with pytest.raises(ValidationError), metrics.counted(RequestRecord("POST /v1/completions")):
            raise ValidationError("x")
    first, second = caplog.messages
    assert re.fullmatch(
        rf"POST /generate id={record.id} prompt=31 generated=3 first_token=0\.\d+ total=0\.\d+ outcome=length", first
    )
    assert re.search(r"POST /v1/completions .* first_token=- .* outcome=validation", second)


def test_the_log_has_the_trace_id_of_a_request_that_has_one(caplog: pytest.LogCaptureFixture) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01", "tracestate": "a=b"}
    with caplog.at_level(logging.INFO), Metrics().counted(RequestRecord("POST /generate", headers)):
        pass
    assert f" trace={trace_id} prompt=0" in caplog.text


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "x",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\nforged",
    ],
)
def test_what_is_no_trace_context_is_not_logged(traceparent: str) -> None:
    record = RequestRecord("POST /generate", {"traceparent": traceparent})
    assert record.trace_id is None
    assert "trace=" not in record.describe("length")
