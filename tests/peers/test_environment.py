"""What the environment says of proxies and certificates, addresses and headers that are invalid, redirects, cookies."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hfstream import (
    BadRequestError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    Timeouts,
    UnexpectedResponseError,
)
from hfstream.testing import Fault, Request, Response, ScriptedServer, token_events
from tests.helpers.exchanges import numbered
from tests.helpers.ports import unused_port
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import AGAIN, SOON, WORDS, Task

SECTION = "Proxies, certificates and addresses"


@contextlib.contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does to each connection what a `ScriptedServer` cannot; `talk` may end in an OSError."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        opened: list[socket.socket] = []

        def serve(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                connection.recv(65536)
                talk(connection)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    opened.append(listener.accept()[0])
                    threading.Thread(target=serve, args=(opened[-1],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for each in (listener, *opened):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


INFORMATIONAL = row(
    SECTION,
    "`HTTP/1.1 100 Continue` or 103 without end, headers without end, a head that comes byte by byte",
    "no timeout, not even the total one",
    "the time limit that is due; a head has at most 100 kB",
)


@pytest.mark.slow
@INFORMATIONAL
@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"],
    ids=["100", "103"],
)
@pytest.mark.parametrize("limit", ["first_token", "total"])
async def test_informational_responses_without_end_meet_a_limit(
    variant: Variant, clients: Clients, task: Task, head: bytes, limit: str
) -> None:
    def flood(connection: socket.socket) -> None:
        while True:
            connection.sendall(head * 1000)

    with raw_server(flood) as url:
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError) as caught:
            await task.open(variant, clients(url, retry=None, timeout=Timeouts(**{limit: 0.3})))
        assert caught.value.phase == limit
        assert time.monotonic() - started < SOON


@pytest.mark.slow
@INFORMATIONAL
@pytest.mark.parametrize("pace", [0.0, 0.02], ids=["at once", "slowly"])
async def test_headers_without_end_are_an_error(variant: Variant, clients: Clients, task: Task, pace: float) -> None:
    def headers(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        for number in itertools.count():
            connection.sendall(b"x-%d: y\r\n" % number)
            time.sleep(pace)

    with raw_server(headers) as url:
        started = time.monotonic()
        with pytest.raises((InferenceConnectionError, InferenceTimeoutError)):
            await task.open(variant, clients(url, retry=None, timeout=Timeouts(first_token=0.5)))
        assert time.monotonic() - started < SOON


NO_PROXY = row(
    SECTION,
    "`NO_PROXY` with `[::1]`, `fe80::/10`, `10.0.0.0/8`, ports, wildcards, or entries that mean nothing",
    "every call fails: `InvalidURL` (openai, huggingface_hub)",
    "read as curl, Go and requests read them; an entry that cannot be read is passed over",
)


@NO_PROXY
@pytest.mark.parametrize(
    "entries",
    [
        "[::1],fe80::/10,127.0.0.0/8",
        "127.0.0.1:{port}",
        "::1, http://[, :, [], ,127.0.0.1",
        "*",
        "10.0.0.0/8 127.0.0.1",
    ],
    ids=range(5),
)
async def test_an_exception_of_any_form_is_read(
    variant: Variant, clients: Clients, task: Task, entries: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        monkeypatch.setenv("NO_PROXY", entries.format(port=server.url.rpartition(":")[2]))
        assert task.texts(await variant.rest(await task.open(variant, clients(server.url)))) == WORDS


PROXY = row(
    SECTION,
    "a proxy from the environment that is down, refuses, or is invalid; a SOCKS proxy without its package",
    "an error about the server's URL, `ValueError`, `ImportError`",
    "an error that names the proxy, without its password, and the variable",
)


@PROXY
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_a_proxy_that_is_down_is_named(
    variant: Variant, clients: Clients, task: Task, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = f"127.0.0.1:{unused_port()}"
    monkeypatch.setenv(variable, f"http://user:secret@{proxy}")
    with pytest.raises(InferenceConnectionError) as caught:
        await task.open(variant, clients("http://model.invalid", retry=None))
    message = str(caught.value)
    assert f"the proxy http://{proxy} (from {variable})" in message
    assert "http://model.invalid" in message
    assert "secret" not in message
    assert "user" not in message


@PROXY
@pytest.mark.parametrize("status", [403, 407, 502])
async def test_a_proxy_that_refuses_is_named(
    variant: Variant, clients: Clients, task: Task, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(Response(status=status)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(InferenceConnectionError) as caught:
            await task.open(variant, clients("https://model.invalid", retry=AGAIN))
        assert f"the proxy {proxy.url} (from HTTPS_PROXY) refused" in str(caught.value)
        assert ("user:password@" in str(caught.value)) is (status == 407)
        assert len(proxy.requests) == (1 if status == 407 else 3)
        assert proxy.requests[0].method == "CONNECT"


@PROXY
@pytest.mark.parametrize("url", ["ftp://proxy:1", "http://", "http://user:pa/ss@proxy:1", "http://[::1", "socks4://a"])
async def test_an_invalid_proxy_is_an_error_that_names_the_variable(
    variant: Variant, clients: Clients, task: Task, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", url)
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        with pytest.raises(InferenceConnectionError, match="HTTP_PROXY") as caught:
            await task.open(variant, clients(server.url, retry=AGAIN))
        assert "pa/ss" not in str(caught.value)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert task.texts(await variant.rest(await task.open(variant, clients(server.url)))) == WORDS


@PROXY
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_a_SOCKS_proxy_without_its_package_is_an_error_that_names_it(
    variant: Variant, clients: Clients, task: Task, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://user:secret@127.0.0.1:1")
    with pytest.raises(InferenceConnectionError, match=r"pip install 'httpx\[socks\]'") as caught:
        await task.open(variant, clients("http://model.invalid", retry=AGAIN))
    assert f"{scheme}://127.0.0.1:1 (from ALL_PROXY)" in str(caught.value)
    assert "secret" not in str(caught.value)


@PROXY
async def test_the_limits_hold_behind_a_proxy(
    variant: Variant, clients: Clients, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(Response([task.event("Hello"), Fault.STALL])) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        limits = Timeouts(first_token=300, between_tokens=0.2)
        stream = await task.open(variant, clients("http://model.invalid", timeout=limits))
        with pytest.raises(InferenceTimeoutError, match="between_tokens"):
            await variant.rest(stream)


CERTIFICATES = row(
    SECTION,
    "`SSL_CERT_FILE`, `SSL_CERT_DIR` or `REQUESTS_CA_BUNDLE` names a file that is missing",
    "`FileNotFoundError` without a name, when the client is made; also for http URLs",
    "an error that names the variable and the path, and only when TLS is used",
)


@CERTIFICATES
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("kind", ["missing", "wrong"])
async def test_certificates_that_cannot_be_read_are_named(
    variant: Variant,
    clients: Clients,
    task: Task,
    variable: str,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path = tmp_path / "certificates.pem"
    if kind == "wrong":
        path.write_text("no certificate")
    monkeypatch.setenv(variable, str(path))
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        assert task.texts(await variant.rest(await task.open(variant, clients(server.url)))) == WORDS
        secure = clients(server.url.replace("http:", "https:"), retry=AGAIN)
        with pytest.raises(InferenceConnectionError, match=variable) as caught:
            await task.open(variant, secure)
        assert str(path) in str(caught.value)
        assert not caught.value.retryable


FOREIGN = row(
    SECTION,
    "`http://xn--/`, `http://a..b`, a header value `é` or with a line break, 200 with 100,000 `[`",
    "`UnicodeError`, `IDNAError`, `RecursionError`, `LocalProtocolError`",
    "a typed error, or a `ValueError` before anything is sent, that says what to change",
)


@FOREIGN
@pytest.mark.parametrize(
    "url", ["http://xn--/", "http://xn--a.invalid", "http://127.0.0.1:1/\0", "http://\u2028x"], ids=ascii
)
async def test_a_host_that_cannot_be_encoded_is_told(variant: Variant, clients: Clients, task: Task, url: str) -> None:
    with pytest.raises(BadRequestError, match="is not a valid URL"):
        await task.open(variant, clients(url))


@FOREIGN
@pytest.mark.parametrize(
    "url",
    ["http://a..b", "http://.a", f"http://{'a' * 64}.b", "http:///x", "http://:80", r"https://a.b\.c.d", "http://a b"],
)
async def test_a_host_that_cannot_exist_is_refused(variant: Variant, clients: Clients, task: Task, url: str) -> None:
    with pytest.raises(ValueError, match="the model's URL is invalid"):
        clients(url)
    with pytest.raises(ValueError, match="the model's URL is invalid"):
        await task.open(variant, clients(None), model=url)


@FOREIGN
@pytest.mark.parametrize("value", ["é", "a\nb", "a\r\nX-Other: b", "\0", "\x7f", "\u2028"], ids=ascii)
async def test_a_header_that_cannot_be_sent_is_refused(
    variant: Variant, clients: Clients, task: Task, value: str
) -> None:
    with pytest.raises(ValueError, match="the header 'X-Key'") as caught:
        clients("http://127.0.0.1:1", headers={"X-Key": value})
    assert "Other" not in str(caught.value)
    with pytest.raises(ValueError, match="the header 'X-Key'"):
        await task.open(variant, clients("http://127.0.0.1:1"), extra_headers={"X-Key": value})


@FOREIGN
async def test_the_line_break_of_a_file_is_no_part_of_a_header(variant: Variant, clients: Clients, task: Task) -> None:
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        await task.open(variant, clients(server.url, headers={"X-Key": " key \n", "X-None": None}))
        assert server.requests[0].headers["x-key"] == "key"
        assert "x-none" not in server.requests[0].headers


@FOREIGN
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b'{"choices":' + b"[" * 100_000], ids=range(3))
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_JSON_of_any_depth_is_a_typed_error(
    variant: Variant, clients: Clients, task: Task, body: bytes, kind: str
) -> None:
    framed = b"data: " + body + b"\n\n" if kind == "text/event-stream" else body
    with ScriptedServer(Response([framed], content_type=kind)) as server:
        client = clients(server.url, retry=None)
        for ask in (task.open, task.ask):
            with pytest.raises(InferenceError):
                await ask(variant, client)


REDIRECTS = row(
    SECTION,
    "a redirect to an invalid URL, or to a host that refuses the connection",
    "`InvalidURL`, `UnicodeError`; or an error that names the first host",
    "a typed error that names the target, without its path and query",
)


@REDIRECTS
@pytest.mark.parametrize(
    "location",
    [
        "http://xn--/",
        "http://a..b/",
        "http://[::1",
        "http://a:99999/",
        "ftp://a/b",
        "mailto:x",
    ],
)
async def test_a_redirect_to_an_invalid_URL_is_told(
    variant: Variant, clients: Clients, task: Task, location: str
) -> None:
    with ScriptedServer(Response(status=307, headers={"Location": location})) as server:
        with pytest.raises(InferenceError) as caught:
            await task.open(variant, clients(server.url, retry=AGAIN))
        assert isinstance(caught.value, UnexpectedResponseError)
        assert f"{server.url} redirects to an invalid URL" in str(caught.value)
        assert len(server.requests) <= 21


@REDIRECTS
async def test_a_target_that_refuses_is_named(variant: Variant, clients: Clients, task: Task) -> None:
    target = f"http://127.0.0.1:{unused_port()}"
    location = target.replace("http://", "http://user:secret@") + "/x?key=secret"
    with ScriptedServer(Response(status=308, headers={"Location": location})) as server:
        with pytest.raises(InferenceConnectionError) as caught:
            await task.open(variant, clients(server.url, retry=None))
        assert f"cannot connect to {target} (to which {server.url} redirects)" in str(caught.value)
        assert "secret" not in str(caught.value)


@REDIRECTS
@pytest.mark.parametrize("status", [301, 302, 303, 307])
async def test_an_error_of_the_target_says_where_it_comes_from(
    variant: Variant, clients: Clients, task: Task, status: int
) -> None:
    """A POST that becomes a GET is what http URLs of https servers lead to; the server's 405 alone explains nothing."""
    with ScriptedServer(Response.error(405, "Method Not Allowed")) as target:
        location = target.url.replace("127.0.0.1", "localhost") + "/generate_stream"
        with ScriptedServer(Response(status=status, headers={"Location": location})) as server:
            with pytest.raises(BadRequestError, match="Method Not Allowed") as caught:
                await task.open(variant, clients(server.url, retry=None))
            notes = "".join(caught.value.__notes__)
            assert location.removesuffix("/generate_stream") in notes
            assert ("as a GET" in notes) is (status != 307)


