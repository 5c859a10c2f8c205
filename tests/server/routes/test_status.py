"""The routes that report on the server: health, /info, /metrics, /v1/models."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hfstream.server import BackgroundServer, Settings
from hfstream.version import __version__
from tests.helpers.scripted_engine import CONTEXT, EOS, ScriptedEngine, eventually, http, ids, metric, post


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    with BackgroundServer(Settings(model=str(model)), engine=ScriptedEngine(lambda job: [*ids("abc"), EOS])) as server:
        yield server.url


@pytest.mark.parametrize("path", ["/", "/health", "/ping"])
def test_health_is_an_empty_200(url: str, path: str) -> None:
    response = http.get(url + path)
    assert (response.status_code, response.content) == (200, b"")


def test_info_has_tgis_keys(url: str) -> None:
    info = http.get(url + "/info").json()
    assert list(info.items())[1:] == [
        ("model_sha", None),
        ("model_pipeline_tag", "text-generation"),
        ("max_concurrent_requests", 128),
        ("max_best_of", 2),
        ("max_stop_sequences", 4),
        ("max_input_tokens", CONTEXT - 1),
        ("max_total_tokens", CONTEXT),
        ("validation_workers", 1),
        ("max_client_batch_size", 4),
        ("router", "hfstream"),
        ("version", __version__),
        ("sha", None),
        ("docker_label", None),
    ]
    assert next(iter(info)) == "model_id"


def test_requests_and_successes_are_counted(url: str) -> None:
    before = metric(url, "tgi_request_count"), metric(url, "tgi_request_success")
    post(url, "/generate")
    post(url, "/generate_stream")
    post(url, "/generate", top_k=0)
    assert metric(url, "tgi_request_count") == before[0] + 3
    assert metric(url, "tgi_request_success") == before[1] + 2
    assert http.get(url + "/metrics").headers["content-type"].startswith("text/plain")


def test_models_lists_the_one_model(url: str, model: Path) -> None:
    listed = {"id": str(model), "object": "model", "created": 0, "owned_by": str(model)}
    assert http.get(url + "/v1/models").json() == {"object": "list", "data": [listed]}
    assert http.post(url + "/v1/models").status_code == 405


def test_no_permit_is_taken_while_nothing_runs(url: str) -> None:
    assert metric(url, "hfstream_permits_taken") == 0


def test_health_is_a_503_while_the_model_is_loaded_again(model: Path) -> None:
    loaded = threading.Event()
    loaded.set()
    engine = ScriptedEngine(load=loaded.wait)
    with BackgroundServer(Settings(model=str(model)), engine=engine) as server:
        loaded.clear()
        engine.lost = RuntimeError("the model process has ended")
        assert eventually(lambda: http.get(server.url + "/health").status_code == 503)
        for response in (http.get(server.url + "/health"), post(server.url, "/generate")):
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
            assert response.json() == {"error": "Model is loading", "error_type": "loading"}
        loaded.set()
        assert eventually(lambda: http.get(server.url + "/health").status_code == 200)
        assert post(server.url, "/generate").status_code == 200


def test_a_browser_is_redirected_from_the_root_to_the_demo_page(url: str) -> None:
    response = http.get(url + "/", headers={"accept": "text/html,application/xhtml+xml"})
    assert (response.status_code, response.headers["location"]) == (307, "demo")


def test_the_model_by_its_name(chat_model: Path) -> None:
    settings = Settings(model=str(chat_model), served_model_name="owner/small")
    with BackgroundServer(settings, engine=ScriptedEngine()) as server, httpx.Client(base_url=server.url) as client:
        [listed] = client.get("/v1/models").json()["data"]
        assert client.get("/v1/models/owner/small").json() == listed == {**listed, "id": "owner/small"}
        response = client.get("/v1/models/another")
        assert response.status_code == 404
        error = response.json()["error"]
        assert (error["param"], error["code"]) == ("model", "model_not_found")
        assert "another" in error["message"]
        assert "owner/small" in error["message"]
