"""Headers, JSON and Server-Sent Events in TGI's format."""

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


def test_headers_of_a_stream(url: str) -> None:
    headers = http.post(url + "/generate_stream", json={"inputs": "Hi"}).headers
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert headers["transfer-encoding"] == "chunked"
    assert (headers["x-compute-type"], headers["x-compute-characters"]) == ("cpu", "2")
    assert "x-total-time" not in headers


def test_headers_of_a_whole_answer(url: str) -> None:
    headers = post(url, "/generate", "Hi").headers
    assert headers["content-type"] == "application/json"
    assert headers["x-prompt-tokens"] == str(len(ids("Hi")))
    assert headers["x-generated-tokens"] == "4"
    assert 0 < float(headers["x-compute-time"]) < 5
    for name in ("total-time", "validation-time", "queue-time", "inference-time", "time-per-token"):
        assert headers[f"x-{name}"].isdecimal()


def test_each_event_is_a_chunk_of_its_own(url: str) -> None:
    with http.stream("POST", url + "/generate_stream", json={"inputs": "Hi"}) as response:
        chunks = list(response.iter_raw())
    assert len(chunks) == 4
    assert all(chunk.startswith(b"data: {") and chunk.endswith(b"}\n\n") for chunk in chunks)
