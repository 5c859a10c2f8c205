"""The model that is shipped, behind a port, read by both faces of the client: all of hfstream at once."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import tenacity

from hfstream import (
    AsyncInferenceClient,
    BadRequestError,
    Details,
    FinishReason,
    IncompleteStreamError,
    InferenceClient,
    InferenceConnectionError,
    InferenceError,
    NotFoundError,
    OverloadedError,
    RetryPolicy,
    StreamResponse,
    TextGenerationParameters,
    TextGenerationResponse,
    Token,
    ValidationError,
)
from hfstream.retry import retry_if_overloaded, retry_on_overload, wait_retry_after
from hfstream.server import BackgroundServer, Settings
from tests.helpers.comparing import assert_alike
from tests.helpers.shared_engine import SharedEngine
from tests.helpers.variants import Clients, Variant

pytestmark = pytest.mark.slow

CHEESE = "How do you make cheese?"
DEEP = "What is Deep Learning?"
NUREMBERG = "What can you do in Nuremberg, Germany? Give me 3 Tips"
EMOJI = "Which emoji do you like?"
JAPANESE = "こんにちは"
GERMAN = "Wie macht man Käse?"
PROMPTS = [CHEESE, DEEP, NUREMBERG, EMOJI, JAPANESE, GERMAN]
MULTI_BYTE = [EMOJI, JAPANESE, "What is crème brûlée?"]
"""Answered with characters of several tokens."""

PACE = 25.0
"""Tokens per second, for tests that watch a server while it generates."""
LONG: TextGenerationParameters = {"max_new_tokens": 1900, "repetition_penalty": 0.01}
"""Makes the model repeat itself for ever: no end of its own, seconds of work for the engine."""


@pytest.fixture(scope="module")
def url(shared_engine: SharedEngine) -> Iterator[str]:
    with BackgroundServer(engine=shared_engine.connect()) as server:
        yield server.url


@pytest.fixture(scope="module")
def paced(shared_engine: SharedEngine) -> Iterator[str]:
    with BackgroundServer(Settings(tokens_per_second=PACE), engine=shared_engine.connect()) as server:
        yield server.url


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=120) as client:
        yield client


Meter = Callable[[str, str], int]


@pytest.fixture(scope="module")
def meter(http: httpx.Client) -> Meter:
    """Reads one number of a backend's /metrics."""

    def read(url: str, name: str) -> int:
        lines = http.get(url + "/metrics").text.splitlines()
        return next((int(line.split()[-1]) for line in lines if line.startswith(name + " ")), 0)

    return read


async def eventually(check: Callable[[], bool], within: float = 60.0) -> None:
    """Waits until `check()`, which asks a server, is true: there is nothing but asking that would tell."""
    async with asyncio.timeout(within):
        while not check():
            await asyncio.sleep(0.01)


def permits(meter: Meter, url: str) -> int:
    return meter(url, "hfstream_permits_taken")


async def until_free(meter: Meter, url: str) -> None:
    """Another test's stream may be on its way out."""
    await eventually(lambda: permits(meter, url) == 0)


def load(meter: Meter, url: str) -> tuple[int, int]:
    """Answers that are being given, and those of them that the engine still works on."""
    return permits(meter, url), meter(url, "tgi_batch_current_size")


# The documentation's loops --------------------------------------------------------------------------------------------


