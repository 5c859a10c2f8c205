"""text_generation in its four forms, on both faces, over a real port."""

from __future__ import annotations

import asyncio
import gc
import inspect
from typing import Any

import httpx
import pytest
import respx
import trio

from hfstream import (
    AsyncInferenceClient,
    AuthenticationError,
    Details,
    FinishReason,
    IncompleteStreamError,
    InferenceClient,
    InferenceConnectionError,
    InferenceTimeoutError,
    NotFoundError,
    OverloadedError,
    RetryPolicy,
    StreamDetails,
    StreamResponse,
    TextGenerationResponse,
    Token,
    UnexpectedResponseError,
    ValidationError,
)
from hfstream.testing import Fault, Response, ScriptedServer, final_event, token_event, token_events
from tests.helpers.variants import Clients, Variant

QUICK = RetryPolicy(attempts=3, max_wait=0.05)
WHOLE = {
    "generated_text": "Hello, you",
    "details": {
        "finish_reason": "eos_token",
        "generated_tokens": 4,
        "seed": None,
        "prefill": [],
        "tokens": [
            {"id": 101, "text": "Hello", "logprob": -0.5, "special": False},
            {"id": 102, "text": ",", "logprob": -0.5, "special": False},
            {"id": 103, "text": " you", "logprob": -0.5, "special": False},
            {"id": 104, "text": "</s>", "logprob": -0.5, "special": True},
        ],
    },
}
STREAM = token_events("Hello", ",", " you", finish_reason="eos_token")


async def test_a_stream_of_text_has_one_item_for_each_token_that_is_text(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(STREAM)) as server:
        stream = await variant.open(clients(server.url))
        assert await variant.rest(stream) == ["Hello", ",", " you"]
        assert stream.text == "Hello, you"
        assert stream.finish_reason is FinishReason.EndOfSequenceToken
        assert stream.usage.completion_tokens == 4
        assert stream.usage.prompt_tokens == 7
        assert stream.metrics.tokens == 4
        assert [attempt.status_code for attempt in stream.attempts] == [200]


async def test_a_stream_of_details_has_one_response_for_each_token(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(STREAM)) as server:
        responses = await variant.rest(await variant.open(clients(server.url), details=True))
    assert all(isinstance(response, StreamResponse) for response in responses)
    assert [response.token.text for response in responses] == ["Hello", ",", " you", "</s>"]
    assert [response.index for response in responses] == [1, 2, 3, 4]
    assert responses[0].token == Token(id=101, text="Hello", logprob=-0.5, special=False)
    assert responses[0]["token"]["id"] == 101
    assert responses[-1].generated_text == "Hello, you"
    assert responses[-1].details == StreamDetails(
        finish_reason=FinishReason.EndOfSequenceToken, generated_tokens=4, seed=None, input_length=7
    )


async def test_a_whole_text_is_a_string(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response.json({"generated_text": "Hello, you"})) as server:
        assert await variant.whole(clients(server.url)) == "Hello, you"
        assert server.requests[0].path == "/generate"
        assert server.requests[0].json() == {"inputs": "Hi", "parameters": {}}


@pytest.mark.parametrize("wrapped", [False, True], ids=["object", "list of one"])
async def test_a_whole_answer_with_details(variant: Variant, clients: Clients, wrapped: bool) -> None:
    with ScriptedServer(Response.json([WHOLE] if wrapped else WHOLE)) as server:
        answer = await variant.whole(clients(server.url), details=True)
    assert isinstance(answer, TextGenerationResponse)
    assert isinstance(answer.details, Details)
    assert answer.details.finish_reason is FinishReason.EndOfSequenceToken
    assert [token.text for token in answer.details.tokens] == ["Hello", ",", " you", "</s>"]


@pytest.mark.parametrize("details", [False, True])
async def test_final_is_what_the_call_without_stream_returns(variant: Variant, clients: Clients, details: bool) -> None:
    with ScriptedServer(Response(STREAM), Response.json(WHOLE)) as server:
        client = clients(server.url)
        streamed = await variant.final(await variant.open(client, details=details))
        assert streamed == await variant.whole(client, details=details)


async def test_final_after_a_few_tokens_is_still_the_whole(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(STREAM)) as server:
        stream = await variant.open(clients(server.url))
        assert await variant.next(stream) == "Hello"
        assert await variant.final(stream) == "Hello, you"
        assert await variant.final(stream) == "Hello, you"


