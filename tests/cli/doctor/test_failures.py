"""Every fault of the testing kit, and what the doctor says of it in its first line."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hfstream.testing import (
    UNUSUAL_RESPONSES,
    Fault,
    Request,
    Response,
    ScriptedServer,
    Step,
    chat_events,
    faults,
    token_events,
)

from .conftest import Diagnose, ModelServer

WORDS = [" a", " b", " c", " d", " e"]
CHAT = chat_events(*WORDS)

FAILURES = {
    "drop": (faults.drop(CHAT, after=3), "The connection is lost after 2 tokens, in the middle of the stream"),
    "reset": (faults.reset(CHAT, after=3), "The connection is lost after 2 tokens, in the middle of the stream"),
    "early_end": (faults.early_end(CHAT, after=3), "The stream ends too early: 2 tokens, then neither a finish reason"),
    "early_end of TGI": (faults.early_end(token_events(*WORDS), after=2), "The stream ends too early: 2 tokens"),
    "empty": (faults.empty(), "The stream is empty: HTTP 200, and then no event"),
    "html": (faults.html(), 'This is a web page "Sign in", not a model server'),
    "overloaded": (faults.overloaded(7), "The server is overloaded: HTTP 429; it asks to wait 7 s"),
    "overloaded, no wait": (faults.overloaded(None), "The server is overloaded: HTTP 429; it does not say when"),
    "overloaded_in_stream": (faults.overloaded_in_stream(), "The server is overloaded: it says so within the stream"),
    "the same in a chat": (faults.overloaded_in_stream(chat=True), "The server is overloaded: it says so within"),
    "a dropped head": (Response([Fault.DROP], raw=True), "The server closes the connection without a response"),
    "401": (Response.error(401, "no"), "The server wants an API key: HTTP 401"),
    "403": (Response.error(403, "no"), "The server wants an API key: HTTP 403"),
    "404": (Response.error(404, "no"), "There is neither chat nor text generation at this URL: HTTP 404"),
    "407": (Response.error(407, "no"), "A proxy on the way asks for user and password: HTTP 407"),
    "422": (Response.error(422, "no", "validation"), "The server refuses the request: HTTP 422: no"),
    "500": (Response.error(500, "out of memory"), "The server refuses the request: HTTP 500: out of memory"),
    "loading": (Response.error(503, "Model is loading"), "The server is still loading its model: HTTP 503"),
    "502 of nginx": (
        Response(["<html><title>502</title>"], 502, "text/html", {"Server": "nginx/1.22.1"}),
        "nginx answers in the server's place: HTTP 502",
    ),
    "504": (Response(status=504), "A proxy answers in the server's place: HTTP 504"),
    "a whole answer": (
        Response.json({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}]}),
        "The server does not stream: it was asked to, and answers with the whole text as JSON",
    ),
    "an API of its own": (UNUSUAL_RESPONSES["Ollama's own stream"].response, "The answer is no stream of tokens"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_a_fault_is_named_in_the_first_line(name: str, diagnose: Diagnose) -> None:
    response, first = FAILURES[name]
    with ScriptedServer(response) as server:
        diagnosis = diagnose(server.url)
        assert len(server.requests) <= 4  # nothing more is asked of a server that does not stream
        assert diagnosis.evidence.startswith(f"{server.url}/")
    assert diagnosis.first.startswith(first)
    assert diagnosis.report["severity"] == "error"
    assert diagnosis.code == 1


@pytest.mark.slow
def test_a_stalled_stream(diagnose: Diagnose) -> None:
    with ScriptedServer(faults.stall(CHAT, after=3)) as server:
        diagnosis = diagnose(server.url, "--timeout", "6")
    assert diagnosis.first.startswith("The stream stops after 2 tokens: nothing more for ")
    assert 'the text so far: "a b"' in diagnosis.evidence


@pytest.mark.slow
def test_a_stalled_stream_that_is_kept_alive(diagnose: Diagnose) -> None:
    alive: list[Step] = [0.02, b": keep-alive\n\n"]
    with ScriptedServer(Response([*CHAT[:3], *alive * 200])) as server:
        diagnosis = diagnose(server.url, "--timeout", "6")
    assert diagnosis.first.startswith("The stream stops after 2 tokens")
    assert "keep-alive comments came, so the server is alive" in diagnosis.first


@pytest.mark.slow
def test_a_server_that_accepts_and_says_nothing(diagnose: Diagnose) -> None:
    with ScriptedServer(Response([Fault.STALL], raw=True)) as server:
        diagnosis = diagnose(server.url, "--timeout", "3")
    assert diagnosis.first.startswith("The server does not answer: it accepts the connection")


def test_a_model_that_the_server_does_not_have(diagnose: Diagnose) -> None:
    models = Response.json({"data": [{"id": "opt-125m"}, {"id": "opt-1.3b"}]})
    with ScriptedServer(
        models, Response.error(404, "x"), Response.error(404, "the model `m` does not exist")
    ) as server:
        diagnosis = diagnose(server.url, "--model", "m")
    assert diagnosis.first == "The server does not have this model"
    assert diagnosis.lines == ["--model opt-125m"]
    assert "it lists opt-125m, opt-1.3b" in diagnosis.evidence


def test_a_plain_web_server(diagnose: Diagnose, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html><title>Hello</title>", encoding="utf-8")
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        diagnosis = diagnose(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()
    assert diagnosis.first.startswith("This is a web page ")
    assert diagnosis.code == 1


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_wrong_path_at_the_right_host(diagnose: Diagnose) -> None:
    with ScriptedServer(ModelServer()) as server:
        diagnosis = diagnose(f"{server.url}/docs")
        assert diagnosis.lines == [f"{server.url}/v1"]
    assert diagnosis.first.startswith("There is neither chat nor text generation at this URL")


def redirecting(status: int) -> Callable[[Request], Response]:
    """A server whose API is under ``/api``, where it redirects to from everywhere else."""
    model = ModelServer(tokens=5)

    def respond(request: Request) -> Response:
        if request.path.startswith("/api"):
            return model(dataclasses.replace(request, path=request.path.removeprefix("/api")))
        return Response(status=status, content_type=None, headers={"Location": f"/api{request.path}"})

    return respond


def test_a_redirect_that_loses_the_body(diagnose: Diagnose) -> None:
    with ScriptedServer(redirecting(301)) as server:
        diagnosis = diagnose(server.url)
        assert diagnosis.lines == [f"{server.url}/api/v1"]
    assert diagnosis.first == "The URL redirects, and the request loses its body on the way: it becomes a GET"


def test_a_redirect_that_keeps_it(diagnose: Diagnose) -> None:
    with ScriptedServer(redirecting(308)) as server:
        diagnosis = diagnose(server.url)
    assert diagnosis.first.startswith("It streams")
    assert diagnosis.finding("redirect")["summary"] == "The URL redirects: each request is sent twice"


UNHARMED = {
    "byte_order_mark": faults.byte_order_mark(CHAT),
    "cr_only": faults.cr_only(CHAT),
    "crlf": faults.crlf(CHAT),
    "retry_frames": faults.retry_frames(CHAT),
    "keep_alives": faults.keep_alives(CHAT),
    "rechunk": faults.rechunk(CHAT),
    "split_utf8": faults.split_utf8(chat_events("é", "ü", "€", "ß", "ñ")),
    "paced": faults.paced(CHAT, 0.01),
}


@pytest.mark.parametrize("name", UNHARMED)
def test_what_is_unusual_but_valid_is_no_failure(name: str, diagnose: Diagnose) -> None:
    with ScriptedServer(UNHARMED[name]) as server:
        diagnosis = diagnose(server.url)
        assert len(server.requests) <= 12
    assert diagnosis.first.startswith("It streams")
    assert diagnosis.code == 0


def test_odd_framing_is_noted(diagnose: Diagnose) -> None:
    found = {}
    for name in ("byte_order_mark", "cr_only"):
        with ScriptedServer(UNHARMED[name]) as server:
            found[name] = diagnose(server.url).finding("framing")["summary"]
    assert "byte order mark" in found["byte_order_mark"]
    assert "CR alone" in found["cr_only"]


@pytest.mark.slow
@pytest.mark.parametrize("name", UNUSUAL_RESPONSES)
def test_no_response_of_the_catalogue_is_too_odd(name: str, diagnose: Diagnose) -> None:
    unusual = UNUSUAL_RESPONSES[name]
    with ScriptedServer(unusual.response) as server:
        diagnosis = diagnose(server.url, "--timeout", "10")
    fails = unusual.error is not None or not unusual.stream
    assert (diagnosis.code == 1) == fails, diagnosis.first
    assert "doctor" not in diagnosis.checks  # it has not failed itself
