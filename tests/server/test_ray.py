"""Replicas on Ray Serve, without ray: arguments, the deployment's options, the proxy's own replies, what is refused.

Left out, and in `tests/ray_serve` (``nox -s ray``): everything that ray itself does. That the options have the effect
that they are set for, that tokens come one by one, clients that leave, replicas that die, and a storm of clients.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hfstream import InferenceError, OverloadedError
from hfstream.core.retry_decisions import Decision, decide
from hfstream.errors.response_bodies import from_response
from hfstream.server import ray as server_on_ray
from hfstream.server import services
from hfstream.server.ray import Replica, Replicas, deployment_options, read_arguments, replica_app, serve_replicas
from hfstream.server.ray_proxy import CALLBACK, ProxyReplies, middlewares
from hfstream.server.settings import Settings
from tests.helpers.modules import ROOT
from tests.helpers.scripted_engine import ScriptedEngine

# --- arguments and options -------------------------------------------------------------------------------------------


def test_arguments_are_settings_also_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HFSTREAM_API_KEY", "secret")
    text = {"max_concurrent_requests": "8", "replicas": "2", "kv_cache_memory": "1K", "tokens_per_second": "2.5"}
    expected = Settings(max_concurrent_requests=8, kv_cache_memory=1024, tokens_per_second=2.5, api_key="secret")
    assert read_arguments(text) == (expected, Replicas(minimum=2, maximum=2))
    assert read_arguments({"api_key": "other"}) == (Settings(api_key="other"), Replicas())


@pytest.mark.parametrize(
    ("arguments", "counts"),
    [
        ({"max_replicas": 4}, (1, 4)),
        ({"min_replicas": 2, "max_replicas": "4"}, (2, 4)),
        ({"min_replicas": 2}, (2, 2)),
        ({"replicas": 2, "max_replicas": 3}, (2, 3)),
    ],
)
def test_the_number_of_replicas(arguments: dict[str, Any], counts: tuple[int, int]) -> None:
    _, replicas = read_arguments(arguments)
    assert (replicas.minimum, replicas.maximum) == counts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modell": "bundled"}, "modell: there is no such setting"),
        ({"port": 80}, "port is not an argument of the application"),
        ({"threads": "many"}, "threads"),
        ({"max_concurrent_requests": "0"}, "must be at least 1"),
        ({"replicas": 0}, "at least 1 replica"),
        ({"min_replicas": 3, "max_replicas": 2}, "min_replicas must not be more"),
        ({"kv_cache_memory": "much"}, "is not a size"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_arguments(arguments)


def test_a_replica_refuses_before_ray_queues() -> None:
    options = deployment_options(Settings(max_concurrent_requests=8, threads=2), Replicas(minimum=3, maximum=3))
    assert options["max_ongoing_requests"] >= 8 + 200
    assert options["max_queued_requests"] > 0
    assert options["num_replicas"] == 3
    assert "autoscaling_config" not in options
    assert options["ray_actor_options"] == {"num_cpus": 2, "num_gpus": 0}
    assert deployment_options(Settings(device="cuda"), Replicas())["ray_actor_options"]["num_gpus"] == 1


@pytest.mark.parametrize(("permits", "target"), [(128, 24), (8, 6), (1, 1)])
def test_more_replicas_are_started_before_one_refuses(permits: int, target: float) -> None:
    options = deployment_options(Settings(max_concurrent_requests=permits), Replicas(minimum=1, maximum=4))
    scaling = {"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": target}
    assert options["autoscaling_config"] == scaling
    assert "num_replicas" not in options


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(uds="/tmp/socket"), "uds cannot be combined with replicas: Ray's proxy listens on a port"),
        (Settings(upstreams=("http://one",)), "upstreams cannot be combined with replicas: .* runs no model"),
        (Settings(root_path="/llm"), "root_path cannot be combined with replicas"),
        (Settings(device="cuda:1"), "device must be cuda with replicas, not cuda:1"),
    ],
)
def test_what_cannot_be_combined_is_refused(settings: Settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deployment_options(settings, Replicas())


# --- ray itself ------------------------------------------------------------------------------------------------------


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_on_ray, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "hfstream\[ray\]"'):
        serve_replicas(Settings(), 2)
    with pytest.raises(ImportError, match=r'pip install "hfstream\[ray\]"'):
        server_on_ray.app({})


@pytest.mark.slow
def test_neither_the_client_nor_the_plain_server_imports_ray(tmp_path: Path) -> None:
    """Also where it is installed: here a package of its name, that counts how often it is imported."""
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").write_text("print('imported')")
    code = """