async def test_the_servers_own_text_is_what_counts(variant: Variant, clients: Clients) -> None:
    events = [token_event(1, " To"), final_event(2, " sell", "To sell")]  # seq2seq models lose the leading space
    with ScriptedServer(Response(events)) as server:
        stream = await variant.open(clients(server.url))
        assert await variant.final(stream) == "To sell"
        assert stream.text == " To sell"


async def test_every_parameter_is_sent_as_it_is(variant: Variant, clients: Clients) -> None:
    parameters: dict[str, Any] = {
        "adapter_id": "lora", "best_of": 2, "decoder_input_details": True, "do_sample": True, "frequency_penalty": 0.1,
        "grammar": {"type": "json", "value": {"properties": {"a": None}}}, "max_new_tokens": 5,
        "repetition_penalty": 1.1, "return_full_text": True, "seed": 2**64 - 1, "stop": ["x"], "temperature": 0.5,
        "top_k": 3, "top_n_tokens": 2, "top_p": 0.9, "truncate": 10, "typical_p": 0.8, "watermark": True,
    }  # fmt: skip
    with ScriptedServer(Response.json(WHOLE)) as server:
        await variant.whole(clients(server.url), details=True, **parameters)
        assert server.requests[0].json() == {"inputs": "Hi", "parameters": {**parameters, "details": True}}


async def test_the_stream_returns_with_its_first_token_in_hand(variant: Variant, clients: Clients) -> None:
    first, *rest = STREAM
    with ScriptedServer(Response([first, Fault.STALL, *rest])) as server:
        stream = await variant.open(clients(server.url))
        assert stream.metrics.tokens == 1
        assert await variant.next(stream) == "Hello"
        await variant.close(stream)


async def test_tokens_come_as_they_are_made(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([STREAM[0], 0.3, *STREAM[1:]])) as server:
        stream = await variant.open(clients(server.url))
        await variant.rest(stream)
    assert stream.metrics.inter_token.max >= 0.25
    assert stream.metrics.duration - stream.metrics.time_to_first_token >= 0.25


# What goes wrong -----------------------------------------------------------------------------------------------------


async def test_a_refusal_has_the_servers_words(variant: Variant, clients: Clients) -> None:
    words = "Input validation error: `max_new_tokens` must be strictly positive"
    with ScriptedServer(Response.error(422, words, "validation")) as server:
        for ask in (variant.open, variant.whole):
            with pytest.raises(ValidationError) as caught:
                await ask(clients(server.url), max_new_tokens=0)
            assert str(caught.value) == words
            assert caught.value.status_code == 422
        assert len(server.requests) == 2  # never again


@pytest.mark.parametrize(("status", "expected"), [(401, AuthenticationError), (404, NotFoundError)])
async def test_an_empty_refusal_says_what_to_check(
    variant: Variant, clients: Clients, status: int, expected: type[Exception]
) -> None:
    with ScriptedServer(Response(status=status)) as server, pytest.raises(expected, match="check the"):
        await variant.open(clients(server.url))


async def test_an_error_in_the_first_event_is_raised_by_the_call(variant: Variant, clients: Clients) -> None:
    event = b'data: {"error":"Model is overloaded","error_type":"overloaded"}\n\n'
    with ScriptedServer(Response([event])) as server:
        with pytest.raises(OverloadedError) as caught:
            await variant.open(clients(server.url, retry=None))
        assert caught.value.status_code == 429


async def test_an_error_in_the_middle_keeps_what_was_said(variant: Variant, clients: Clients) -> None:
    event = b'data: {"error":"Request failed during generation: oops","error_type":"generation"}\n\n'
    with ScriptedServer(Response([STREAM[0] + STREAM[1] + event])) as server:
        stream = await variant.open(clients(server.url))
        assert [await variant.next(stream), await variant.next(stream)] == ["Hello", ","]
        with pytest.raises(Exception, match="oops") as caught:
            await variant.next(stream)
        assert caught.value.partial_text == "Hello,"  # type: ignore[attr-defined]


async def test_an_early_end_is_no_answer(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(STREAM[:2])) as server:
        stream = await variant.open(clients(server.url))
        with pytest.raises(IncompleteStreamError, match="after 2 tokens") as caught:
            await variant.rest(stream)
        assert caught.value.partial_text == "Hello,"
        with pytest.raises(IncompleteStreamError):
            await variant.final(stream)


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.RESET])
async def test_a_lost_connection_is_typed(variant: Variant, clients: Clients, fault: Fault) -> None:
    with ScriptedServer(Response([*STREAM[:2], 0.05, fault])) as server:
        stream = await variant.open(clients(server.url))
        with pytest.raises(InferenceConnectionError) as caught:
            await variant.rest(stream)
        assert isinstance(caught.value, ConnectionError)
        assert caught.value.partial_text == "Hello,"