def test_the_loops_of_the_documentation(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    client = InferenceClient(url)
    for token in client.text_generation(CHEESE, max_new_tokens=12, stream=True):
        print(token)  # noqa: T201 - as it is written there
    tokens = capsys.readouterr().out
    for details in client.text_generation(CHEESE, max_new_tokens=12, details=True, stream=True):
        print(details.token.text)  # noqa: T201
    assert capsys.readouterr().out == tokens
    assert details.generated_text == client.text_generation(CHEESE, max_new_tokens=12)
    assert len(details.generated_text) > 20
    assert details.details is not None
    assert details.details.finish_reason is FinishReason.Length
    assert details.details.generated_tokens == details.index == 12
    client.close()


async def test_the_asynchronous_loop_of_the_documentation(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async for token in await AsyncInferenceClient(url).text_generation(CHEESE, stream=True):
        print(token, end="")  # noqa: T201
    with InferenceClient(url) as client:
        answer = client.text_generation(CHEESE)
    assert capsys.readouterr().out == answer
    assert "milk" in answer


# One text, however it is asked for ------------------------------------------------------------------------------------


async def one_text(variant: Variant, client: Any, prompt: str, **options: Any) -> TextGenerationResponse:
    """Asks in all four forms, at once. The answer, if they agree."""

    async def read(details: bool) -> tuple[Any, list[Any], Any]:
        stream = await variant.open(client, prompt, details=details, **options)
        return stream, await variant.rest(stream), await variant.final(stream)

    (stream, tokens, final), (_, events, final_details), plain, whole = await asyncio.gather(
        read(details=False),
        read(details=True),
        variant.whole(client, prompt, **options),
        variant.whole(client, prompt, details=True, **options),
    )
    text = whole.generated_text
    assert "".join(tokens) == stream.text == final == plain == final_details.generated_text == text
    assert_alike([event.token for event in events], whole.details.tokens)
    assert_alike(final_details.details.tokens, whole.details.tokens)
    assert [event.token.text for event in events if not event.token.special] == tokens
    assert [event.generated_text for event in events] == [None] * (len(events) - 1) + [text]
    assert stream.finish_reason == events[-1].details.finish_reason == whole.details.finish_reason
    assert "\ufffd" not in text
    answer: TextGenerationResponse = whole
    return answer


@pytest.mark.parametrize("prompt", PROMPTS)
async def test_all_forms_say_the_same(variant: Variant, clients: Clients, url: str, prompt: str) -> None:
    whole = await one_text(variant, clients(url), prompt)
    assert len(whole.generated_text) > 50
    assert whole.details is not None
    assert whole.details.finish_reason is FinishReason.EndOfSequenceToken
    if prompt in (EMOJI, JAPANESE, GERMAN):
        assert not whole.generated_text.isascii()


@pytest.mark.parametrize("prompt", MULTI_BYTE)
async def test_a_limit_within_a_character_never_shows_half_of_it(
    variant: Variant, clients: Clients, url: str, prompt: str
) -> None:
    client = clients(url)
    everything = await variant.whole(client, prompt)

    async def cut(length: int) -> str:
        stream = await variant.open(client, prompt, max_new_tokens=length)
        text = "".join(await variant.rest(stream))
        assert stream.usage.completion_tokens == length
        assert text == await variant.final(stream) == await variant.whole(client, prompt, max_new_tokens=length)
        assert everything.startswith(text)
        return text

    texts = await asyncio.gather(*map(cut, range(1, 41)))
    assert sorted(texts, key=len) == texts
    assert len(set(texts)) < len(texts), "no character was cut: the test has lost its point"


@pytest.mark.parametrize("prompt", PROMPTS)
async def test_a_stop_string_is_the_end_wherever_it_stands(
    variant: Variant, clients: Clients, url: str, prompt: str
) -> None:
    client = clients(url)
    events = await variant.rest(await variant.open(client, prompt, details=True))
    text = events[-1].generated_text
    pieces = [event.token.text for event in events if not event.token.special and event.token.text]
    within = next(piece for piece in pieces[8:] if len(piece.strip()) > 2).strip()[:-1]
    first, second, third = pieces[10:13]
    stops = {
        "a token": pieces[8],
        "inside of a token": within,
        "across three": first[-1:] + second + third[:1],
        "one character": pieces[12].strip()[-1:] or ".",
    }
    if not text.isascii():
        at = next(at for at, character in enumerate(text) if ord(character) > 127)
        stops["around a character of many bytes"] = text[max(0, at - 1) : at + 2]
    answers = await asyncio.gather(*(one_text(variant, client, prompt, stop=[stop]) for stop in stops.values()))
    for (where, stop), whole in zip(stops.items(), answers, strict=True):
        assert whole.generated_text == text[: text.index(stop) + len(stop)], where
        assert whole.details is not None
        assert whole.details.finish_reason is FinishReason.StopSequence, where


async def test_the_first_of_several_stop_strings_counts(variant: Variant, clients: Clients, url: str) -> None:
    client = clients(url)
    text = await variant.whole(client, CHEESE)
    early, late = text[20:24], text[40:44]
    assert text.index(early) < text.index(late)
    whole = await one_text(variant, client, CHEESE, stop=[late, early, "never said"])
    assert whole.generated_text == text[: text.index(early) + len(early)]
    assert (await one_text(variant, client, CHEESE, stop=["never said"])).generated_text == text


# Sampling -------------------------------------------------------------------------------------------------------------


async def test_a_seed_gives_one_text_alone_and_while_eight_others_run(
    variant: Variant, clients: Clients, url: str, meter: Meter
) -> None:
    client = clients(url)
    parameters = {"seed": 42, "temperature": 1.2, "max_new_tokens": 40}
    alone = await variant.whole(client, CHEESE, **parameters)
    others = [await variant.open(client, CHEESE, **LONG) for _ in range(8)]
    await eventually(lambda: load(meter, url)[1] == 8)
    assert await variant.whole(client, CHEESE, **parameters) == alone
    assert "".join(await variant.rest(await variant.open(client, CHEESE, **parameters))) == alone
    assert load(meter, url)[1] == 8, "the others ended too early to be company"
    for other in others:
        await variant.close(other)


async def test_sampling_varies_and_greedy_does_not(variant: Variant, clients: Clients, url: str) -> None:
    client = clients(url)

    async def ask(*many: dict[str, Any]) -> list[str]:
        return list(await asyncio.gather(*(variant.whole(client, CHEESE, max_new_tokens=40, **each) for each in many)))

    (greedy,) = set(await ask({}, {}, {}, {}))
    assert len(set(await ask(*[{"do_sample": True}] * 8))) > 1
    seeds = [{"do_sample": True, "seed": seed} for seed in range(8)]
    seeded = await ask(*seeds)
    assert len(set(seeded)) > 2
    assert await ask(*seeds) == seeded
    assert set(await ask(*({"top_k": 1, "seed": seed} for seed in range(3)))) == {greedy}


async def test_the_seed_of_a_sampled_answer_is_told(variant: Variant, clients: Clients, url: str) -> None:
    client = clients(url)
    sampled = await variant.whole(client, CHEESE, max_new_tokens=30, do_sample=True, details=True)
    assert isinstance(sampled.details.seed, int)
    again = await variant.whole(
        client, CHEESE, max_new_tokens=30, do_sample=True, details=True, seed=sampled.details.seed
    )
    assert again.generated_text == sampled.generated_text
    assert_alike(again.details.tokens, sampled.details.tokens)


# Details --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_new_tokens": 7}, FinishReason.Length),
        ({}, FinishReason.EndOfSequenceToken),
        ({"stop": ["e"]}, FinishReason.StopSequence),
    ],
)
async def test_details_are_typed(
    variant: Variant, clients: Clients, url: str, options: dict[str, Any], reason: FinishReason
) -> None:
    client = clients(url)
    stream = await variant.open(client, CHEESE, details=True, **options)
    events = await variant.rest(stream)
    assert all(isinstance(event, StreamResponse) and isinstance(event.token, Token) for event in events)
    assert [event.index for event in events] == list(range(1, len(events) + 1))
    assert all(isinstance(event.token.id, int) and -20 < event.token.logprob <= 0 for event in events)
    assert [event.token.special for event in events[:-1]] == [False] * (len(events) - 1)
    assert events[-1].token.special is (reason is FinishReason.EndOfSequenceToken)
    assert [event.details for event in events[:-1]] == [None] * (len(events) - 1)
    last = events[-1].details
    assert last.finish_reason is stream.finish_reason is reason
    assert last.generated_tokens == stream.usage.completion_tokens == stream.metrics.tokens == len(events)
    assert last.input_length == stream.usage.prompt_tokens > 3
    assert last.seed is None

    whole = await variant.whole(client, CHEESE, details=True, **options)
    assert isinstance(whole.details, Details)
    assert whole.details.finish_reason is reason
    assert whole.details.generated_tokens == len(whole.details.tokens) == len(events)
    final = await variant.final(await variant.open(client, CHEESE, details=True, **options))
    assert final.generated_text == whole.generated_text
    assert_alike(final.details.tokens, whole.details.tokens)


