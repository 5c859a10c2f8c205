"""Tests of `ScriptedServer` and `Response`."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from hfstream import InferenceClient, RetryPolicy, ServerError
from hfstream.testing import ChaosProxy, Fault, MockServer, Recorder, Request, Response, ScriptedServer, faults
from tests.helpers.variants import Clients, Variant
from tests.testing.common import EVENTS, TEXTS


async def test_delay_postpones_the_response_headers(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(EVENTS, delay=0.2)) as server:
        stream = await variant.open(clients(server.url))
        assert stream.metrics.time_to_first_token >= 0.2
        await variant.close(stream)


async def test_responses_are_sent_in_order(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(
        faults.overloaded(0), faults.overloaded_in_stream(), faults.empty(), Response(EVENTS)
    ) as server:
        stream = await variant.open(clients(server.url, retry=RetryPolicy(4, max_wait=0.01)))
        assert await variant.rest(stream) == TEXTS
        assert len(server.requests) == len(stream.attempts) == 4


# What the script raises ----------------------------------------------------------------------------------------------


def fails(_: Request) -> Response:
    raise AssertionError("the test's own assertion")


async def test_what_a_function_raises_is_raised_when_the_server_closes(variant: Variant, clients: Clients) -> None:
    server = ScriptedServer(fails).start()
    with pytest.raises(ServerError, match="AssertionError: the test's own assertion") as caught:
        await variant.open(clients(server.url))
    assert caught.value.status_code == 500
    with pytest.raises(AssertionError, match="own assertion") as raised:
        server.close()
    assert raised.value.__notes__ == ["raised in a ScriptedServer, for POST /generate_stream"]
    server.close()  # raises once


def test_the_error_of_the_function_replaces_the_one_that_the_client_got() -> None:
    with pytest.raises(AssertionError, match="own assertion") as caught, ScriptedServer(fails) as server:
        InferenceClient(server.url).text_generation("Hi")
    assert isinstance(caught.value.__context__, ServerError)


def test_the_first_of_several_errors_is_raised() -> None:
    server = ScriptedServer(fails).start()
    for _ in range(3):
        assert httpx.get(server.url).status_code == 500
    with pytest.raises(AssertionError) as caught:
        server.close()
    assert "3 responses" in "".join(caught.value.__notes__)


def test_the_connection_is_used_again_after_an_error_of_a_function() -> None:
    server = ScriptedServer(fails, Response("a")).start()
    with httpx.Client() as client:
        assert [client.get(server.url).status_code for _ in range(2)] == [500, 200]
    assert server.connections == 1
    with pytest.raises(AssertionError):
        server.close()


def _generator() -> Iterator[Any]:
    yield b"a"
    raise OSError("of the script, not of the connection")


@pytest.mark.parametrize(
    ("body", "error"),
    [(_generator, OSError), (lambda: iter([b"a", None]), TypeError), (lambda: iter([b"a", -1.0]), ValueError)],
    ids=["raises", "wrong type", "wrong pause"],
)
def test_a_body_that_raises_drops_the_connection_and_is_raised(body: Any, error: type[Exception]) -> None:
    server = ScriptedServer(lambda _: Response(body())).start()
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(server.url)
    with pytest.raises(error):
        server.close()


@pytest.mark.parametrize("result", [None, "text", b"bytes", [b"a"]], ids=repr)
def test_a_function_must_return_a_response(result: Any) -> None:
    server = ScriptedServer(lambda _: result).start()
    assert "must return a Response" in httpx.get(server.url).json()["error"]
    with pytest.raises(TypeError, match=f"not {type(result).__name__}"):
        server.close()


def test_an_async_function_is_refused() -> None:
    async def respond(_: Request) -> Response:
        return Response("a")

    function: Any = respond
    server = ScriptedServer(function).start()
    assert httpx.get(server.url).status_code == 500
    with pytest.raises(TypeError, match="must not be async"):
        server.close()


def test_only_responses_and_functions_are_accepted() -> None:
    for wrong in (EVENTS, "text", None, Response):
        response: Any = wrong
        with pytest.raises(TypeError, match=r"write ScriptedServer\(Response\(events\)\)"):
            ScriptedServer(response)


def test_a_server_without_responses_says_so() -> None:
    server = ScriptedServer().start()
    assert "without responses" in httpx.get(server.url).json()["error"]
    with pytest.raises(LookupError):
        server.close()


def test_an_iterator_is_not_sent_twice() -> None:
    server = ScriptedServer(Response(iter([b"a"]))).start()
    assert [httpx.get(server.url).status_code for _ in range(2)] == [200, 500]
    with pytest.raises(ValueError, match="pass a list"):
        server.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ScriptedServer(Response("a")),
        lambda: Recorder("http://127.0.0.1:9"),
        lambda: ChaosProxy("http://127.0.0.1:9"),
        lambda: MockServer({"rules": [{"text": "a"}]}),
    ],
    ids=["ScriptedServer", "Recorder", "ChaosProxy", "MockServer"],
)
def test_what_is_closed_is_not_started_again(make: Callable[[], Any]) -> None:
    server = make()
    with server:
        pass
    with pytest.raises(RuntimeError, match="is closed: make another one"):
        server.start()


@pytest.mark.parametrize("response", [Response([EVENTS[0], 10**9]), Response([EVENTS[0]], delay=1e8)])
def test_a_long_pause_is_no_lost_connection(response: Response) -> None:
    with ScriptedServer(response) as server, pytest.raises(httpx.ReadTimeout):
        httpx.get(server.url, timeout=0.3)


def test_a_long_wait_is_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hfstream.testing.connection._LONGEST_WAIT", 0.02)
    with ScriptedServer(Response(["a", 0.2, "b"])) as server:
        started = time.monotonic()
        assert httpx.get(server.url).text == "ab"
    assert time.monotonic() - started >= 0.2


def test_a_function_may_close_its_server() -> None:
    def respond(_: Request) -> Response:
        server.close()
        return Response("a")

    server = ScriptedServer(respond).start()
    with pytest.raises(httpx.TransportError):
        httpx.get(server.url)
    server.close()


def test_no_socket_of_the_kit_waits_for_acknowledgements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TCP_NODELAY, a small chunk waits up to 40 ms for the acknowledgement of the one before."""
    switched: set[tuple[int, int]] = set()
    original = socket.socket.setsockopt

    def setsockopt(sock: socket.socket, *arguments: Any) -> None:
        if arguments == (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1):
            switched.add((sock.getsockname()[1], sock.getpeername()[1]))
        original(sock, *arguments)

    monkeypatch.setattr(socket.socket, "setsockopt", setsockopt)
    with ScriptedServer(Response([b"a", Fault.STALL])) as server, ChaosProxy(server.url) as proxy:
        server_port, proxy_port = (int(each.url.rpartition(":")[2]) for each in (server, proxy))
        with httpx.stream("GET", proxy.url, timeout=60) as response:
            assert next(response.iter_raw()) == b"a"
        locals_and_remotes = [{local for local, _ in switched}, {remote for _, remote in switched}]
    assert {server_port, proxy_port} <= locals_and_remotes[0]  # accepted
    assert server_port in locals_and_remotes[1]  # the proxy's connection to the server