import hfstream, hfstream.cli, hfstream.cli.serve, hfstream.otel, hfstream.testing
from hfstream.server import BackgroundServer, Settings, create_app, ray, ray_proxy, serving
create_app(Settings(upstreams=("http://one",)))
create_app()
"""
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    done = subprocess.run([sys.executable, "-c", "import ray"], env=environment, capture_output=True, text=True)
    assert done.stdout == "imported\n"


# --- one replica -----------------------------------------------------------------------------------------------------


def replica_of(engine: ScriptedEngine, model: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    make_served = services.make_served
    monkeypatch.setattr(server_on_ray, "make_served", lambda settings: make_served(settings, engine))
    return replica_app(Settings(model=str(model)), check_host=False)


async def test_a_replica_has_started_once_its_model_is_loaded(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    app = replica_of(ScriptedEngine(load=lambda: loaded.append(1)), model, monkeypatch)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://replica") as client,
    ):
        assert loaded
        assert (await client.get("/health")).status_code == 200


async def test_a_replica_whose_model_cannot_be_loaded_does_not_start(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ValueError("not enough memory")

    app = replica_of(ScriptedEngine(load=fail), model, monkeypatch)
    with pytest.raises(ValueError, match="not enough memory"):
        async with app.router.lifespan_context(app):
            pytest.fail("it has started")


async def test_a_replica_is_healthy_until_its_engine_has_failed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ScriptedEngine()
    replica = Replica()
    replica.app = app = replica_of(engine, model, monkeypatch)
    async with app.router.lifespan_context(app):
        await replica.check_health()
        engine.failure = ValueError("the GPU has gone")
        while app.state.backend.fatal_error is None:
            await asyncio.sleep(0.01)
        with pytest.raises(ValueError, match="the GPU has gone"):
            await replica.check_health()


# --- the proxy's replies ---------------------------------------------------------------------------------------------

FULL = "Request dropped due to backpressure (num_queued_requests=9, max_queued_requests=9)."


async def reply_of(proxy: ASGIApp, path: str = "/generate") -> httpx.Response:
    transport = httpx.ASGITransport(ProxyReplies(proxy))
    async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as client:
        return await client.post(path)


async def ended(scope: Scope, receive: Receive, send: Send) -> None:
    """As Ray's proxy, when the replica of a request has died before the response began."""


@pytest.mark.parametrize("status", [429, 503])
async def test_a_full_queue_is_an_overload_as_the_replica_says_it(status: int) -> None:
    reply = await reply_of(PlainTextResponse(FULL, status))
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")
    assert reply.json() == {"error": "Model is overloaded", "error_type": "overloaded"}
    reply = await reply_of(PlainTextResponse(FULL, status), "/v1/chat/completions")
    assert reply.status_code == 429
    assert reply.json()["error"]["code"] == reply.json()["error_type"] == "overloaded"


async def test_without_the_middleware_the_client_understands_ray_too() -> None:
    transport = httpx.ASGITransport(PlainTextResponse(FULL, 429, {"retry-after": "1"}))
    async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as http:
        reply = await http.get("/")
    error = from_response(reply.status_code, reply.headers, reply.content)
    assert isinstance(error, OverloadedError)
    assert error.retry_after == 1


async def test_a_replica_that_dies_before_its_response_begins_may_be_asked_again() -> None:
    reply = await reply_of(ended)
    assert reply.status_code == 502
    assert reply.json()["error_type"] == "replica_failed"
    error = from_response(reply.status_code, reply.headers, reply.content)
    assert isinstance(error, InferenceError)
    assert decide(error, after_content=False) is Decision.RETRY
    assert (await reply_of(ended, "/v1/completions")).json()["error"]["type"] == "replica_failed"


@pytest.mark.parametrize(
    "response",
    [
        Response('{"error":"Model is loading"}', 503, {"retry-after": "1"}, "application/json"),
        PlainTextResponse("of another application", 503),
        PlainTextResponse("", 429),
        PlainTextResponse("Request dropped", 200),
    ],
)
async def test_other_replies_are_passed_on(response: Response) -> None:
    reply = await reply_of(response)
    assert (reply.status_code, reply.content) == (response.status_code, response.body)


async def test_the_replicas_request_id_is_the_only_one() -> None:
    response = PlainTextResponse("ok")
    response.raw_headers += [(b"x-request-id", b"of-the-replica"), (b"x-request-id", b"of-the-proxy")]
    assert (await reply_of(response)).headers.get_list("x-request-id") == ["of-the-replica"]


async def test_what_is_no_http_is_passed_on() -> None:
    seen: list[str] = []

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*message: Any) -> Any:
        pytest.fail("nothing is received or sent")

    await ProxyReplies(proxy)({"type": "lifespan"}, nothing, nothing)
    assert seen == ["lifespan"]


def test_ray_finds_the_middleware_by_its_path() -> None:
    module, _, name = CALLBACK.rpartition(".")
    assert getattr(sys.modules[module], name) is middlewares
    assert middlewares()[0].cls is ProxyReplies