async def test_the_likeliest_tokens_are_told(variant: Variant, clients: Clients, url: str) -> None:
    client = clients(url)
    options = {"max_new_tokens": 6, "top_n_tokens": 3, "details": True}
    events = await variant.rest(await variant.open(client, CHEESE, **options))
    for event in events:
        assert len(event.top_tokens) == 3
        assert event.top_tokens[0].id == event.token.id
        logprobs = [token.logprob for token in event.top_tokens]
        assert logprobs == sorted(logprobs, reverse=True)
    whole = await variant.whole(client, CHEESE, **options)
    for event, top_tokens in zip(events, whole.details.top_tokens, strict=True):
        assert_alike(event.top_tokens, top_tokens)
    without = await variant.rest(await variant.open(client, CHEESE, max_new_tokens=6, details=True))
    assert [event.top_tokens for event in without] == [None] * 6
    assert_alike([event.token for event in without], [event.token for event in events])


async def test_the_full_text_opens_with_the_prompt(variant: Variant, clients: Clients, url: str) -> None:
    client = clients(url)
    options = {"max_new_tokens": 12}
    answer = await variant.whole(client, GERMAN, **options)
    assert await variant.whole(client, GERMAN, return_full_text=True, **options) == GERMAN + answer
    stream = await variant.open(client, GERMAN, return_full_text=True, **options)
    assert "".join(await variant.rest(stream)) == answer, "the tokens are those of the answer"
    assert await variant.final(stream) == GERMAN + answer


