"""A client with several endpoints."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest

from hfstream import AsyncInferenceClient, IncompleteStreamError, InferenceClient, InferenceConnectionError
from hfstream.testing import Fault, Request, Response, ScriptedServer, chat_events, token_events
from tests.helpers.variants import HI, Clients, Variant

EVENTS = token_events("a", "b", "c", finish_reason="length")


async def test_requests_go_to_the_one_with_the_fewest(variant: Variant, clients: Clients) -> None:
    stalled = Response([*EVENTS[:1], Fault.STALL])
    with ScriptedServer(stalled, Response(EVENTS)) as first, ScriptedServer(Response(EVENTS)) as second:
        client = clients([first.url, second.url])
        kept = await variant.open(client)
        for _ in range(4):
            assert await variant.rest(await variant.open(client)) == ["a", "b", "c"]
        assert (len(first.requests), len(second.requests)) == (1, 4)
        await variant.close(kept)
        assert await variant.rest(await variant.open(client)) == ["a", "b", "c"]
        assert len(first.requests) == 2
        assert [attempt.url for attempt in kept.attempts] == [first.url]


@pytest.mark.parametrize("chat", [False, True])
async def test_one_that_is_overloaded_or_gone_rests_and_the_other_answers(
    variant: Variant, clients: Clients, chat: bool
) -> None:
    answers = Response(chat_events("a", "b")) if chat else Response(EVENTS)
    busy = Response.error(429, "Model is overloaded", "overloaded", retry_after="30")
    with ScriptedServer(busy) as first, ScriptedServer(answers) as second:
        client = clients([first.url, second.url])
        for _ in range(3):
            stream = await (variant.open_chat(client) if chat else variant.open(client))
            assert len(await variant.rest(stream)) >= 2
        assert (len(first.requests), len(second.requests)) == (1, 3)
        gone = clients(["http://127.0.0.1:9", second.url])
        stream = await (variant.open_chat(gone, HI) if chat else variant.open(gone))
        assert [attempt.url for attempt in stream.attempts] == ["http://127.0.0.1:9", second.url]
        assert isinstance(stream.attempts[0].error, InferenceConnectionError)
        await variant.close(stream)


async def test_a_greedy_text_goes_on_at_another_server(variant: Variant, clients: Clients) -> None:
    lost = Response([*EVENTS[:1], Fault.RESET])

    def other(request: Request) -> Response:
        if request.path == "/tokenize":
            ids = [7] if request.json()["inputs"] == "Hi" else [7, 101]
            return Response.json([{"id": token, "text": "x", "start": 0, "stop": 1} for token in ids])
        assert request.json()["inputs"] == "Hia"
        return Response(token_events("b", "c", finish_reason="length"))

    with ScriptedServer(lost) as first, ScriptedServer(other) as second:
        client = clients([first.url, second.url], resume=True, max_concurrency=1)
        stream = await variant.open(client, max_new_tokens=3)
        assert await variant.rest(stream) == ["a", "b", "c"]
        assert [attempt.url for attempt in stream.attempts] == [first.url, second.url, second.url, second.url]
        assert client._requests.limiter.running == 0
        assert not any(endpoint.outstanding for endpoint in client._requests._pool.endpoints)


async def test_a_sampled_text_does_not(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([*EVENTS[:1], Fault.RESET])) as first, ScriptedServer(Response(EVENTS)) as second:
        client = clients([first.url, second.url], resume=True)
        stream = await variant.open(client, max_new_tokens=3, do_sample=True)
        with pytest.raises(IncompleteStreamError, match="it is sampled") as caught:
            await variant.rest(stream)
        assert (caught.value.url, caught.value.partial_text, len(second.requests)) == (first.url, "a", 0)


async def test_map_uses_all_of_them(variant: Variant, clients: Clients) -> None:
    lock, counts = threading.Lock(), {"first": 0, "second": 0}

    def count(name: str) -> Any:
        def answer(request: Request) -> Response:
            with lock:
                counts[name] += 1
            return Response(token_events(request.json()["inputs"], finish_reason="length"))

        return answer

    with ScriptedServer(count("first")) as first, ScriptedServer(count("second")) as second:
        client = clients([first.url, second.url])
        results = await variant.rest(client.map(map(str, range(60)), max_concurrency=4))
        assert [result.output for result in results] == [str(number) for number in range(60)]
    assert sum(counts.values()) == 60
    assert min(counts.values()) > 10


async def test_a_calls_own_model_and_credentials(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(EVENTS)) as first, ScriptedServer(Response(EVENTS)) as second:
        client = clients([first.url.replace("//", "//u:1@"), second.url.replace("//", "//u:2@")])
        for url in (None, None, second.url):
            await variant.rest(await variant.open(client, model=url))
        sent = [request.headers.get("authorization") for request in first.requests + second.requests]
        assert sent == ["Basic dTox", "Basic dToy", None]


async def test_a_name_of_a_model_is_sent_to_all_of_them(variant: Variant, clients: Clients) -> None:
    answers = Response(chat_events("a"))
    with ScriptedServer(answers) as first, ScriptedServer(answers) as second:
        client = clients([f"{first.url}/v1", f"{second.url}/v1"])
        for _ in range(2):
            await variant.rest(await variant.open_chat(client, HI, model="small"))
        for server in (first, second):
            assert [(request.path, request.json()["model"]) for request in server.requests] == [
                ("/v1/chat/completions", "small")
            ]


@pytest.mark.parametrize("client", [InferenceClient, AsyncInferenceClient])
def test_what_such_a_client_shows(client: Any) -> None:
    made = client(["http://a:1/generate", "http://u:p@b"])
    for each in (made, copy.copy(made), pickle.loads(pickle.dumps(made))):
        assert (each.model, each.base_url) == ("http://a:1/generate", "http://a:1/generate")
        assert each.endpoints == ("http://a:1/generate", "http://u:p@b")
        assert repr(each) == f"{client.__name__}(model='http://a:1, http://b')"
    assert client("http://a").endpoints == client(["http://a"]).endpoints == ("http://a",)
    assert client("org/name").endpoints == client().endpoints == ()


@pytest.mark.parametrize(
    ("urls", "error", "message"),
    [
        ([], ValueError, "at least one URL"),
        (["http://a", "http://a"], ValueError, "none of them twice"),
        (["http://a", "org/name"], ValueError, "'org/name' is not a URL"),
        (["http://a", "b:80"], ValueError, "did you mean 'http://b:80'"),
        (["http://a", None], TypeError, "must be strings, not NoneType"),
        (["http://a", "http://b/v1"], ValueError, "several kinds"),
    ],
)
@pytest.mark.parametrize("client", [InferenceClient, AsyncInferenceClient])
def test_lists_that_are_refused(client: Any, urls: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        client(urls)


def test_a_forked_child_has_no_outstanding_requests() -> None:
    pool: Any = InferenceClient(["http://a", "http://b"])._requests._pool
    pool.choose(object(), 0.0)
    pool._after_fork()
    assert [len(endpoint.outstanding) for endpoint in pool.endpoints] == [0, 0]


@pytest.mark.parametrize("make", [InferenceClient, AsyncInferenceClient])
def test_a_client_with_other_options_has_the_same_servers(make: type[InferenceClient]) -> None:
    client = make(["http://a:1", "http://b:2"])
    assert client.with_options(timeout=5).endpoints == client.endpoints == ("http://a:1", "http://b:2")
    assert client.with_options(model="http://c:3").endpoints == ("http://c:3",)
