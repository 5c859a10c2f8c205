"""The output of one request: order, ends, keep-alives, pace."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from hfstream.errors import GenerationError
from hfstream.server import BackgroundServer, Settings
from hfstream.server.engine.protocol import EngineRequest, RequestFailed, SamplingParams, TokenOutput
from hfstream.server.schemas.validation import ValidRequest
from hfstream.server.service.errors import ClientDisconnectedError
from hfstream.server.service.output_stream import OutputStream
from hfstream.server.service.request_record import RequestRecord
from hfstream.server.text.output_builder import OutputBuilder
from hfstream.server.text.tokenizer import Tokenizer
from tests.helpers.scripted_engine import (
    EOS,
    TOKENIZER,
    ScriptedEngine,
    endless,
    eventually,
    http,
    idle,
    ids,
    metric,
    raw_request,
    user,
)

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
OPENAI_BODIES: dict[str, dict[str, Any]] = {CHAT: {"messages": user("Hi")}, COMPLETIONS: {"prompt": "Hi"}}


def output(token: int, *, last: bool = False) -> TokenOutput:
    return TokenOutput(EngineRequest([1], 9), token, -0.5, (), last)


def make_stream(*, stop: tuple[str, ...] = (), tokens_per_second: float | None = None) -> OutputStream:
    request = ValidRequest(prompt=ids("Hi"), max_new_tokens=9, sampling=SamplingParams(), stop=stop)
    builder = OutputBuilder(Tokenizer(TOKENIZER), request, {EOS})
    return OutputStream([builder], tokens_per_second=tokens_per_second)


async def read(stream: OutputStream, **options: Any) -> list[str | None]:
    """Texts of the events, None for a keep-alive."""
    async with asyncio.timeout(60):
        return [output.event.token.text if output else None async for output in stream.events(**options)]


# --- the stream itself ------------------------------------------------------------------------------------------------


async def test_events_come_in_order_and_the_one_with_the_generated_text_is_the_last() -> None:
    stream = make_stream()
    for token in (*ids("ab"), EOS):
        assert not stream.generations[0].complete
        stream.generations[0].push(output(token, last=token == EOS))
    assert stream.generations[0].complete
    assert await read(stream) == ["a", "b", "<eos>"]


async def test_outputs_after_the_end_are_ignored() -> None:
    stream = make_stream(stop=("b",))
    for token in ids("abc"):
        stream.generations[0].push(output(token))
    assert await read(stream) == ["a", "b"], "a stop string ends it, which the engine does not know about"


async def test_a_failed_request_ends_with_tgis_message() -> None:
    stream = make_stream()
    stream.generations[0].push(output(ids("a")[0]))
    stream.generations[0].push(RequestFailed(EngineRequest([1], 9), RuntimeError("out of memory")))
    assert stream.generations[0].complete
    events = stream.events()
    first = await anext(events)
    assert first is not None
    assert first.event.token.text == "a"
    with pytest.raises(GenerationError, match="Request failed during generation: Server error: out of memory"):
        await anext(events)


async def test_an_error_in_making_the_text_fails_this_stream_only() -> None:
    stream = make_stream()
    stream.generations[0].push(output(-1))  # the tokenizer raises OverflowError
    with pytest.raises(GenerationError, match="Request failed during generation: Server error: "):
        await read(stream)


async def test_an_error_from_outside_comes_after_the_queued_events() -> None:
    stream = make_stream()
    stream.generations[0].push(output(ids("a")[0]))
    stream.fail(ClientDisconnectedError())
    stream.generations[0].push(output(ids("b")[0]))
    events = stream.events()
    assert await anext(events)
    with pytest.raises(ClientDisconnectedError):
        await anext(events)


async def test_a_silent_stream_yields_none_again_and_again() -> None:
    stream = make_stream()
    events = stream.events(keepalive_interval=0.01)
    async with asyncio.timeout(60):
        assert [await anext(events) for _ in range(3)] == [None, None, None]
        stream.generations[0].push(output(EOS, last=True))
        rest = [event async for event in events]
    assert [each.event.token.text for each in rest if each] == ["<eos>"]


async def test_several_generations_come_as_they_are_made_until_all_are_complete() -> None:
    requests = [ValidRequest(prompt=ids("Hi"), max_new_tokens=9, sampling=SamplingParams()) for _ in range(2)]
    record = RequestRecord("/")
    stream = OutputStream([OutputBuilder(Tokenizer(TOKENIZER), each, {EOS}) for each in requests], record=record)
    first, second = stream.generations
    for generation, text in ((first, "a"), (second, "b"), (second, "c"), (first, "d")):
        generation.push(output(*ids(text)))
    second.push(output(EOS, last=True))
    first.push(output(EOS, last=True))
    seen = [(each.generation, each.event.token.text) async for each in stream.events() if each]
    assert seen == [(0, "a"), (1, "b"), (1, "c"), (0, "d"), (1, "<eos>"), (0, "<eos>")]
    assert (record.generated_tokens, len(record.gaps)) == (6, 4), "gaps are those between tokens of one generation"


async def test_one_failed_generation_fails_the_request() -> None:
    requests = [ValidRequest(prompt=ids("Hi"), max_new_tokens=9, sampling=SamplingParams()) for _ in range(2)]
    stream = OutputStream([OutputBuilder(Tokenizer(TOKENIZER), each, {EOS}) for each in requests])
    stream.generations[0].push(output(EOS, last=True))
    stream.generations[1].push(RequestFailed(EngineRequest([1], 9), RuntimeError("out of memory")))
    with pytest.raises(GenerationError, match="out of memory"):
        await stream.collect()


async def test_events_are_released_at_the_pace() -> None:
    stream = make_stream(tokens_per_second=50)
    start = asyncio.get_running_loop().time()
    for token in (*ids("ab"), EOS):
        stream.generations[0].push(output(token, last=token == EOS))
    assert stream.generations[0].complete, "the engine has finished at once"
    assert await read(stream) == ["a", "b", "<eos>"]
    assert asyncio.get_running_loop().time() - start >= 0.059


async def test_an_error_does_not_wait_for_paced_events() -> None:
    stream = make_stream(tokens_per_second=0.001)
    stream.generations[0].push(output(ids("a")[0]))
    stream.fail(ClientDisconnectedError())
    with pytest.raises(ClientDisconnectedError):
        await read(stream)


# --- the pace, over HTTP ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [True, False])
def test_a_response_keeps_its_pace(model: Path, streamed: bool) -> None:
    settings = Settings(model=str(model), tokens_per_second=50)
    body = {"inputs": "Hi", "parameters": {"max_new_tokens": 10}}
    with BackgroundServer(settings, engine=ScriptedEngine(endless)) as server:
        start = time.monotonic()
        if streamed:
            with http.stream("POST", server.url + "/generate_stream", json=body) as response:
                times = [time.monotonic() - start for _ in response.iter_raw()]
            assert len(times) == 10
            assert all(at > 0.018 * place for place, at in enumerate(times, 1))
        else:
            assert http.post(server.url + "/generate", json=body).status_code == 200
        assert 0.18 < time.monotonic() - start < 60


def test_a_disconnect_is_noticed_between_two_paced_tokens(model: Path) -> None:
    settings = Settings(model=str(model), tokens_per_second=0.002)
    with BackgroundServer(settings, engine=ScriptedEngine(endless)) as server:
        for path in ("/generate", "/generate_stream"):
            connection = raw_request(server.url, path, {"inputs": "Hi"})
            assert eventually(lambda: metric(server.url, "hfstream_permits_taken") == 1)
            connection.close()
            assert eventually(lambda: idle(server.url))


@pytest.mark.parametrize("path", OPENAI_BODIES)
@pytest.mark.parametrize("streamed", [True, False])
def test_a_paced_response_keeps_its_permit(chat_model: Path, path: str, streamed: bool) -> None:
    """The engine has finished at once; the pace is so slow that the client disconnects before the first token."""
    settings = Settings(model=str(chat_model), tokens_per_second=0.01)
    with BackgroundServer(settings, engine=ScriptedEngine(endless)) as server:
        connection = raw_request(server.url, path, {**OPENAI_BODIES[path], "stream": streamed, "max_tokens": 2})
        names = ("hfstream_permits_taken", "tgi_batch_current_size")
        assert eventually(lambda: [metric(server.url, name) for name in names] == [1, 0])
        connection.close()
        assert eventually(lambda: idle(server.url))