async def test_truncate_keeps_the_end_of_the_prompt(variant: Variant, clients: Clients, url: str) -> None:
    client = clients(url)
    long = "cheese " * 3000

    async def ask(prompt: str, truncate: int) -> tuple[str, int]:
        stream = await variant.open(client, prompt, truncate=truncate, max_new_tokens=20)
        return await variant.final(stream), stream.usage.prompt_tokens

    assert (await ask(long, 100))[1] == 100
    assert (await ask(CHEESE, 3))[1] == 3
    assert (await ask(CHEESE, 2000))[0] == await variant.whole(client, CHEESE, max_new_tokens=20)
    assert await ask("How do you make tea? " + CHEESE, 4) == await ask(CHEESE, 4)


# Refusals, in the server's words --------------------------------------------------------------------------------------

INVALID = "Input validation error: "


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("prompt", "options", "kind", "status", "words"),
    [
        (
            "Hi", {"max_new_tokens": 0}, ValidationError, 422,
            INVALID + "`max_new_tokens` must be strictly positive",
        ),
        ("", {}, ValidationError, 422, INVALID + "`inputs` cannot be empty"),
        (
            "cheese " * 3000, {"max_new_tokens": 5}, ValidationError, 422,
            re.compile(
                INVALID + r"`inputs` tokens \+ `max_new_tokens` must be <= 2048\. "
                r"Given: \d{4,} `inputs` tokens and 5 `max_new_tokens`"
            ),
        ),
        (
            "Hi", {"temperature": -1.0}, ValidationError, 422,
            INVALID + "`temperature` must be strictly positive",
        ),
        (
            "Hi", {"grammar": {"type": "regex", "value": "(a"}}, ValidationError, 422,
            INVALID + "`grammar` is not valid: regex parse error: unclosed group",
        ),
        (
            "Hi", {"max_new_tokens": "12"}, ValidationError, 422,
            re.compile(
                "Failed to deserialize the JSON body into the target type: "
                r'parameters\.max_new_tokens: invalid type: string "12", expected u32 at line 1 column \d+'
            ),
        ),
        (
            "Hi", {"extra_headers": {"content-type": "text/plain"}}, BadRequestError, 415,
            "Expected request with `Content-Type: application/json`",
        ),
        (
            "x" * 2_000_001, {}, BadRequestError, 413,
            "Failed to buffer the request body: length limit exceeded",
        ),
    ],
    ids=["no tokens", "empty", "too long", "temperature", "grammar", "wrong type", "no JSON type", "too large"],
)  # fmt: skip
async def test_a_refusal_is_the_right_error_with_the_servers_words(
    variant: Variant, clients: Clients, url: str, stream: bool, prompt: str, options: dict[str, Any],
    kind: type[InferenceError], status: int, words: str | re.Pattern[str],
) -> None:  # fmt: skip
    client = clients(url)
    with pytest.raises(kind) as caught:
        await (variant.open if stream else variant.whole)(client, prompt, **options)
    error = caught.value
    assert type(error) is kind
    assert re.fullmatch(words, str(error)) if isinstance(words, re.Pattern) else str(error) == words
    assert error.status_code == status
    assert not error.retryable
    if kind is ValidationError:
        assert error.error_type == "validation"
    assert await variant.whole(client, CHEESE, max_new_tokens=1), "the client is as good as before"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("path", ["/nothing", "/nothing/generate"])
async def test_an_unknown_route_is_not_found(
    variant: Variant, clients: Clients, url: str, stream: bool, path: str
) -> None:
    with pytest.raises(NotFoundError, match="check the URL") as caught:
        await (variant.open if stream else variant.whole)(clients(url + path))
    assert caught.value.status_code == 404


