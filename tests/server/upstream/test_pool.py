"""Several servers behind one: which gets a request, which rests, what is tried where."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import tenacity

from hfstream import RetryPolicy
from hfstream.errors import InferenceConnectionError, OverloadedError, ValidationError
from hfstream.server import BackgroundServer, Settings
from hfstream.server.upstream import pool as pool_module
from hfstream.server.upstream.pool import UpstreamPool
from hfstream.server.upstream.upstream import Upstream
from hfstream.testing import Request, Response, ScriptedServer, chat_events, faults, token_events
from tests.helpers.scripted_engine import eventually, http, metric, raw_request

from .common import CHAT, MODELS, Front, completion_events, data_of, front, scripted

CHAT_BODY = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
GOOD = Response(chat_events("Hi"))


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "RETRY", RetryPolicy(wait=tenacity.wait_none()))


def counts(server: Front) -> list[int]:
    """Requests that generate, at each server."""
    return [sum(each.method == "POST" for each in upstream.requests) for upstream in server.upstreams]


def answers(server: Front, path: str, body: dict[str, object]) -> list[int]:
    """`counts` after six requests, all of which are answered."""
    for _ in range(6):
        assert server.post(path, body).status_code == 200
    return counts(server)


# --- one server ------------------------------------------------------------------------------------------------------


def one(url: str = "http://one/v1", **settings: Any) -> Upstream:
    (upstream,) = UpstreamPool(Settings(upstreams=(url,), **settings)).upstreams
    return upstream


def test_one_that_fails_gets_nothing_until_it_has_answered_again() -> None:
    upstream = one()
    assert not upstream.is_open(0.0)
    upstream.record_success()
    assert upstream.is_open(0.0)
    assert not upstream.check_due
    upstream.record_failure(InferenceConnectionError("no"), sent_at=1.0, now=2.0)
    assert not upstream.is_open(1000.0)
    assert upstream.check_due
    upstream.record_success()
    assert upstream.is_open(2.0)
    upstream.record_failure(InferenceConnectionError("no"), sent_at=1.5, now=3.0)  # the same failure, told again
    assert upstream.is_open(3.0)


def test_one_that_is_overloaded_rests_as_long_as_it_says_and_one_that_refuses_does_not() -> None:
    upstream = one()
    upstream.record_success()
    upstream.record_failure(ValidationError("no"), sent_at=0.0, now=1.0)
    assert upstream.is_open(1.0)
    upstream.record_failure(OverloadedError("busy", retry_after=20), sent_at=1.0, now=2.0)
    assert (upstream.healthy, upstream.is_open(21.9), upstream.is_open(22.0)) == (True, False, True)


async def test_a_request_that_fails_during_a_check_is_later_news_than_the_check() -> None:
    def respond(request: object) -> Response:
        upstream.record_failure(InferenceConnectionError("no"), time.monotonic(), time.monotonic())
        return Response.json(MODELS)

    with ScriptedServer(respond) as server:
        upstream = one(f"{server.url}/v1")
        await upstream.check()
        assert not upstream.healthy
        await upstream.client.aclose()


def test_what_is_no_url_is_refused_when_the_server_starts() -> None:
    with pytest.raises(ValueError, match=r"upstream 'small' is not a URL: write, for example, http://127"):
        one("small")
    with pytest.raises(ValueError, match="must be a tuple of URLs"):
        Settings(upstreams="http://one")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ValueError, match="upstream_timeout must be more than 0"):
        Settings(upstreams=("http://one",), upstream_timeout=0)
    with pytest.raises(ValueError, match="upstream_api_key must be None"):
        Settings(upstreams=("http://one",), upstream_api_key="")


# --- over HTTP -------------------------------------------------------------------------------------------------------


def test_requests_are_shared_out() -> None:
    with front(scripted(GOOD), scripted(GOOD)) as server:
        assert answers(server, CHAT, CHAT_BODY) == [3, 3]


def test_the_one_with_the_fewest_requests_is_chosen() -> None:
    with front(scripted(faults.stall(chat_events("Hi"), after=2), GOOD), scripted(GOOD)) as server:
        connection = raw_request(server.url, CHAT, CHAT_BODY)
        assert eventually(lambda: counts(server) == [1, 0])
        assert answers(server, CHAT, CHAT_BODY) == [1, 6]
        connection.close()


def test_text_goes_to_servers_of_tgis_kind_while_one_is_healthy_and_a_chat_to_all() -> None:
    tgi, openai = scripted(Response(token_events("Hi"))), scripted(Response(completion_events("Hi")))
    with front(tgi, openai, path=("", "/v1")) as server:
        assert answers(server, "/generate_stream", {"inputs": "Hi"}) == [6, 0]
        tgi.close()
        assert server.post("/generate_stream", {"inputs": "Hi"}).status_code == 502
        assert answers(server, "/generate_stream", {"inputs": "Hi"})[1] == 6
    with front(scripted(GOOD), scripted(GOOD), path=("", "/v1")) as server:
        assert answers(server, CHAT, CHAT_BODY) == [3, 3]


def test_one_whose_models_are_unknown_gets_no_request_that_names_none() -> None:
    script = [Response.error(401, "who are you?"), Response.json(MODELS)]

    def respond(request: Request) -> Response:
        if request.method == "POST":
            return GOOD
        return script.pop(0) if len(script) > 1 else script[0]

    refusing = ScriptedServer(lambda request: GOOD if request.method == "POST" else Response.error(401, "who are you?"))
    with front(refusing, scripted(GOOD)) as server:
        assert answers(server, CHAT, CHAT_BODY) == [0, 6]
    with front(ScriptedServer(respond)) as server:  # asked again, because there is no other
        assert answers(server, CHAT, CHAT_BODY) == [6]


@pytest.mark.parametrize("bad", [faults.overloaded(), faults.drop([], after=0), Response.error(503, "loading")])
def test_another_server_answers_where_one_fails(bad: Response) -> None:
    with front(scripted(bad), scripted(GOOD)) as server:
        for _ in range(4):
            assert data_of(server.post(CHAT, CHAT_BODY))[-1] == "[DONE]"
        failing, good = counts(server)
        assert failing <= 2  # it rests after its first failure
        assert good == 4


def test_a_dead_server_is_passed_over_and_the_health_says_so() -> None:
    dead = scripted(GOOD)
    with front(scripted(GOOD), dead) as server:
        name = f'hfstream_upstream_healthy{{upstream="{dead.url}"}}'
        dead.close()
        for _ in range(4):
            assert server.post(CHAT, CHAT_BODY).status_code == 200
        assert eventually(lambda: metric(server.url, name) == 0)
        assert http.get(server.url + "/health").status_code == 200


def test_a_request_that_is_refused_is_not_sent_to_another() -> None:
    with front(*(scripted(Response.error(422, "no", "validation")) for _ in range(2))) as server:
        assert server.post(CHAT, CHAT_BODY).status_code == 422
        assert sum(counts(server)) == 1


def test_where_all_are_overloaded_there_are_three_attempts_in_all() -> None:
    with front(scripted(faults.overloaded(5)), scripted(faults.overloaded(5))) as server:
        response = server.post(CHAT, CHAT_BODY)
        assert (response.status_code, response.headers["retry-after"]) == (429, "5")
        assert sorted(counts(server)) == [1, 2]


def test_outstanding_requests_are_shown() -> None:
    with front(scripted(faults.stall(chat_events("Hi"), after=2))) as server:
        name = f'hfstream_upstream_requests{{upstream="{server.upstreams[0].url}"}}'
        connection = raw_request(server.url, CHAT, CHAT_BODY)
        assert eventually(lambda: metric(server.url, name) == 1)
        connection.close()
        assert eventually(lambda: metric(server.url, name) == 0)


# --- status ----------------------------------------------------------------------------------------------------------


def test_no_server_that_answers_is_no_health_until_one_does() -> None:
    with scripted(GOOD) as gone:
        url = gone.url
    with BackgroundServer(Settings(upstreams=(f"{url}/v1",))) as server:
        response = http.get(server.url + "/health")
        assert response.status_code == 503
        assert response.json() == {"error": "No upstream answers", "error_type": "healthcheck"}
        assert http.get(server.url + "/v1/models").json()["data"] == []
        assert http.post(server.url + CHAT, json=CHAT_BODY).status_code == 502


def test_the_models_of_all_servers() -> None:
    def other(request: object) -> Response:
        return Response.json({"object": "list", "data": [{"id": "org/large", "object": "model", "mood": 1}]})

    with front(scripted(GOOD), ScriptedServer(other)) as server:
        models = http.get(server.url + "/v1/models").json()
        assert [each["id"] for each in models["data"]] == ["small", "org/large"]
        assert models["data"][1]["mood"] == 1
        assert http.get(server.url + "/v1/models/org/large").json()["id"] == "org/large"
        missing = http.get(server.url + "/v1/models/none")
        assert missing.status_code == 404
        assert missing.json()["error"]["code"] == "model_not_found"


def test_the_served_name_is_the_only_model() -> None:
    with front(scripted(GOOD), served_model_name="ours") as server:
        assert [each["id"] for each in http.get(server.url + "/v1/models").json()["data"]] == ["ours"]
        assert http.get(server.url + "/info").json()["model_id"] == "ours"


def test_the_info_of_tgis_kind_has_this_servers_limit() -> None:
    info = {
        "model_id": "org/m",
        "max_total_tokens": 99,
        "max_concurrent_requests": 5,
        "router": "text-generation-router",
    }

    def respond(request: object) -> Response:
        return Response.json(info)

    with front(ScriptedServer(respond), path="", max_concurrent_requests=9) as server:
        assert eventually(lambda: http.get(server.url + "/info").json()["model_id"] == "org/m")
        found = http.get(server.url + "/info").json()
        assert found.items() >= {**info, "max_concurrent_requests": 9, "router": "hfstream"}.items()


def test_a_browser_gets_the_demo() -> None:
    with front(scripted(GOOD)) as server:
        assert (
            "text/html"
            in http.get(server.url, headers={"accept": "text/html"}, follow_redirects=True).headers["content-type"]
        )
        assert http.get(server.url + "/demo").status_code == 200
        assert eventually(lambda: http.get(server.url).status_code == 200)


def test_stopping_ends_the_streams() -> None:
    with front(scripted(faults.stall(chat_events("Hi"), after=2))) as server:
        upstream = server.upstreams[0]
        got: list[str] = []
        reader = threading.Thread(target=lambda: got.append(server.post(CHAT, CHAT_BODY).text))
        reader.start()
        assert upstream.wait_until_running(1)
        assert eventually(lambda: metric(server.url, "hfstream_permits_taken") == 1)
    reader.join()
    assert "the server is stopping" in got[0]


@pytest.mark.parametrize("healthy", [("/v1", "/a/v1"), ("/v1", "/b/v1"), ("/b/v1", "/c/v1")])
def test_the_metrics_of_two_paths_at_one_host_are_added_up(healthy: tuple[str, str]) -> None:
    def respond(request: Request) -> Response:
        known = request.path in ("/v1/models", "/a/v1/models")
        return Response.json(MODELS) if known else Response(status=503)

    with ScriptedServer(respond) as upstream:
        urls = tuple(upstream.url + path for path in healthy)
        with BackgroundServer(Settings(upstreams=urls)) as server:
            name = f'hfstream_upstream_healthy{{upstream="{upstream.url}"}}'
            expected = sum(path in ("/v1", "/a/v1") for path in healthy)
            assert eventually(lambda: metric(server.url, name) == expected)
            assert http.get(server.url + "/metrics").text.count(name) == 1
