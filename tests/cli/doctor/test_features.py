"""What the doctor finds beside the stream: the kind of server, refusals, keys, tools, JSON, slots."""

from __future__ import annotations

import pytest

from hfstream.cli.doctor.checks import cold_start
from hfstream.cli.doctor.features import _time_next
from hfstream.cli.doctor.pacing import judge_pacing
from hfstream.cli.doctor.prober import Recorded
from hfstream.cli.doctor.servers import find_between, name_server, running_requests
from hfstream.testing import ScriptedServer
from hfstream.types import Model

from .conftest import Diagnose, ModelServer


def test_a_server_that_has_it_all(diagnose: Diagnose) -> None:
    model = ModelServer(tokens=5)
    with ScriptedServer(model) as server:
        diagnosis = diagnose(server.url)
    assert diagnosis.report["works"] == {
        "chat": True, "usage": True, "resume": False, "text": False, "tools": True, "json": True, "tokenize": True,
    }  # fmt: skip
    assert diagnosis.report["server"]["kind"] == "vLLM"
    assert diagnosis.report["server"]["model"] == "opt-125m"
    assert diagnosis.finding("closing")["summary"] == "Closing a stream frees its slot"
    assert diagnosis.finding("refusal")["summary"] == "An invalid value is refused with HTTP 422"
    assert diagnosis.report["requests"] == len(model.requests) <= 12


def test_a_slot_that_is_not_freed(diagnose: Diagnose) -> None:
    with ScriptedServer(ModelServer(tokens=5, running=1)) as server:
        diagnosis = diagnose(server.url)
    assert diagnosis.first.startswith("A closed stream goes on")
    assert diagnosis.lines == ["proxy_ignore_client_abort off;"]
    assert diagnosis.code == 3


def test_a_slot_of_which_nothing_is_known(diagnose: Diagnose) -> None:
    with ScriptedServer(ModelServer(tokens=5, running=3)) as server:
        closing = diagnose(server.url).finding("closing")
    assert closing["severity"] == "note"
    assert closing["summary"].endswith("the server serves others")


def test_without_a_gauge_the_next_request_is_timed(diagnose: Diagnose) -> None:
    with ScriptedServer(ModelServer(tokens=5, running=None)) as server:
        closing = diagnose(server.url).finding("closing")
    assert closing["summary"] == "A closed stream does not hold up the next request"


@pytest.mark.parametrize(
    ("gap", "waited", "summary"),
    [
        (0.05, 0.2, "A closed stream does not hold up the next request"),
        (0.05, 12.0, "A closed stream goes on, and holds up the next request"),
        (0.001, 0.2, "Whether closing a stream frees its slot is not known"),
    ],
)
def test_a_request_that_waits_for_a_closed_stream(gap: float, waited: float, summary: str) -> None:
    pacing = judge_pacing([0.2 + gap * token for token in range(64)])
    assert _time_next(Recorded("http://x", arrivals=[waited]), pacing).summary == summary


def test_values_that_are_not_checked_and_tools_that_are_not_there(diagnose: Diagnose) -> None:
    with ScriptedServer(ModelServer(tokens=5, checks_values=False, tools=False)) as server:
        diagnosis = diagnose(server.url)
    assert diagnosis.finding("refusal")["summary"] == 'The server takes invalid values: temperature "hot" is no error'
    assert diagnosis.finding("tools")["evidence"] == ['HTTP 400: "tools are not supported"']
    assert diagnosis.report["works"]["tools"] is False
    assert diagnosis.code == 0


def test_a_key_that_is_checked(diagnose: Diagnose) -> None:
    with ScriptedServer(ModelServer(tokens=5, key="sk-secret-key")) as server:
        diagnosis = diagnose(server.url, "--api-key", "sk-secret-key")
    assert diagnosis.finding("key")["summary"] == "Without the API key the server refuses: HTTP 401"
    assert diagnosis.code == 0


def test_a_key_that_is_not_checked(diagnose: Diagnose) -> None:
    with ScriptedServer(ModelServer(tokens=5)) as server:
        diagnosis = diagnose(server.url, "--api-key", "sk-secret-key")
    assert diagnosis.finding("key")["severity"] == "note"


def test_a_cold_start_is_noted() -> None:
    slow, quick = Recorded("http://x", arrivals=[5.0]), Recorded("http://x", arrivals=[0.2])
    assert [finding.summary for finding in cold_start(slow, quick)] == [
        "The first answer took 5.00 s to begin, a later one 200 ms: a cold start"
    ]
    assert cold_start(quick, slow) == cold_start(quick, quick) == []


@pytest.mark.parametrize(
    ("owner", "kind"),
    [("vllm", "vLLM"), ("sglang", "SGLang"), ("llamacpp", "llama.cpp"), ("library", "Ollama"), ("someone", "")],
)
def test_servers_by_the_owner_of_their_models(owner: str, kind: str) -> None:
    assert name_server({}, [Model(id="m", owned_by=owner)], {}) == (kind, "")


def test_servers_by_other_signs() -> None:
    assert name_server({"model_id": "m", "version": "3.3.6"}, [], {}) == ("TGI", "3.3.6")
    assert name_server({"model_id": "m", "version": "0.1.0", "router": "hfstream"}, [], {}) == ("hfstream", "0.1.0")
    assert name_server({}, [], {}, "fp_ollama") == ("Ollama", "")
    assert name_server({}, [], {"server": "llama.cpp"}) == ("llama.cpp", "")
    assert name_server({}, [], {"x-litellm-version": "1.0"}) == ("LiteLLM", "")


@pytest.mark.parametrize(
    ("header", "value", "name"),
    [
        ("server", "nginx/1.22.1", "nginx"), ("server", "openresty", "nginx"), ("server", "Apache/2.4.62", "Apache"),
        ("via", "1.1 Caddy", "Caddy"), ("cf-ray", "8f", "Cloudflare"), ("x-amz-apigw-id", "a=", "AWS API Gateway"),
        ("x-varnish", "65538", "Varnish"),
        ("server", "envoy", "Envoy"), ("server", "Microsoft-IIS/10.0", "IIS"), ("server", "uvicorn", None),
    ],
)  # fmt: skip
def test_what_stands_before_a_server(header: str, value: str, name: str | None) -> None:
    between = find_between({header: value})
    assert (between.name if between else None) == name


@pytest.mark.parametrize(
    ("metrics", "found"),
    [
        (b"# TYPE tgi_batch_current_size gauge\ntgi_batch_current_size 2\n", ("tgi_batch_current_size", 2.0)),
        (b'vllm:num_requests_running{model_name="m",engine="0"} 1.0\n', ("vllm:num_requests_running", 1.0)),
        (b"llamacpp:requests_processing 0\n", ("llamacpp:requests_processing", 0.0)),
        (b'sglang:num_running_reqs{a="1"} 1.0\nsglang:num_running_reqs{a="2"} 2.0\n', ("sglang:num_running_reqs", 3.0)),
        (b"process_cpu_seconds_total 1.0\n", None),
        (b"<html>", None),
    ],
)
def test_the_gauge_of_running_requests(metrics: bytes, found: tuple[str, float] | None) -> None:
    assert running_requests(metrics) == found