@pytest.mark.parametrize("path", ["", "/", "/generate", "/generate_stream"])
async def test_these_urls_mean_the_same(variant: Variant, clients: Clients, url: str, path: str) -> None:
    client = clients(url + path)
    text = await variant.whole(client, CHEESE, max_new_tokens=5)
    assert text
    assert "".join(await variant.rest(await variant.open(client, CHEESE, max_new_tokens=5))) == text


async def test_where_no_server_is_the_error_says_what_to_check(variant: Variant, clients: Clients) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        url = f"http://127.0.0.1:{found.getsockname()[1]}"
    with pytest.raises(InferenceConnectionError, match="Check the URL") as caught:
        await variant.open(clients(url, retry=None))
    assert url in str(caught.value)


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/"])
@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"Hello", "application/json", 400, "Failed to parse the request body as JSON: "),
        (b'{"inputs":', "application/json", 400, "Failed to parse the request body as JSON: "),
        (b'{"inputs":5}', "application/json", 422, "Failed to deserialize the JSON body into the target type: inputs:"),
        (b"{}", "application/json", 422, "Failed to deserialize the JSON body into the target type: missing field"),
        (b'{"inputs":"Hi"}', "text/plain", 415, "Expected request with `Content-Type: application/json`"),
    ],
)
def test_a_body_that_is_none_is_refused_in_plain_words(
    url: str, http: httpx.Client, path: str, body: bytes, kind: str, status: int, words: str
) -> None:
    response = http.post(url + path, content=body, headers={"content-type": kind})
    assert response.status_code == status
    assert response.text.startswith(words)


# Raw HTTP -------------------------------------------------------------------------------------------------------------

EVENT = re.compile(
    rb'data: \{"index":\d+,"token":\{"id":\d+,"text":"(?:[^"\\]|\\.)*","logprob":-?\d[\d.e-]*,"special":false\},'
    rb'"generated_text":null,"details":null\}'
)
LAST = re.compile(
    rb'data: \{"index":\d+,"token":\{.*\},"generated_text":"(?:[^"\\]|\\.)*","details":'
    rb'\{"finish_reason":"length","generated_tokens":\d+,"seed":null,"input_length":\d+\}\}'
)


def test_the_bytes_of_a_stream(url: str, http: httpx.Client) -> None:
    body = {"inputs": DEEP, "parameters": {"max_new_tokens": 20, "details": True}}
    response = http.post(url + "/generate_stream", json=body)
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["x-accel-buffering"] == "no"
    *events, last, nothing = response.content.split(b"\n\n")
    assert nothing == b""
    assert len(events) == 19
    assert all(EVENT.fullmatch(event) for event in events)
    assert LAST.fullmatch(last)


def test_the_route_that_streams_if_it_is_told_to(url: str, http: httpx.Client) -> None:
    body = {"inputs": DEEP, "parameters": {"max_new_tokens": 8}}
    answer = http.post(url + "/generate", json=body).json()["generated_text"]
    assert http.post(url + "/", json=body).json() == [{"generated_text": DEEP + answer}]
    streamed = http.post(url + "/", json={**body, "stream": True})
    events = [json.loads(block[6:]) for block in streamed.content[:-2].split(b"\n\n")]
    assert "".join(event["token"]["text"] for event in events) == answer
    assert events[-1]["generated_text"] == DEEP + answer


EVENTS = 75
"""Three seconds of them at that pace."""
FIRST_EVENTS = 15
"""Are read while the server is still answering, even if the reader is two seconds late."""


def arrivals(lines: Iterator[bytes], meter: Meter, url: str) -> list[tuple[float, bool]]:
    """When each event came, and whether the server was still answering then."""
    return [(time.monotonic(), permits(meter, url) == 1) for line in lines if line.startswith(b"data: ")]


def check_arrivals(arrived: list[tuple[float, bool]]) -> None:
    times = [moment for moment, _ in arrived]
    assert len(times) == EVENTS
    assert all(answering for _, answering in arrived[:FIRST_EVENTS]), (
        "the answer had ended before its beginning was read"
    )
    assert times[-1] - times[0] > 0.6 * (EVENTS - 1) / PACE


