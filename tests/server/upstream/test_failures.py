"""What goes wrong behind a server in front of others, on routes of both kinds: before the first content, and after."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import tenacity

from hfstream import InferenceClient, RetryPolicy
from hfstream.server.upstream import pool
from hfstream.testing import Fault, Request, Response, chat_events, faults, token_events
from tests.helpers.scripted_engine import eventually, http, metric, raw_request

from .common import CHAT, completion_events, data_of, error_of, front, scripted, text_of


class Kind(NamedTuple):
    """A route, and a server behind it."""

    path: str
    upstream: str
    body: dict[str, Any]
    events: Callable[..., list[bytes]]


KINDS = {
    "chat": Kind(CHAT, "/v1", {"messages": [{"role": "user", "content": "Hi"}], "stream": True}, chat_events),
    "text at TGI": Kind("/generate_stream", "", {"inputs": "Hi"}, token_events),
    "text at OpenAI": Kind("/generate_stream", "/v1", {"inputs": "Hi"}, completion_events),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RETRY", RetryPolicy(wait=tenacity.wait_none()))


TEMPORARY: dict[str, Callable[[], Response]] = {
    "overloaded": faults.overloaded,
    "overloaded in the stream": faults.overloaded_in_stream,
    "dropped": lambda: faults.drop([b": nothing\n\n"], after=1),
    "reset": lambda: faults.reset([b": nothing\n\n"], after=1),
    "empty": faults.empty,
    "bad gateway": lambda: Response.error(502, "bad gateway"),
}


@pytest.mark.parametrize("fault", TEMPORARY)
def test_a_failure_before_the_first_content_is_retried(kind: Kind, fault: str) -> None:
    good = Response(kind.events("Hel", "lo"))
    with front(scripted(TEMPORARY[fault](), good), path=kind.upstream) as server:
        response = server.post(kind.path, kind.body)
        assert response.status_code == 200
        assert text_of(data_of(response)) == "Hello"
        assert len(server.sent) == 2


def test_an_overload_that_lasts_is_a_429_with_its_wait(kind: Kind) -> None:
    with front(scripted(faults.overloaded(7)), path=kind.upstream) as server:
        response = server.post(kind.path, kind.body)
        assert response.status_code == 429
        assert response.headers["retry-after"] == "7"
        assert error_of(response.json()) == ("Model is overloaded", "overloaded")
        assert len(server.sent) == 3
        assert metric(server.url, 'tgi_request_failure{err="overloaded"}') == 1


@pytest.mark.parametrize(
    ("answer", "status", "error_type", "words"),
    [
        (faults.html(), 502, "upstream_failed", "text/html"),
        (faults.drop([], after=0), 502, "upstream_failed", "failed"),
        (Response.error(401, "who are you?"), 502, "upstream_authentication", "refuses this server's key (HTTP 401)"),
        (Response.error(424, "the model failed", "generation"), 424, "generation", "the model failed"),
        (Response.error(422, "not so", "validation"), 422, "validation", "not so"),
        (faults.stall([], after=0), 504, "upstream_timeout", "took too long"),
    ],
)  # fmt: skip
def test_what_cannot_be_retried_has_a_status_of_this_server(
    kind: Kind, answer: Response, status: int, error_type: str, words: str
) -> None:
    seconds = 0.2 if status == 504 else 60
    with front(scripted(answer), path=kind.upstream, upstream_timeout=seconds) as server:
        response = server.post(kind.path, kind.body)
        assert response.status_code == status
        message, found_type = error_of(response.json())
        assert (found_type, words in message) == (error_type, True), message
        assert server.upstreams[0].url.rpartition(":")[2] in message or status in (422, 424)


@pytest.mark.parametrize("status", [400, 413])
def test_a_refusal_of_openais_kind_is_tgis_on_tgis_routes(status: int) -> None:
    with front(scripted(Response.error(status, "too long"))) as server:
        response = server.post("/generate", {"inputs": "Hi"})
        assert response.status_code == 422
        assert response.json() == {"error": "too long", "error_type": "validation"}
        assert server.post(CHAT, KINDS["chat"].body).status_code == status


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.RESET, Fault.STALL, None])
def test_a_failure_after_content_is_an_event_and_no_text_is_lost(kind: Kind, fault: Fault | None) -> None:
    whole = kind.events("a", "b", "c", "d")
    begin = whole[: 3 if kind.path == CHAT else 2]
    broken = Response([*begin, fault] if fault else begin)
    seconds = 0.2 if fault is Fault.STALL else 60
    with front(scripted(broken), path=kind.upstream, upstream_timeout=seconds) as server:
        response = server.post(kind.path, kind.body)
        assert response.status_code == 200
        events = data_of(response)
        if kind.path == CHAT:
            assert events.pop() == "[DONE]"
        message, error_type = error_of(events.pop())
        assert error_type == "incomplete_generation"
        assert message.startswith("Incomplete generation: upstream http://127.0.0.1:")
        assert text_of(events) == "ab"
        assert metric(server.url, 'tgi_request_failure{err="incomplete"}') == 1


def test_a_client_that_leaves_closes_the_connection_behind(kind: Kind) -> None:
    stalled = faults.stall(kind.events("a", "b", "c"), after=2)
    with front(scripted(stalled), path=kind.upstream) as server:
        connection = raw_request(server.url, kind.path, kind.body)
        assert eventually(lambda: len(server.sent) == 1)  # a check of the server's health runs too
        assert eventually(lambda: metric(server.url, "hfstream_permits_taken") == 1)
        connection.close()
        assert server.upstreams[0].wait_until_running(0)
        assert eventually(lambda: metric(server.url, "hfstream_permits_taken") == 0)
        assert metric(server.url, 'tgi_request_failure{err="dropped"}') == 1


@pytest.mark.parametrize("path", ["/generate", CHAT])
def test_a_client_that_leaves_before_a_whole_answer_closes_the_connection_behind(path: str) -> None:
    with front(scripted(faults.stall([], after=0))) as server:
        body = {"inputs": "Hi", "messages": []}
        connection = raw_request(server.url, path, body)
        assert eventually(lambda: len(server.sent) == 1)
        connection.close()
        assert server.upstreams[0].wait_until_running(0)


def test_without_a_permit_nothing_is_sent(kind: Kind) -> None:
    stalled = faults.stall(kind.events("a", "b", "c"), after=2)
    with front(scripted(stalled), path=kind.upstream, max_concurrent_requests=1) as server:
        connection = raw_request(server.url, kind.path, kind.body)
        assert eventually(lambda: len(server.sent) == 1)
        response = server.post(kind.path, kind.body)
        assert response.status_code == 429
        assert response.headers["retry-after"] == "1"
        assert len(server.sent) == 1
        connection.close()


def test_a_long_wait_for_the_first_content_has_keep_alives(kind: Kind) -> None:
    late = Response(kind.events("Hel", "lo"), delay=0.5)
    with front(scripted(late), path=kind.upstream, sse_keepalive=0.1) as server:
        response = server.post(kind.path, kind.body)
        assert response.text.startswith(":\n\n")
        assert text_of(data_of(response)) == "Hello"


def test_a_failure_after_a_long_wait_is_an_event(kind: Kind) -> None:
    late = Response(json.dumps({"error": "no", "error_type": "generation"}), 424, "application/json", delay=0.5)
    with front(scripted(late), path=kind.upstream, sse_keepalive=0.1) as server:
        response = server.post(kind.path, kind.body)
        assert response.status_code == 200
        assert error_of(data_of(response)[0]) == ("no", "generation")


# --- resuming --------------------------------------------------------------------------------------------------------


def test_a_stream_of_a_server_that_numbers_its_events_is_resumed_behind(kind: Kind) -> None:
    whole = [b"id: s:%d\n" % number + event for number, event in enumerate(kind.events("a", "b", "c"), 1)]
    broken = faults.drop(whole, after=2 if kind.path != CHAT else 3)
    rest = Response(whole[2 if kind.path != CHAT else 3 :])
    with front(scripted(broken, rest), path=kind.upstream) as server:
        assert text_of(data_of(server.post(kind.path, kind.body))) == "abc"
        first, second = (each for each in server.upstreams[0].requests if each.method == "POST")
        assert first.headers["prefer"] == "resumable"
        assert second.headers["last-event-id"] in ("s:2", "s:3")


def test_a_greedy_text_of_tgis_goes_on_from_its_text() -> None:
    """The second way of the client: the prompt and the text so far, at a server that keeps no streams."""
    prompt = {"id": 7, "text": "Hi", "start": 0, "stop": 2}
    texts = [{"id": 101, "text": "a", "start": 2, "stop": 3}, {"id": 102, "text": "b", "start": 3, "stop": 4}]
    probes = Response.json([prompt]), Response.json([prompt, *texts])
    broken = faults.drop(token_events("a", "b", "c", "d"), after=2)
    rest = Response(token_events("c", "d"))
    with front(scripted(broken, *probes, rest), path="") as server:
        response = server.post("/generate_stream", {"inputs": "Hi", "parameters": {"max_new_tokens": 4}})
        *events, last = data_of(response)
        assert text_of([*events, last]) == "abcd"
        assert last["generated_text"] == "abcd"


def test_a_greedy_text_goes_on_at_another_server_and_a_sampled_one_does_not() -> None:
    whole = token_events("a", "b", "c", "d")

    def tokenize(request: Request) -> Response:
        count = 1 if request.json()["inputs"] == "Hi" else 3
        return Response.json([{"id": token, "text": "", "start": 0, "stop": 0} for token in (7, 101, 102)[:count]])

    with front(
        scripted(faults.drop(whole, after=2)), scripted(tokenize, tokenize, Response(token_events("c", "d"))), path=""
    ) as server:
        *events, last = data_of(server.post("/generate_stream", {"inputs": "Hi", "parameters": {"max_new_tokens": 4}}))
        assert text_of([*events, last]) == "abcd"
        assert last["generated_text"] == "abcd"
        assert [each["inputs"] for each in server.sent] == ["Hi", "Hi", "Hiab", "Hiab"]
    with front(scripted(faults.drop(whole, after=2)), scripted(Response(whole)), path="") as server:
        parameters = {"max_new_tokens": 4, "do_sample": True}
        *events, last = data_of(server.post("/generate_stream", {"inputs": "Hi", "parameters": parameters}))
        assert text_of(events) == "ab"
        message, error_type = error_of(last)
        assert error_type == "incomplete_generation"
        assert "cannot resume: it is sampled" in message
        assert server.upstreams[1].url not in message
        assert len(server.sent) == 1


def test_a_client_resumes_its_stream_here(kind: Kind) -> None:
    """A connection to this server is lost; the one to the server behind goes on, and nothing is asked twice."""
    paced = faults.paced(kind.events(*"abcdef"), 0.05)
    with (
        front(scripted(paced), path=kind.upstream) as server,
        http.stream("POST", server.url + kind.path, json=kind.body, headers={"prefer": "resumable"}) as response,
    ):
        assert response.headers["preference-applied"] == "resumable"
        lines = response.iter_lines()
        event_id = next(line for line in lines if line.startswith("id: ")).removeprefix("id: ")
        first = json.loads(next(line for line in lines if line.startswith("data: ")).removeprefix("data: "))
        response.close()
        rest = http.post(server.url + kind.path, headers={"last-event-id": event_id})
        assert text_of([first, *data_of(rest)]) == "abcdef"
        assert len(server.sent) == 1


def test_a_resumable_stream_that_is_given_up_closes_the_connection_behind(kind: Kind) -> None:
    stalled = faults.stall(kind.events("a", "b", "c"), after=3)
    with front(scripted(stalled), path=kind.upstream) as server:
        client = InferenceClient(server.url, resume=True, retry=None)
        stream: Any
        if kind.path == CHAT:
            stream = client.chat_completion(kind.body["messages"], stream=True)
        else:
            stream = client.text_generation("Hi", stream=True)
        with client, stream:
            assert server.upstreams[0].wait_until_running(1)
        assert server.upstreams[0].wait_until_running(0)
