"""What a server says of itself and of a text: info, health, tokens, models. On both faces, over a real port."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hfstream import (
    AuthenticationError,
    InferenceConnectionError,
    InferenceTimeoutError,
    Model,
    NotFoundError,
    OverloadedError,
    RetryPolicy,
    ServerError,
    SimpleToken,
    Timeouts,
    UnexpectedResponseError,
    ValidationError,
)
from hfstream.testing import Fault, Response, ScriptedServer
from tests.helpers.variants import Clients, Variant

QUICK = RetryPolicy(attempts=3, max_wait=0.05)
INFO = {"model_id": "org/name", "model_sha": None, "max_concurrent_requests": 128, "version": "3.3.7"}
TOKENS = [{"id": 1, "text": "", "start": 0, "stop": 0}, {"id": 15043, "text": "Grüß", "start": 0, "stop": 6}]
MODELS = {"object": "list", "data": [{"id": "a", "object": "model", "created": 5, "owned_by": "b", "root": None}]}
TASKS = {"get_endpoint_info": (), "health_check": (), "tokenize": ("Hi",), "list_models": ()}
ROUTES = {"get_endpoint_info": "/info", "health_check": "/health", "tokenize": "/tokenize", "list_models": "/v1/models"}


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def empty(status: int) -> Response:
    return Response([], status, None)


async def test_what_a_server_is(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response.json(INFO)) as server:
        info = await variant.ask(clients(server.url), "get_endpoint_info")
        assert info == INFO
        assert type(info) is dict


async def test_the_tokens_of_a_text(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response.json(TOKENS)) as server:
        tokens = await variant.ask(clients(server.url), "tokenize", "Grüß")
        assert tokens == [SimpleToken(**token) for token in TOKENS]
        assert tokens[1]["text"] == "Grüß"
        assert server.requests[0].json() == {"inputs": "Grüß"}


async def test_the_models_that_there_are(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response.json(MODELS)) as server:
        [model] = await variant.ask(clients(server.url), "list_models")
    assert model == Model(id="a", created=5, owned_by="b", root=None)
    assert model["root"] is None


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        ({"data": []}, []),
        ({"data": None, "object": "list"}, []),  # an Ollama that has none
        ({"data": [{"id": "a", "created": 1.5}, {"id": "b", "created": None, "object": None}]}, ["a", "b"]),
        ({"data": [{"id": 5}]}, ["5"]),
    ],
)
async def test_models_bend(variant: Variant, clients: Clients, body: Any, ids: list[str]) -> None:
    with ScriptedServer(Response.json(body)) as server:
        assert [model.id for model in await variant.ask(clients(server.url), "list_models")] == ids


async def test_where_it_is_asked_and_how(variant: Variant, clients: Clients, task: str) -> None:
    method = "POST" if task == "tokenize" else "GET"
    with ScriptedServer(Response.json(TOKENS if task == "tokenize" else {**INFO, **MODELS})) as server:
        for prefix in ("", "/", "/v1", "/v1/chat/completions", "/generate", "/a/v1?k=1"):
            await variant.ask(clients(f"{server.url}{prefix}", token="t"), task, *TASKS[task])
        await variant.ask(clients("http://nowhere.invalid"), task, *TASKS[task], model=server.url)
        assert [request.method for request in server.requests] == [method] * 7
        route = ROUTES[task]
        assert [request.path for request in server.requests] == [route] * 5 + [f"/a{route}?k=1", route]
        assert server.requests[0].headers["authorization"] == "Bearer t"
        assert server.requests[0].headers["accept"] == "application/json"
        assert (server.requests[0].body == b"") == (method == "GET")


# --- Health ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [empty(200), empty(204), Response([b"OK"], content_type="text/plain"), Response.json({})]
)
async def test_a_server_that_is_well(variant: Variant, clients: Clients, answer: Response) -> None:
    with ScriptedServer(answer) as server:
        assert await variant.ask(clients(server.url), "health_check") is True


@pytest.mark.parametrize(
    "answer", [Response.error(503, "unhealthy", "healthcheck"), empty(503), empty(500), Response.error(429, "busy")]
)
async def test_a_server_that_is_ill_is_asked_once(variant: Variant, clients: Clients, answer: Response) -> None:
    with ScriptedServer(answer) as server:
        assert await variant.ask(clients(server.url, retry=QUICK), "health_check") is False
        assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "kind"), [(404, NotFoundError), (401, AuthenticationError)])
async def test_a_server_of_another_kind_is_neither(
    variant: Variant, clients: Clients, status: int, kind: type[Exception]
) -> None:
    with ScriptedServer(empty(status)) as server, pytest.raises(kind):
        await variant.ask(clients(server.url), "health_check")


async def test_a_server_that_is_not_there_raises_at_once(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(empty(200)) as server:
        url = server.url
    with pytest.raises(InferenceConnectionError):
        await variant.ask(clients(url, retry=RetryPolicy(attempts=50)), "health_check")


@pytest.mark.slow
async def test_a_server_that_says_nothing_runs_into_a_limit(variant: Variant, clients: Clients, task: str) -> None:
    with ScriptedServer(Response([Fault.STALL], content_type="application/json")) as server:
        client = clients(server.url, retry=None)
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError):
            await variant.ask(client, task, *TASKS[task], timeout=Timeouts(first_token=0.2, between_tokens=300))
        assert time.monotonic() - started < 60
        assert server.wait_until_running(0)


# --- What goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Response.error(404, "no route"), NotFoundError, "no route"),
        (Response.error(422, "Input validation error: x", "validation"), ValidationError, "Input validation error: x"),
        (empty(401), AuthenticationError, "check the token"),
        (empty(500), ServerError, "500"),
        (Response([b"<html>Sign in</html>"], content_type="text/html"), UnexpectedResponseError, "Sign in"),
        (Response([b""], content_type="application/json"), UnexpectedResponseError, "an empty body"),
        (Response.json(5), UnexpectedResponseError, "not the JSON"),
        (Response.json(None), UnexpectedResponseError, "not the JSON"),
        (Response.json("text"), UnexpectedResponseError, "not the JSON"),
        (Response([b'{"data": ['], content_type="application/json"), UnexpectedResponseError, "not the JSON"),
    ],
)
@pytest.mark.parametrize("task", ["get_endpoint_info", "tokenize", "list_models"])
async def test_what_is_no_answer_is_told(
    variant: Variant, clients: Clients, task: str, answer: Response, kind: type[Exception], words: str
) -> None:
    with ScriptedServer(answer) as server, pytest.raises(kind, match=words) as caught:
        await variant.ask(clients(server.url, retry=None), task, *TASKS[task])
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("task", "body"),
    [
        ("get_endpoint_info", []),
        ("tokenize", {}),
        ("tokenize", [{}]),
        ("tokenize", [{"id": 1, "text": "a"}]),
        ("tokenize", [5]),
        ("list_models", {}),
        ("list_models", {"data": 5}),
        ("list_models", {"data": [5]}),
        ("list_models", {"data": [None]}),
        ("list_models", {"data": [{}]}),
        ("list_models", {"models": []}),
    ],
)
async def test_JSON_of_another_shape_is_told(variant: Variant, clients: Clients, task: str, body: Any) -> None:
    with ScriptedServer(Response.json(body)) as server, pytest.raises(UnexpectedResponseError, match="not the JSON"):
        await variant.ask(clients(server.url, retry=None), task, *TASKS[task])


@pytest.mark.parametrize("task", ["tokenize", "list_models"])
async def test_a_200_that_is_an_error_is_that_error(variant: Variant, clients: Clients, task: str) -> None:
    body = {"error": "Model is overloaded", "error_type": "overloaded"}
    with ScriptedServer(Response.json(body)) as server, pytest.raises(OverloadedError):
        await variant.ask(clients(server.url, retry=None), task, *TASKS[task])


@pytest.mark.parametrize("task", ["get_endpoint_info", "tokenize", "list_models"])
async def test_an_overloaded_server_is_asked_again(variant: Variant, clients: Clients, task: str) -> None:
    body = Response.json(TOKENS if task == "tokenize" else {**INFO, **MODELS})
    with ScriptedServer(Response.error(503, "loading"), body) as server:
        assert await variant.ask(clients(server.url, retry=QUICK), task, *TASKS[task])
        assert len(server.requests) == 2


@pytest.mark.parametrize("task", ["get_endpoint_info", "health_check", "tokenize"])
async def test_a_model_id_has_no_such_route(variant: Variant, clients: Clients, task: str) -> None:
    with pytest.raises(ValueError, match="pass the URL of the server"):
        await variant.ask(clients("org/name"), task, *TASKS[task])
    with pytest.raises(ValueError, match="no model"):
        await variant.ask(clients(None), task, *TASKS[task])
    with pytest.raises(ValueError, match="did you mean"):
        await variant.ask(clients(None), task, *TASKS[task], model="localhost:8080")
