"""Routes that generate: the order of refusals, permits and rows, disconnects, keep-alives. On OpenAI's routes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hfstream.server import BackgroundServer, Settings
from tests.helpers.scripted_engine import (
    ScriptedEngine,
    chunks,
    endless,
    eventually,
    http,
    idle,
    metric,
    raw_request,
    user,
)

PERMITS = 3
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
BODIES: dict[str, dict[str, Any]] = {CHAT: {"messages": user("Hi")}, COMPLETIONS: {"prompt": "Hi"}}
EACH_ROUTE = pytest.mark.parametrize("path", BODIES)
EITHER_WAY = pytest.mark.parametrize("streamed", [True, False])


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    return ScriptedEngine(endless, interval=0.01)


@pytest.fixture(scope="module")
def small_server(chat_model: Path, engine: ScriptedEngine) -> Iterator[str]:
    settings = Settings(model=str(chat_model), max_concurrent_requests=PERMITS, max_batch_size=2, sse_keepalive=0.1)
    with BackgroundServer(settings, engine=engine) as server:
        yield server.url


@pytest.fixture
def url(small_server: str, engine: ScriptedEngine) -> Iterator[str]:
    engine.unpause()
    assert eventually(lambda: idle(small_server))
    yield small_server
    engine.unpause()


def take_all(url: str, path: str, **fields: Any) -> list[Any]:
    """Requests that hold all permits."""
    connections = [raw_request(url, path, {**BODIES[path], **fields}) for _ in range(PERMITS)]
    assert eventually(lambda: metric(url, "hfstream_permits_taken") == PERMITS)
    return connections


@EACH_ROUTE
@EITHER_WAY
def test_a_request_without_a_permit_gets_a_429_in_openais_format(
    url: str, engine: ScriptedEngine, path: str, streamed: bool
) -> None:
    engine.pause()
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


def test_which_refusals_need_no_permit(url: str, engine: ScriptedEngine) -> None:
    """The body, a completion's suffix and number, then the permit, then the template and all other rules."""
    engine.pause()
    taken = take_all(url, CHAT, stream=True)

    def status(path: str, **fields: Any) -> int:
        return int(http.post(url + path, json={**BODIES[path], **fields}).status_code)

    assert status(CHAT, messages=1) == 422
    assert status(CHAT, messages=[{"role": "no", "content": ""}]) == 429, "rendering a template is work"
    assert status(COMPLETIONS, suffix="a") == 422
    assert status(COMPLETIONS, prompt=5 * ["a"]) == 422
    assert status(COMPLETIONS, best_of=21) == 422
    assert status(COMPLETIONS, n=0) == 422
    assert status(COMPLETIONS, n=PERMITS + 1) == 422, "there will never be so many permits"
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
@pytest.mark.parametrize("generating", [True, False], ids=["between tokens", "before the first token"])
def test_a_disconnect_frees_the_permit_and_the_row(
    url: str, engine: ScriptedEngine, generating: bool, path: str, streamed: bool
) -> None:
    if not generating:
        engine.pause()
    dropped = metric(url, 'tgi_request_failure{err="dropped"}')
    connections = take_all(url, path, stream=streamed)
    for connection in connections:
        connection.close()
    assert eventually(lambda: idle(url))
    assert all(job.cancelled for job in engine.submitted[-PERMITS:])
    assert metric(url, 'tgi_request_failure{err="dropped"}') == dropped + PERMITS


@EACH_ROUTE
def test_a_silent_stream_sends_comments(url: str, engine: ScriptedEngine, path: str) -> None:
    engine.pause()
    with http.stream("POST", url + path, json={**BODIES[path], "stream": True, "max_tokens": 2}) as response:
        body_chunks = response.iter_raw()
        assert [next(body_chunks), next(body_chunks)] == 2 * [b":\n\n"]
        engine.unpause()
        body = b"".join(body_chunks)
    assert len(chunks(body)) == 2
