"""Tests of `Forwarder`: what is passed on as it is, and clients that leave."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from hfstream.testing import Fault, Recorder, Recording, Response, ScriptedServer
from hfstream.testing.forwarder import Forwarder
from tests.testing.common import EVENTS


def test_requests_and_responses_pass_as_they_are() -> None:
    headers = [("X-One", "1"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Type", "text/plain")]
    with ScriptedServer(Response([b"\xff\x00"], 418, headers=headers)) as server, Forwarder(server.url) as forwarder:
        response = httpx.post(
            f"{forwarder.url}/a%20b?c=d%2F&c=e", content=b"\x00body", headers={"X-Two": "2", "Cookie": "f=g"}
        )
    assert (response.status_code, response.content) == (418, b"\xff\x00")
    assert [value for name, value in response.headers.multi_items() if name == "set-cookie"] == ["a=1", "b=2"]
    assert response.headers["x-one"] == "1"
    [request] = server.requests
    assert (request.method, request.path, request.body) == ("POST", "/a%20b?c=d%2F&c=e", b"\x00body")
    assert (request.headers["x-two"], request.headers["cookie"]) == ("2", "f=g")
    assert request.headers["host"] == server.url.removeprefix("http://")
    assert request.headers["accept-encoding"] == "identity"


def test_the_path_of_the_server_comes_first() -> None:
    with ScriptedServer(Response("a")) as server, Forwarder(f"{server.url}/v1/") as forwarder:
        httpx.get(f"{forwarder.url}/models")
    assert server.requests[0].path == "/v1/models"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_responses_without_a_body(method: str) -> None:
    with ScriptedServer(Response("a", 200 if method == "HEAD" else 204)) as server, Recorder(server.url) as recorder:
        with httpx.Client() as client:
            assert [client.request(method, recorder.url).content for _ in range(2)] == [b"", b""]
        [first, second] = recorder.recordings
    assert (first.ending, first.chunks, second.ending) == ("complete", [], "complete")


def test_what_is_meant_for_another_server_is_refused() -> None:
    with ScriptedServer(Response("a")) as server, Forwarder(server.url) as forwarder:
        port = httpx.URL(forwarder.url).port
        with socket.create_connection(("127.0.0.1", port or 0)) as sock:
            sock.sendall(b"GET http://example.org/ HTTP/1.1\r\nhost: example.org\r\nconnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"not a forward proxy" in answer
    assert server.requests == []


def _ask(url: str, head: bytes) -> bytes:
    """The response to a request as bytes, which no client would send."""
    with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), timeout=30) as sock:
        sock.sendall(head + b"\r\nconnection: close\r\n\r\n")
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_headers_pass_byte_for_byte() -> None:
    with ScriptedServer(Response("a")) as server, Forwarder(server.url) as forwarder:
        answer = _ask(forwarder.url, b"GET /x HTTP/1.1\r\nx-user: Jos\xc3\xa9 \xe9")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert server.requests[0].headers["x-user"].encode("latin-1") == b"Jos\xc3\xa9 \xe9"


@pytest.mark.parametrize("target", [b"/caf\xc3\xa9", b"/a#b", b"/a\x01"])
def test_a_target_that_no_URL_has_is_refused(target: bytes) -> None:
    with ScriptedServer(Response("a")) as server, Forwarder(server.url) as forwarder:
        answer = _ask(forwarder.url, b"GET " + target + b" HTTP/1.1\r\nhost: x")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"must be percent-encoded" in answer
    assert server.requests == []


def test_any_failure_of_the_proxy_reaches_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise OverflowError("no such thing")

    monkeypatch.setattr(httpx.AsyncClient, "send", fail)
    with Forwarder("http://127.0.0.1:9") as forwarder:
        response = httpx.get(forwarder.url, timeout=30)
    assert response.status_code == 502
    assert "no such thing" in response.text


@pytest.mark.parametrize(
    "url",
    ["ftp://127.0.0.1", "127.0.0.1:8080", "http://", "", "http://127.0.0.1:99999", "http://h/base/?k=1", "http://h/#a"],
)
def test_what_is_no_URL_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        Forwarder(url)


def test_certificates_of_the_environment_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    with pytest.raises(ValueError, match="the environment's proxies or certificates cannot be used"):
        Forwarder("https://example.org")


def test_a_proxy_that_is_never_started_leaves_nothing_behind() -> None:
    Forwarder("http://127.0.0.1:9").close()


SILENT: dict[str, Callable[[], Response]] = {
    "before the headers": lambda: Response([b"a"], delay=3600),
    "before the body": lambda: Response([Fault.STALL]),
    "within the body": lambda: Response([EVENTS[0], Fault.STALL]),
}


@pytest.mark.parametrize("response", SILENT.values(), ids=SILENT)
def test_a_client_that_leaves_a_silent_server_closes_the_connection_to_it(response: Callable[[], Response]) -> None:
    ended: list[Recording] = []
    with ScriptedServer(response()) as server, Recorder(server.url, on_recording=ended.append) as recorder:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(recorder.url, timeout=0.3)
        assert server.wait_until_running(0)
        assert server.requests
    [recording] = ended
    assert recording.ending == "client_closed"
    assert recorder.recordings == []


def test_an_observer_that_raises_does_not_disturb_the_exchange() -> None:
    def observe(_: Recording) -> None:
        raise ZeroDivisionError("mine")

    with ScriptedServer(Response("a")) as server:
        recorder = Recorder(server.url, on_recording=observe).start()
        assert httpx.get(recorder.url).text == "a"
        with pytest.raises(ZeroDivisionError, match="mine"):
            recorder.close()


def test_closing_ends_what_is_being_sent() -> None:
    ended: list[Recording] = []
    with ScriptedServer(Response([EVENTS[0], Fault.STALL])) as server:
        recorder = Recorder(server.url, on_recording=ended.append).start()
        with httpx.stream("GET", recorder.url) as response:
            chunks: Any = response.iter_raw()
            assert next(chunks) == EVENTS[0]
            recorder.close()
            with pytest.raises(httpx.RemoteProtocolError):
                next(chunks)
        assert server.wait_until_running(0)
    assert [(each.ending, each.body) for each in ended] == [("client_closed", EVENTS[0])]


def test_a_server_that_cannot_be_reached_is_a_502_and_no_response() -> None:
    with ScriptedServer() as server:
        url = server.url
    with Recorder(url) as recorder:
        response = httpx.get(recorder.url)
        assert response.status_code == 502
        assert "cannot reach its server" in response.json()["error"]
        assert (recorder.recordings[0].status, recorder.recordings[0].ending) == (0, "lost")
