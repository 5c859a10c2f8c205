"""The routes that report on the server."""

from __future__ import annotations

import pytest
import httpx
from collections.abc import *
from pathlib import Path
from typing import Any
import asyncio, threading, socket, time, json, subprocess, sys, os
from hfstream.server import BackgroundServer, Settings, create_app
from hfstream.server.engine.protocol import EngineRequest
from hfstream.version import __version__
from tests.helpers.scripted_engine import *


@pytest.mark.parametrize("path", ["/", "/health", "/ping"])
def test_health(url: str, path: str) -> None:
    response = http.get(url + path)
    assert (response.status_code, response.content) == (200, b"")


def test_info(url: str) -> None:
    info = http.get(url + "/info").json()
    assert list(info.items())[1:] == [
        ("model_sha", None),
        ("model_pipeline_tag", "text-generation"),
        ("max_concurrent_requests", 128),
        ("max_best_of", 1),
        ("max_stop_sequences", 4),
        ("max_input_tokens", CONTEXT - 1),
        ("max_total_tokens", CONTEXT),
        ("validation_workers", 1),
        ("max_client_batch_size", 1),
        ("router", "hfstream"),
        ("version", __version__),
        ("sha", None),
        ("docker_label", None),
    ]
    assert next(iter(info)) == "model_id"


def test_metrics(url: str) -> None:
    before = metric(url, "tgi_request_count"), metric(url, "tgi_request_success")
    post(url, "/generate")
    stream(url)
    post(url, "/generate", top_k=0)
    assert metric(url, "tgi_request_count") == before[0] + 3
    assert metric(url, "tgi_request_success") == before[1] + 2
    assert http.get(url + "/metrics").headers["content-type"].startswith("text/plain")


def test_models(url: str, model: Path) -> None:
    listed = {"id": str(model), "object": "model", "created": 0, "owned_by": str(model)}
    assert http.get(url + "/v1/models").json() == {"object": "list", "data": [listed]}
    assert http.post(url + "/v1/models").status_code == 405


def test_metrics_while_nothing_happens(locked: str) -> None:
    assert metric(locked, "hfstream_permits_taken") == 0