async def test_events_come_one_by_one_over_httpx(paced: str, http: httpx.Client, meter: Meter) -> None:
    body = {"inputs": DEEP, "parameters": {**LONG, "max_new_tokens": EVENTS}}
    await eventually(lambda: permits(meter, paced) == 0)
    with http.stream("POST", paced + "/generate_stream", json=body) as response:
        check_arrivals(arrivals((line.encode() for line in response.iter_lines()), meter, paced))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_events_come_one_by_one_over_curl(paced: str, meter: Meter) -> None:
    await eventually(lambda: permits(meter, paced) == 0)
    command = ["curl", "-sS", "-N", "-X", "POST", paced + "/generate_stream", "-H", "Content-Type: application/json"]
    command += ["-d", json.dumps({"inputs": DEEP, "parameters": {**LONG, "max_new_tokens": EVENTS}})]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        try:
            assert curl.stdout is not None
            arrived = arrivals(iter(curl.stdout.readline, b""), meter, paced)
            curl.wait(60)
        finally:
            curl.kill()
    assert curl.returncode == 0
    check_arrivals(arrived)


# Stopping early -------------------------------------------------------------------------------------------------------


def _break_in_a_with(client: InferenceClient) -> None:
    with client.text_generation(CHEESE, stream=True, **LONG) as stream:
        for _ in stream:
            break


def _close(client: InferenceClient) -> None:
    stream = client.text_generation(CHEESE, stream=True, **LONG)
    next(stream)
    stream.close()
    with pytest.raises(IncompleteStreamError):
        stream.final()


def _break_off_a_loop(client: InferenceClient) -> None:
    for _ in client.text_generation(CHEESE, stream=True, **LONG):
        break
    gc.collect()


def _drop(client: InferenceClient) -> None:
    stream = client.text_generation(CHEESE, stream=True, details=True, **LONG)
    next(stream)
    del stream
    gc.collect()


def _fail_in_the_loop(client: InferenceClient) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        client.text_generation(CHEESE, stream=True, **LONG) as stream,
    ):
        for _ in stream:
            raise ZeroDivisionError


async def _async_break_in_a_with(client: AsyncInferenceClient) -> None:
    async with client.text_generation(CHEESE, stream=True, **LONG) as stream:
        async for _ in stream:
            break


async def _async_close(client: AsyncInferenceClient) -> None:
    stream = await client.text_generation(CHEESE, stream=True, **LONG)
    await anext(stream)
    await stream.aclose()
    with pytest.raises(IncompleteStreamError):
        await stream.final()


async def _async_drop(client: AsyncInferenceClient) -> None:
    async for _ in await client.text_generation(CHEESE, stream=True, **LONG):
        break
    gc.collect()


async def _cancel_a_reader(client: AsyncInferenceClient) -> None:
    reading = asyncio.Event()

    async def read() -> None:
        async for _ in client.text_generation(CHEESE, stream=True, **LONG):
            reading.set()

    task = asyncio.create_task(read())
    await asyncio.wait_for(reading.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _run_out_of_time(client: AsyncInferenceClient) -> None:
    def until_answering() -> None:
        end = time.monotonic() + 50
        while not re.search(r"^hfstream_permits_taken 1$", httpx.get(f"{client.model}/metrics").text, re.MULTILINE):
            assert time.monotonic() < end
            time.sleep(0.01)

    async with asyncio.TaskGroup() as tasks:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60) as limit:
                answering = tasks.create_task(asyncio.to_thread(until_answering))
                answering.add_done_callback(lambda _: limit.reschedule(asyncio.get_running_loop().time()))
                await client.text_generation(CHEESE, **LONG)


DROPPED = 'tgi_request_failure{err="dropped"}'


@pytest.mark.parametrize("leave", [_break_in_a_with, _close, _break_off_a_loop, _drop, _fail_in_the_loop])
async def test_leaving_early_is_seen_by_the_server(
    paced: str, url: str, meter: Meter, leave: Callable[[InferenceClient], None]
) -> None:
    for server in (paced, url):
        await until_free(meter, server)
        before = meter(server, DROPPED)
        with InferenceClient(server) as client:
            await asyncio.to_thread(leave, client)
            await check_given_up(server, meter, before + 1, engine=server == url)  # while the client is still open


@pytest.mark.parametrize(
    "leave", [_async_break_in_a_with, _async_close, _async_drop, _cancel_a_reader, _run_out_of_time]
)
async def test_leaving_early_is_seen_by_the_server_async(
    paced: str, url: str, meter: Meter, leave: Callable[[AsyncInferenceClient], Awaitable[None]]
) -> None:
    for server in (paced, url):
        await until_free(meter, server)
        before = meter(server, DROPPED)
        async with AsyncInferenceClient(server) as client:
            await leave(client)
            await check_given_up(server, meter, before + 1, engine=server == url)