EVENT_ID = row(
    SECTION,
    "the id of an event is `é`, and the connection is lost",
    "`UnicodeEncodeError` (those that send it back)",
    "sent back as UTF-8, as it came",
)


@EVENT_ID.only(task="text")
@pytest.mark.parametrize("name", ["é", "事件", "a b", "x" * 2000], ids=["accent", "Chinese", "space", "long"])
async def test_an_id_of_any_letters_is_sent_back(variant: Variant, clients: Clients, name: str) -> None:
    events = numbered(token_events(*WORDS), name)
    sent: list[str] = []

    def answer(request: Request) -> Response:
        if request.method == "DELETE" or "last-event-id" not in request.headers:
            return Response([*events[:1], Fault.DROP])
        sent.append(request.headers["last-event-id"].encode("latin-1").decode())
        return Response(events[1:])

    with ScriptedServer(answer) as server:
        client = clients(server.url, resume=True, retry=AGAIN)
        assert await variant.rest(await variant.open(client)) == WORDS
        assert sent == [f"{name}:1"]


COOKIES = row(
    SECTION,
    "40 responses with 50 `Set-Cookie` each",
    "a `Cookie` header of 1.8 MB",
    "at most 50 cookies of a host, the newest, in 8 kB together; the client's own cookies are always sent",
)


@COOKIES
async def test_cookies_are_bounded(variant: Variant, clients: Clients, task: Task) -> None:
    def answer(request: Request) -> Response:
        number = len(server.requests)
        cookies = [f"c{number}-{each}={'v' * 900}; Path=/" for each in range(50)]
        return Response(task.whole(*WORDS), headers=[("Set-Cookie", cookie) for cookie in cookies])

    with ScriptedServer(answer) as server:
        client = clients(server.url)
        for _ in range(40):
            await variant.rest(await task.open(variant, client))
        sent = [request.headers.get("cookie", "") for request in server.requests]
        assert sent[0] == ""
        assert all(0 < len(cookie) <= 8192 for cookie in sent[1:])
        assert "c39-49=" in sent[-1]