@pytest.mark.parametrize(
    ("kind", "body", "expected", "words"),
    [
        ("text/html", b"<!doctype html><title>Sign in</title>", UnexpectedResponseError, "Sign in"),
        ("application/json", b'{"generated_text": "all at once"}', UnexpectedResponseError, "all at once"),
        ("application/json", b'{"error":"Model is overloaded","error_type":"overloaded"}', OverloadedError, "Model is"),
        ("text/event-stream", b"<html>not at all</html>", UnexpectedResponseError, "not at all"),
        ("text/event-stream", b"data: hello\n\n", UnexpectedResponseError, "hello"),
        ("text/event-stream", b"", IncompleteStreamError, "without a token"),
        ("text/event-stream", b"data: [DONE]\n\n", IncompleteStreamError, "without a token"),
        (None, b"", IncompleteStreamError, "without a token"),
    ],
)
async def test_a_200_that_is_no_stream(
    variant: Variant, clients: Clients, kind: str | None, body: bytes, expected: type[Exception], words: str
) -> None:
    with ScriptedServer(Response([body], content_type=kind)) as server, pytest.raises(expected, match=words):
        await variant.open(clients(server.url, retry=None))


async def test_a_server_that_is_not_there(variant: Variant, clients: Clients) -> None:
    with ScriptedServer() as server:
        url = server.url
    with pytest.raises(InferenceConnectionError, match=r"cannot connect to http://127.*hfstream serve") as caught:
        await variant.open(clients(url, retry=None))
    assert isinstance(caught.value.__cause__, httpx.ConnectError | Exception)


async def test_a_name_that_does_not_resolve(variant: Variant, clients: Clients) -> None:
    with pytest.raises(InferenceConnectionError, match=r"cannot connect to http://no-such-host\.invalid"):
        await variant.open(clients("http://no-such-host.invalid", retry=None))


async def test_a_mistyped_parameter_is_named_with_the_right_one(variant: Variant, clients: Clients) -> None:
    with pytest.raises(TypeError, match="did you mean `max_new_tokens`"):
        await variant.open(clients("http://127.0.0.1:1"), max_new_token=5)


# Retry ---------------------------------------------------------------------------------------------------------------

OVERLOADED = Response.error(429, "Model is overloaded", "overloaded", Retry_After="0.01")


@pytest.mark.parametrize(
    "failure",
    [
        OVERLOADED,
        Response.error(503, "loading", "loading"),
        Response([b'data: {"error":"Model is overloaded","error_type":"overloaded"}\n\n']),
        Response([]),
        Response([Fault.DROP]),
        Response([Fault.RESET]),
        Response.error(502, "bad gateway"),
    ],
    ids=["429", "503", "overloaded in a 200", "empty", "dropped", "reset", "502"],
)
@pytest.mark.slow
async def test_until_the_first_token_failures_of_the_moment_are_forgiven(
    variant: Variant, clients: Clients, failure: Response
) -> None:
    with ScriptedServer(failure, failure, Response(STREAM)) as server:
        stream = await variant.open(clients(server.url, retry=QUICK))
        assert await variant.rest(stream) == ["Hello", ",", " you"]
        assert len(server.requests) == 3
        assert [attempt.error is None for attempt in stream.attempts] == [False, False, True]