async def test_closing_the_client_is_seen_by_the_server(variant: Variant, paced: str, url: str, meter: Meter) -> None:
    for server in (paced, url):
        await until_free(meter, server)
        before = meter(server, DROPPED)
        client = variant.client(server)
        streams = [await variant.open(client, CHEESE, **LONG) for _ in range(3)]
        assert permits(meter, server) == 3
        await variant.close(client)
        await check_given_up(server, meter, before + len(streams), engine=server == url)


async def check_given_up(server: str, meter: Meter, dropped: int, *, engine: bool) -> None:
    """The permit is free (a paced answer would hold it for a minute), and `engine`: its place in the batch is, too.

    An engine finishes a response that has no reader as well. So a shorter response is requested: an engine that had
    kept the other one would still have it when that is complete.
    """
    if engine:
        started = time.monotonic()
        async with AsyncInferenceClient(server) as client:
            shorter: TextGenerationParameters = {**LONG, "max_new_tokens": 300}
            assert await client.text_generation(CHEESE, **shorter)
        took = time.monotonic() - started  # the rest of the other one would take five times as long
        await eventually(lambda: load(meter, server)[1] == 0, within=took)
    await eventually(lambda: permits(meter, server) == 0)
    assert meter(server, DROPPED) == dropped


# Overload -------------------------------------------------------------------------------------------------------------

SHORT: TextGenerationParameters = {"max_new_tokens": 8}
IMPATIENT_WAIT = 0.05
"""Cuts the server's Retry-After of a second short, where a test does not look at the wait."""


@pytest.fixture(scope="module")
def narrow(shared_engine: SharedEngine) -> Iterator[str]:
    with BackgroundServer(
        Settings(max_concurrent_requests=2, tokens_per_second=2 * PACE), engine=shared_engine.connect()
    ) as server:
        yield server.url


class Holders:
    """Two answers that take both permits of a server until they are let go."""

    def __init__(self, url: str, http: httpx.Client, meter: Meter) -> None:
        self.url, self._meter = url, meter
        body = {"inputs": CHEESE, "parameters": LONG}
        self._answers = [
            http.send(http.build_request("POST", url + "/generate_stream", json=body), stream=True) for _ in range(2)
        ]
        assert [answer.status_code for answer in self._answers] == [200, 200]
        self._refused_before = self._refused()

    def let_one_go(self) -> None:
        self._answers.pop().close()

    def close(self) -> None:
        while self._answers:
            self.let_one_go()

    @property
    def refused(self) -> int:
        """How many requests the server has refused since both permits are taken."""
        return self._refused() - self._refused_before

    def _refused(self) -> int:
        return self._meter(self.url, 'tgi_request_failure{err="overloaded"}')


@pytest.fixture
async def holders(narrow: str, http: httpx.Client, meter: Meter) -> AsyncIterator[Holders]:
    await eventually(lambda: permits(meter, narrow) == 0)
    holders = Holders(narrow, http, meter)
    yield holders
    holders.close()
    await eventually(lambda: permits(meter, narrow) == 0)


