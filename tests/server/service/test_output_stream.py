"""Events of one request: order, pace, keep-alives, ends."""

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


def go_on(job: EngineRequest) -> Script:
    """Never comes to an end of its own."""
    return iter(lambda: ids("a")[0], EOS)


def request(stream: bool, **parameters: Any) -> dict[str, Any]:
    return {"inputs": "Hi", "parameters": parameters, "stream": stream}


@pytest.mark.parametrize("streamed", [True, False])
def test_answers_keep_their_pace(model: Path, streamed: bool) -> None:
    settings = Settings(model=str(model), tokens_per_second=50)
    with BackgroundServer(settings, engine=ScriptedEngine(go_on)) as server:
        start = time.monotonic()
        if streamed:
            with http.stream(
                "POST", server.url + "/generate_stream", json=request(True, max_new_tokens=10)
            ) as response:
                times = [time.monotonic() - start for _ in response.iter_raw()]
            assert len(times) == 10
            assert all(at > 0.018 * place for place, at in enumerate(times, 1))
        else:
            assert post(server.url, "/generate", max_new_tokens=10).status_code == 200
        assert 0.18 < time.monotonic() - start < 1.5


def test_who_leaves_a_paced_answer_is_noticed_between_two_tokens(model: Path) -> None:
    with BackgroundServer(Settings(model=str(model), tokens_per_second=0.2), engine=ScriptedEngine(go_on)) as server:
        for path in ("/generate", "/generate_stream"):
            connection = raw_request(server.url, path, request(True))
            assert eventually(lambda: metric(server.url, "hfstream_permits_taken") == 1)
            connection.close()
            assert eventually(lambda: idle(server.url), within=1)


@EACH_ROUTE
@EITHER_WAY
def test_an_answer_keeps_its_pace_and_its_permit(model: Path, path: str, streamed: bool) -> None:
    """The engine is done at once; what it said is told so slowly that the client leaves before the first token."""
    settings = Settings(model=str(model), tokens_per_second=0.01)
    with BackgroundServer(settings, engine=ScriptedEngine(go_on)) as server:
        connection = raw_request(server.url, path, {**BODIES[path], "stream": streamed, "max_tokens": 2})
        names = ("hfstream_permits_taken", "tgi_batch_current_size")
        assert eventually(lambda: [metric(server.url, name) for name in names] == [1, 0])
        connection.close()
        assert eventually(lambda: idle(server.url))
