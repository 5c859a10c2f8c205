"""Several servers behind one: which gets a request, which rests, what is tried where."""

from __future__ import annotations

import threading
import time

import pytest
import tenacity

from hfstream import RetryPolicy
from hfstream.errors import InferenceConnectionError, OverloadedError, ValidationError
from hfstream.server import BackgroundServer, Settings
from hfstream.server.upstream import pool as pool_module
from hfstream.server.upstream.pool import LONGEST_REST, Upstream, UpstreamPool
from hfstream.testing import Response, ScriptedServer, chat_events, faults
from tests.helpers.scripted_engine import eventually, http, metric, raw_request

from .common import CHAT, Front, data_of, front, scripted

CHAT_BODY = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
GOOD = Response(chat_events("Hi"))


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "RETRY", RetryPolicy(wait=tenacity.wait_none()))


def counts(server: Front) -> list[int]:
    """Requests that generate, at each server."""
    return [sum(each.method == "POST" for each in upstream.requests) for upstream in server.upstreams]


def upstreams(*urls: str) -> UpstreamPool:
    return UpstreamPool(Settings(upstreams=urls or ("http://one/v1", "http://two/v1")))


# --- the choice ------------------------------------------------------------------------------------------------------


async def test_the_one_with_the_fewest_requests_is_chosen() -> None:
    pool = upstreams()
    one, two = pool.upstreams
    seen: list[Upstream] = []

    async def send(upstream: Upstream) -> str:
        seen.append(upstream)
        return "answer"

    async with pool.sent(send), pool.sent(send), pool.sent(send):
        assert {one.outstanding, two.outstanding} == {1, 2}
        one.outstanding, two.outstanding = 5, 2
        async with pool.sent(send):
            assert seen[-1] is two
    assert seen[:2] in ([one, two], [two, one])


async def test_one_that_failed_rests_longer_each_time_and_an_answer_ends_that() -> None:
    one, two = (pool := upstreams()).upstreams
    rests: list[float] = []
    for _ in range(9):
        one.record_failure(InferenceConnectionError("no"))
        rests.append(one.rest_until - time.monotonic())
    assert rests[0] < rests[1] < rests[2]
    assert max(rests) <= LONGEST_REST
    assert not one.healthy

    async def send(upstream: Upstream) -> Upstream:
        return upstream

    two.outstanding = 100
    async with pool.sent(send) as chosen:
        assert chosen is two
    one.record_success()
    assert one.healthy
    async with pool.sent(send) as chosen:
        assert chosen is one


def test_one_that_is_overloaded_rests_as_long_as_it_says_and_one_that_refuses_does_not() -> None:
    one, _ = upstreams().upstreams
    one.record_failure(ValidationError("no"))
    assert one.rest_until == 0.0
    one.record_failure(OverloadedError("busy", retry_after=20))
    assert 19 < one.rest_until - time.monotonic() <= 20


async def test_while_all_rest_the_first_to_come_back_is_asked() -> None:
    one, two = (pool := upstreams()).upstreams
    one.record_failure(OverloadedError("busy", retry_after=20))
    two.record_failure(OverloadedError("busy", retry_after=10))

    async def send(upstream: Upstream) -> Upstream:
        return upstream

    async with pool.sent(send) as chosen:
        assert chosen is two


def test_what_is_no_url_is_refused_when_the_server_starts() -> None:
    with pytest.raises(ValueError, match=r"upstream 'small' is not a URL: write, for example, http://127"):
        upstreams("small")
    with pytest.raises(ValueError, match="must be a tuple of URLs"):
        Settings(upstreams="http://one")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ValueError, match="upstream_timeout must be more than 0"):
        Settings(upstreams=("http://one",), upstream_timeout=0)
    with pytest.raises(ValueError, match="upstream_api_key must be None"):
        Settings(upstreams=("http://one",), upstream_api_key="")


# --- over HTTP -------------------------------------------------------------------------------------------------------


def test_requests_are_shared_out() -> None:
    with front(scripted(GOOD), scripted(GOOD)) as server:
        for _ in range(6):
            assert server.post(CHAT, CHAT_BODY).status_code == 200
        assert counts(server) == [3, 3]


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


def test_where_all_are_overloaded_each_is_asked_and_the_last_answer_counts() -> None:
    with front(scripted(faults.overloaded(5)), scripted(faults.overloaded(5))) as server:
        response = server.post(CHAT, CHAT_BODY)
        assert (response.status_code, response.headers["retry-after"]) == (429, "5")
        assert counts(server) == [3, 3]


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