async def test_whole_answers_are_retried_too(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(OVERLOADED, Response.json(WHOLE)) as server:
        assert await variant.whole(clients(server.url, retry=QUICK)) == "Hello, you"


async def test_the_number_of_attempts_is_limited(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(OVERLOADED) as server:
        with pytest.raises(OverloadedError):
            await variant.open(clients(server.url, retry=QUICK))
        assert len(server.requests) == 3


async def test_after_the_first_token_nothing_is_asked_again(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([STREAM[0], 0.05, Fault.DROP]), Response(STREAM)) as server:
        stream = await variant.open(clients(server.url, retry=QUICK))
        with pytest.raises(InferenceConnectionError):
            await variant.rest(stream)
        assert len(server.requests) == 1


async def test_retry_none_never_asks_again(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(OVERLOADED) as server:
        with pytest.raises(OverloadedError) as caught:
            await variant.open(clients(server.url, retry=None))
        assert caught.value.retry_after == 0.01
        assert len(server.requests) == 1


# The user's own httpx client -----------------------------------------------------------------------------------------


def _mock(status: int, body: bytes, kind: str) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(status, headers={"content-type": kind}, content=body))


async def test_a_users_client_is_used_as_it_is_and_not_closed(variant: Variant, clients: Clients) -> None:
    transport = _mock(200, b"".join(STREAM), "text/event-stream")
    own: Any = (httpx.Client if variant.name == "sync" else httpx.AsyncClient)(transport=transport)
    client = clients("http://model", http_client=own)
    assert await variant.rest(await variant.open(client)) == ["Hello", ",", " you"]
    await variant.close(client)
    assert not own.is_closed


@pytest.mark.slow
async def test_a_client_of_httpx2_is_as_good(variant: Variant, clients: Clients) -> None:
    httpx2 = pytest.importorskip("httpx2")  # not with the lowest versions that hfstream allows: it needs a newer anyio
    own: Any = (httpx2.Client if variant.name == "sync" else httpx2.AsyncClient)()
    with ScriptedServer(Response(STREAM), Response([STREAM[0], Fault.STALL])) as server:
        client = clients(server.url, http_client=own)
        assert await variant.rest(await variant.open(client)) == ["Hello", ",", " you"]
        with pytest.raises(InferenceTimeoutError) as caught:
            await variant.rest(await variant.open(client, timeout=1.0))
        assert caught.value.phase == "between_tokens"
        assert type(caught.value.__cause__).__module__.startswith("httpx2")
        assert server.wait_until_running(0)
    await asyncio.to_thread(own.close) if variant.name == "sync" else await own.aclose()


async def test_a_foreign_exception_stays_what_it_is(variant: Variant, clients: Clients) -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError("not yours")

    transport = httpx.MockTransport(refuse)
    own: Any = (httpx.Client if variant.name == "sync" else httpx.AsyncClient)(transport=transport)
    with pytest.raises(ZeroDivisionError):
        await variant.open(clients("http://model", http_client=own))


async def test_respx_can_stand_for_the_network(variant: Variant, clients: Clients) -> None:
    own: Any = (httpx.Client if variant.name == "sync" else httpx.AsyncClient)()
    with respx.mock:
        route = respx.post("http://model/generate").respond(json={"generated_text": "mocked"})
        assert await variant.whole(clients("http://model", http_client=own)) == "mocked"
    assert route.call_count == 1
    await asyncio.to_thread(own.close) if variant.name == "sync" else await own.aclose()


# Only async: all the ways in which people write it -------------------------------------------------------------------


async def test_the_async_stream_in_every_spelling() -> None:
    with ScriptedServer(Response(STREAM)) as server:
        async with AsyncInferenceClient(server.url) as client:
            expected = ["Hello", ",", " you"]
            assert [token async for token in await client.text_generation("Hi", stream=True)] == expected
            assert [token async for token in client.text_generation("Hi", stream=True)] == expected
            async with client.text_generation("Hi", stream=True) as stream:
                assert [token async for token in stream] == expected
            task = asyncio.create_task(client.text_generation("Hi", stream=True))
            assert [token async for token in await task] == expected
            both = await asyncio.gather(*(client.text_generation("Hi", stream=True) for _ in range(2)))
            assert [await stream.final() for stream in both] == ["Hello, you"] * 2
            client.text_generation("Hi", stream=True)  # dropped: silent
            whole = client.text_generation("Hi")
            assert inspect.iscoroutine(whole)
            whole.close()


def test_one_async_client_survives_event_loops() -> None:
    with ScriptedServer(Response(STREAM)) as server:
        client = AsyncInferenceClient(server.url)

        async def once() -> str:
            async with client.text_generation("Hi", stream=True) as stream:
                return await stream.final()

        assert asyncio.run(once()) == "Hello, you"
        assert trio.run(once) == "Hello, you"
        assert asyncio.run(once()) == "Hello, you"
        gc.collect()  # an idle connection that was left open would warn now


def test_a_plain_loop_as_the_documentation_writes_it() -> None:
    with ScriptedServer(Response(STREAM)) as server, InferenceClient(server.url) as client:
        assert list(client.text_generation("How do you make cheese?", max_new_tokens=12, stream=True)) == [
            "Hello", ",", " you"
        ]  # fmt: skip
        assert client.text_generation("x", stream=True).final() == "Hello, you"
