"""Headers, JSON and Server-Sent Events in TGI's format."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hfstream.errors import OverloadedError, ValidationError
from hfstream.server import BackgroundServer, Settings
from hfstream.server.routes.responses import (
    RequestTimer,
    SSEResponse,
    dump_json,
    error_json,
    error_response,
    event_json,
    response_json,
)
from hfstream.types import StreamResponse, TextGenerationResponse, Token
from tests.helpers.scripted_engine import EOS, ScriptedEngine, http, ids, post


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    with BackgroundServer(Settings(model=str(model)), engine=ScriptedEngine(lambda job: [*ids("abc"), EOS])) as server:
        yield server.url


def test_headers_of_a_stream(url: str) -> None:
    headers = http.post(url + "/generate_stream", json={"inputs": "Hi"}).headers
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert headers["transfer-encoding"] == "chunked"
    assert (headers["x-compute-type"], headers["x-compute-characters"]) == ("cpu", "2")
    assert "x-total-time" not in headers


def test_headers_of_a_response_that_is_not_streamed(url: str) -> None:
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


# --- the functions themselves -----------------------------------------------------------------------------------------

TOKEN = Token(id=5, text="ü", logprob=-0.5, special=False)
TOKEN_JSON = '{"id":5,"text":"ü","logprob":-0.5,"special":false}'


def test_an_event_without_top_tokens_has_no_such_key() -> None:
    event = StreamResponse(index=1, token=TOKEN, top_tokens=None, generated_text=None, details=None)
    assert event_json(event) == f'{{"index":1,"token":{TOKEN_JSON},"generated_text":null,"details":null}}'
    with_top = event.model_copy(update={"top_tokens": [TOKEN]})
    assert f'"top_tokens":[{TOKEN_JSON}]' in event_json(with_top)


def test_a_response_without_details_has_no_such_key() -> None:
    assert response_json(TextGenerationResponse(generated_text="ü", details=None)) == '{"generated_text":"ü"}'


def test_an_error_has_its_status_and_its_retry_after() -> None:
    overloaded = OverloadedError("Model is overloaded", retry_after=1.5)
    response = error_response(overloaded)
    assert (response.status_code, response.headers["retry-after"]) == (429, "1.5")
    assert response.body == error_json(overloaded).encode()
    assert error_json(overloaded) == '{"error":"Model is overloaded","error_type":"overloaded"}'
    invalid = error_response(ValidationError("no"), '{"another":"format"}')
    assert (invalid.status_code, invalid.body) == (422, b'{"another":"format"}')
    assert "retry-after" not in invalid.headers


@pytest.mark.parametrize(("done_event", "end"), [(None, []), ("[DONE]", [b"data: [DONE]\n\n"])])
async def test_an_sse_response_sends_headers_events_and_its_end(done_event: str | None, end: list[bytes]) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    sse = SSEResponse(send, done_event)
    assert not sse.is_open
    await sse.open({"x-a": "b"})
    assert sse.is_open
    await sse.send_event("1")
    await sse.send_keep_alive()
    await sse.send_encoded(b"id: 2\ndata: 2\n\n")
    await sse.finish()
    start, *chunks, last = sent
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert {(b"content-type", b"text/event-stream"), (b"x-a", b"b")} <= set(start["headers"])
    assert [chunk["body"] for chunk in chunks] == [b"data: 1\n\n", b":\n\n", b"id: 2\ndata: 2\n\n", *end]
    assert all(chunk["more_body"] for chunk in chunks)
    assert (last["body"], last["more_body"]) == (b"", False)


def test_times_are_measured_from_receipt_and_from_validation() -> None:
    timer = RequestTimer()
    time.sleep(0.02)
    timer.mark_validated()
    time.sleep(0.03)
    headers = timer.headers(prompt_tokens=3, generated_tokens=2)
    assert int(headers["x-validation-time"]) >= 20
    assert int(headers["x-inference-time"]) >= 30
    assert int(headers["x-total-time"]) >= 50
    assert int(headers["x-time-per-token"]) >= 15
    assert float(headers["x-compute-time"]) >= 0.05
    assert (headers["x-prompt-tokens"], headers["x-generated-tokens"], headers["x-queue-time"]) == ("3", "2", "0")


def test_json_has_no_other_numbers_than_json_has() -> None:
    assert dump_json({"a": [float("inf"), float("nan"), 0.5, 10**30], "ü": None}) == (
        '{"a":[null,null,0.5,1000000000000000000000000000000],"ü":null}'
    )