@pytest.mark.parametrize("details", [False, True], ids=["text", "details"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("retry", [None, 1])
async def test_without_retries_the_call_itself_raises_at_once(
    variant: Variant, clients: Clients, holders: Holders, stream: bool, details: bool, retry: int | None
) -> None:
    client = clients(holders.url, retry=retry)
    with pytest.raises(OverloadedError, match=r"^Model is overloaded$") as caught:
        await (variant.open if stream else variant.whole)(client, CHEESE, details=details)
    assert caught.value.status_code == 429
    assert caught.value.error_type == "overloaded"
    assert caught.value.retry_after == 1
    assert caught.value.retryable
    assert holders.refused == 1


async def test_the_refusal_on_the_wire(holders: Holders, http: httpx.Client) -> None:
    response = http.post(holders.url + "/generate_stream", json={"inputs": CHEESE})
    assert response.status_code == 429
    assert response.content == b'{"error":"Model is overloaded","error_type":"overloaded"}'
    assert response.headers["retry-after"] == "1"


async def test_the_default_client_waits_and_gets_its_answer(
    variant: Variant, clients: Clients, holders: Holders, meter: Meter
) -> None:
    call = asyncio.create_task(variant.open(clients(holders.url), CHEESE, **SHORT))
    await eventually(lambda: holders.refused == 1)
    assert not call.done()
    holders.let_one_go()
    stream = await asyncio.wait_for(call, 60)
    refused, answered = stream.attempts
    assert (refused.status_code, answered.status_code) == (429, 200)
    assert isinstance(refused.error, OverloadedError)
    assert 1 <= answered.delay <= 1.5, "as long as the server asked for, and a little more"
    assert len(await variant.rest(stream)) == 8
    assert stream.finish_reason is FinishReason.Length


async def test_a_policy_asks_so_often_and_no_more(variant: Variant, clients: Clients, holders: Holders) -> None:
    client = clients(holders.url, retry=RetryPolicy(attempts=4, wait=tenacity.wait_none()))
    with pytest.raises(OverloadedError):
        await variant.open(client, CHEESE)
    assert holders.refused == 4
    with pytest.raises(OverloadedError):
        await variant.whole(client, CHEESE)
    assert holders.refused == 8


PATIENT = tenacity.stop_after_delay(60)

WRAPPERS = [
    pytest.param(
        tenacity.retry(
            retry=retry_if_overloaded, wait=wait_retry_after(tenacity.wait_none(), IMPATIENT_WAIT), stop=PATIENT
        ),
        id="tenacity, our strategies",
    ),
    pytest.param(
        tenacity.retry(
            retry=tenacity.retry_if_exception_type(OverloadedError), wait=tenacity.wait_fixed(0.05), stop=PATIENT
        ),
        id="tenacity, its own",
    ),
    pytest.param(retry_on_overload(stop=PATIENT, max_wait=2), id="retry_on_overload"),  # Retry-After is 1
    pytest.param(retry_on_overload(), id="retry_on_overload by default"),
]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
async def test_a_wrapped_function_gets_its_answer_when_a_permit_comes_free(
    variant: Variant, clients: Clients, url: str, holders: Holders, wrapper: Any, stream: bool
) -> None:
    client = clients(holders.url, retry=None)
    call: asyncio.Task[Any]
    if variant.name == "sync":

        def plain() -> Any:
            return client.text_generation(CHEESE, stream=stream, **SHORT)

        call = asyncio.create_task(asyncio.to_thread(wrapper(plain)))
    else:

        async def coroutine() -> Any:
            return await client.text_generation(CHEESE, stream=stream, **SHORT)

        call = asyncio.create_task(wrapper(coroutine)())
    await eventually(lambda: holders.refused > 0)
    assert not call.done()
    holders.let_one_go()
    answer = await asyncio.wait_for(call, 60)
    text = await variant.final(answer) if stream else answer
    assert text == await variant.whole(clients(url), CHEESE, **SHORT)


async def test_a_wrapped_function_raises_the_last_error_after_its_last_attempt(
    variant: Variant, clients: Clients, holders: Holders
) -> None:
    client = clients(holders.url, retry=None)
    wrapper = retry_on_overload(attempts=3, wait=tenacity.wait_none())
    with pytest.raises(OverloadedError, match="Model is overloaded"):
        if variant.name == "sync":
            await asyncio.to_thread(wrapper(lambda: client.text_generation(CHEESE, stream=True)))
        else:

            async def ask() -> Any:
                return await client.text_generation(CHEESE, stream=True)

            await wrapper(ask)()
    assert holders.refused == 3


async def test_twelve_at_once_all_get_their_whole_answer_from_two_permits(
    variant: Variant, clients: Clients, narrow: str, meter: Meter
) -> None:
    retrying = RetryPolicy(wait=tenacity.wait_random(0.01, 0.1), stop=tenacity.stop_after_delay(120))
    await eventually(lambda: permits(meter, narrow) == 0)
    expected = await variant.whole(clients(narrow), CHEESE, **SHORT)
    # Or the plain clients would queue for a few threads. The loop ends it when it ends.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(12))

    async def ask(client: Any, stream: bool) -> tuple[str, int]:
        if not stream:
            return await variant.whole(client, CHEESE, **SHORT), 0
        answer = await variant.open(client, CHEESE, **SHORT)
        text = "".join(await variant.rest(answer))
        assert await variant.final(answer) == text
        return text, len(answer.attempts)

    callers = [clients(narrow, retry=retrying) for _ in range(12)]
    answers = await asyncio.gather(*(ask(client, number % 3 > 0) for number, client in enumerate(callers)))
    assert [text for text, _ in answers] == [expected] * 12
    assert max(attempts for _, attempts in answers) > 1, "no request was refused: there were too few at once"
    await eventually(lambda: permits(meter, narrow) == 0)
