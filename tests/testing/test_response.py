"""Tests of `Response`: what it accepts, and what it refuses where it is made."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from hfstream.testing import Fault, Response, ScriptedServer, token_events


@pytest.mark.parametrize(
    "body", ["Grüße", ["Grü", "ße"], "Grüße".encode(), bytearray("Grüße".encode()), ("Grüße",), [b"Gr", "üße"]]
)
def test_text_and_bytes_are_sent_as_they_are(body: Any) -> None:
    with ScriptedServer(Response(body)) as server:
        assert httpx.get(server.url).content.decode() == "Grüße"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"body": {"a": 1}}, TypeError, r"not dict; Response.json\(value\) sends JSON"),
        ({"body": 5}, TypeError, "not int"),
        ({"body": None}, TypeError, "not NoneType"),
        ({"body": [{"a": 1}]}, TypeError, r"not dict; Response.json\(value\) sends JSON"),
        ({"body": [b"a", None]}, TypeError, "not NoneType"),
        ({"body": [True]}, TypeError, "not bool"),
        ({"body": [[b"a"]]}, TypeError, "not list"),
        ({"body": [Response()]}, TypeError, r"write ScriptedServer\(first, second\)"),
        ({"body": [-1]}, ValueError, "finite and not negative"),
        ({"body": [float("nan")]}, ValueError, "finite and not negative"),
        ({"body": [float("inf")]}, ValueError, "Fault.STALL waits for ever"),
        ({"delay": "1"}, TypeError, "number of seconds"),
        ({"delay": -0.1}, ValueError, "finite and not negative"),
        ({"status": "404"}, TypeError, "status of a Response must be an int"),
        ({"status": 100}, ValueError, "between 200 and 999"),
        ({"content_type": 3}, TypeError, "'Content-Type' must be two str"),
        ({"headers": {"Retry-After": 1}}, TypeError, "'Retry-After' must be two str"),
        ({"headers": "Retry-After: 1"}, TypeError, "a dict or a list of pairs"),
        ({"headers": ["Retry-After"]}, TypeError, "a dict or a list of pairs"),
        ({"headers": {"A": "b\r\nC: d"}}, ValueError, "use raw=True for it"),
        ({"headers": {"A b": "c"}}, ValueError, "use raw=True for it"),
        ({"headers": {"A": "€"}}, ValueError, "use raw=True for it"),
    ],
    ids=lambda value: None,
)
def test_what_cannot_be_sent_is_refused_where_it_is_made(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Response(**arguments)


def test_an_asynchronous_body_is_refused() -> None:
    async def steps() -> Any:
        yield b"a"

    body: Any = steps()
    with pytest.raises(TypeError, match="not an asynchronous iterable"):
        Response(body)


def test_headers_can_be_repeated() -> None:
    with ScriptedServer(Response("a", headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])) as server:
        assert httpx.get(server.url).headers.get_list("set-cookie") == ["a=1", "b=2"]


def test_a_content_type_among_the_headers_replaces_the_default() -> None:
    with ScriptedServer(Response("a", headers={"content-type": "text/plain"})) as server:
        assert httpx.get(server.url).headers.get_list("content-type") == ["text/plain"]


def test_content_length_is_sent_as_written() -> None:
    with ScriptedServer(*[Response("abc", headers={"Content-Length": "3"})] * 2) as server, httpx.Client() as client:
        assert [client.get(server.url).text for _ in range(2)] == ["abc", "abc"]
        assert server.connections == 1
    incomplete = ScriptedServer(Response("abc", headers={"Content-Length": "9"}))
    with incomplete as server, pytest.raises(httpx.RemoteProtocolError):
        httpx.get(server.url)


def test_a_raw_response_has_no_other_head() -> None:
    head = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 299 Odd\r\nContent-Length: 3\r\n\r\n"
    with ScriptedServer(Response([head, 0.01, "abc"], raw=True)) as server:
        response = httpx.get(server.url)
        assert (response.status_code, response.text, response.reason_phrase) == (299, "abc", "Odd")


def test_a_stall_sends_nothing_more() -> None:
    with ScriptedServer(Response([*token_events("a"), Fault.STALL, b"never"])) as server:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(server.url, timeout=httpx.Timeout(60, read=0.2))
        assert server.wait_until_running(0)
