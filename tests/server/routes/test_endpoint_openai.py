"""What becomes of a request to OpenAI's routes: its key, permit and pace, its client's leaving, the server's start."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hfstream.server import BackgroundServer, Settings, create_app
from hfstream.server.engine.protocol import EngineRequest
from tests.helpers.scripted_engine import (
    EOS,
    Script,
    ScriptedEngine,
    chunks,
    eventually,
    http,
    idle,
    ids,
    metric,
    raw_request,
    save_chat_model,
    user,
)

PERMITS = 3
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
BODIES: dict[str, dict[str, Any]] = {CHAT: {"messages": user("Hi")}, COMPLETIONS: {"prompt": "Hi"}}
EACH_ROUTE = pytest.mark.parametrize("path", BODIES)
EITHER_WAY = pytest.mark.parametrize("streamed", [True, False])


def go_on(job: EngineRequest) -> Script:
    """Never comes to an end of its own."""
    return iter(lambda: ids("a")[0], EOS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    return ScriptedEngine(go_on, beat=0.01)


@pytest.fixture(scope="module")
def busy(model: Path, engine: ScriptedEngine) -> Iterator[str]:
    settings = Settings(model=str(model), max_concurrent_requests=PERMITS, max_batch_size=2, sse_keepalive=0.1)
    with BackgroundServer(settings, engine=engine) as server:
        yield server.url


@pytest.fixture
def url(busy: str, engine: ScriptedEngine) -> Iterator[str]:
    engine.flow.set()
    assert eventually(lambda: idle(busy))
    yield busy
    engine.flow.set()


def take_all(url: str, path: str, **fields: Any) -> list[Any]:
    """Requests that hold every permit there is."""
    connections = [raw_request(url, path, {**BODIES[path], **fields}) for _ in range(PERMITS)]
    assert eventually(lambda: metric(url, "hfstream_permits_taken") == PERMITS)
    return connections


@EACH_ROUTE
@EITHER_WAY
def test_one_too_many_is_refused_in_openais_shape(url: str, engine: ScriptedEngine, path: str, streamed: bool) -> None:
    engine.flow.clear()
    overloads = metric(url, 'tgi_request_failure{err="overloaded"}')
    taken = take_all(url, path, stream=True)
    refused = http.post(url + path, json={**BODIES[path], "stream": streamed})
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["content-type"] == "application/json"
    assert refused.text == (
        '{"error":{"message":"Model is overloaded","type":"overloaded","param":null,"code":"overloaded",'
        '"http_status_code":429},"error_type":"overloaded"}'
    )
    assert metric(url, 'tgi_request_failure{err="overloaded"}') == overloads + 1
    for connection in taken:
        connection.close()
    assert eventually(lambda: idle(url))


def test_what_is_told_before_and_what_after_the_permit(url: str, engine: ScriptedEngine) -> None:
    """TGI's order: the body, the template, a completion's suffix and number, then the permit, then all other rules."""
    engine.flow.clear()
    taken = take_all(url, CHAT, stream=True)

    def status(path: str, **fields: Any) -> int:
        return int(http.post(url + path, json={**BODIES[path], **fields}).status_code)

    assert status(CHAT, messages=1) == 422
    assert status(CHAT, messages=[{"role": "no", "content": ""}]) == 422
    assert status(COMPLETIONS, suffix="a") == 422
    assert status(COMPLETIONS, prompt=["a", "b"]) == 422
    assert status(COMPLETIONS, best_of=2) == 422
    assert status(CHAT, top_p=2) == 429
    assert status(CHAT, n=2) == 429
    assert status(CHAT, tools=[{}]) == 429
    assert status(COMPLETIONS, logprobs=6) == 429
    assert http.post(url + "/chat_tokenize", json=BODIES[CHAT]).status_code == 200
    for connection in taken:
        connection.close()
    assert eventually(lambda: idle(url))


@EACH_ROUTE
@EITHER_WAY
@pytest.mark.parametrize("flowing", [True, False], ids=["between tokens", "before the first token"])
def test_who_leaves_frees_permit_and_place(
    url: str, engine: ScriptedEngine, flowing: bool, path: str, streamed: bool
) -> None:
    if not flowing:
        engine.flow.clear()
    dropped = metric(url, 'tgi_request_failure{err="dropped"}')
    connections = take_all(url, path, stream=streamed)
    for connection in connections:
        connection.close()
    assert eventually(lambda: idle(url))
    assert all(job.cancelled for job in engine.seen[-PERMITS:])
    assert metric(url, 'tgi_request_failure{err="dropped"}') == dropped + PERMITS


@EACH_ROUTE
def test_silence_is_filled_with_comments(url: str, engine: ScriptedEngine, path: str) -> None:
    engine.flow.clear()
    with http.stream("POST", url + path, json={**BODIES[path], "stream": True, "max_tokens": 2}) as response:
        pieces = response.iter_raw()
        assert [next(pieces), next(pieces)] == 2 * [b":\n\n"]
        engine.flow.set()
        body = b"".join(pieces)
    assert len(chunks(body)) == 2


