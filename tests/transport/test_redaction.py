"""What is logged while a request of ours is sent, and messages that quote a URL or a header."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import logging.config
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from hfstream._transport.redaction import redact, redacted_logs
from hfstream.testing import chat_events
from tests.helpers.variants import Clients, Variant

URL = "https://user:secret@h:8080/secret?key=secret"

LOGGERS = [
    f"{package}.{module}"
    for package in ("httpcore", "httpcore2")
    for module in ("connection", "http11", "http2", "proxy", "socks")
]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (f"for url '{URL}', see https://h/x", "for url 'https://h:8080', see https://h"),
        ("http://[bad/secret", "[a URL]"),
        ("Illegal header value b'Bearer secret\\n'", "Illegal header value"),
        ("illegal header line: bytearray(b'Set-Cookie secret')", "illegal header line"),
        ("illegal chunk header: bytearray(b'words')", "illegal chunk header: bytearray(b'words')"),
        ("illegal status line: bytearray(b'SSH-2.0')", "illegal status line: bytearray(b'SSH-2.0')"),
        ("Connection refused", "Connection refused"),
    ],
)
def test_a_message_without_its_secrets(message: str, shown: str) -> None:
    assert redact(message) == shown


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_httpxs_record_of_our_request_has_the_origin_of_its_URL(name: str, caplog: pytest.LogCaptureFixture) -> None:
    line = ('HTTP Request: %s %s "%s %d %s"', "POST", httpx.URL(URL), "HTTP/1.1", 200, "OK")
    with redacted_logs():
        logging.getLogger(name).info(*line)
    logging.getLogger(name).info(*line)
    assert caplog.messages[0] == 'HTTP Request: POST https://h:8080 "HTTP/1.1 200 OK"'
    assert URL in caplog.messages[1]


@pytest.mark.parametrize("name", LOGGERS)
@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("receive_response_headers.complete return_value=(b'HTTP/1.1', 200, b'OK', [(b'Set-Cookie', b'secret')])",
         "receive_response_headers.complete"),
        ("send_request_headers.failed exception=LocalProtocolError(\"Illegal header value b'secret'\")",
         "send_request_headers.failed"),
        ("setup_socks5_connection.started stream=<x> host='h' port=80 auth=(b'user', b'secret')",
         "setup_socks5_connection.started"),
        ("connect_tcp.started host='h' port=80", "connect_tcp.started host='h' port=80"),
        ("close.complete", "close.complete"),
    ],
)  # fmt: skip
def test_httpcores_record_of_our_request_has_the_step_only(
    name: str, message: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    with redacted_logs():
        logging.getLogger(name).debug(message)
    logging.getLogger(name).debug(message)
    assert caplog.messages == [shown, message]


@pytest.mark.parametrize("package", [name for name in ("httpcore", "httpcore2") if importlib.util.find_spec(name)])
def test_the_loggers_of_httpcore_are_those_of_its_modules(package: str) -> None:
    importlib.import_module(f"{package}._async")
    made = [name for name in logging.Logger.manager.loggerDict if name.startswith(f"{package}.")]
    assert sorted(made) == [name for name in sorted(LOGGERS) if name.startswith(f"{package}.")]


def test_a_configuration_that_resets_loggers_leaves_the_filter(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("httpx")
    settings = {"version": 1, "disable_existing_loggers": False, "loggers": {"httpx": {"level": 1}}}
    root = logging.getLogger()
    handlers, level = list(root.handlers), logger.level
    try:
        logging.config.dictConfig(settings)
        for handler in handlers:  # of pytest
            root.addHandler(handler) if handler not in root.handlers else None
        with redacted_logs():
            logger.info("at %s", URL)
    finally:
        logger.setLevel(level)
    assert caplog.messages == ["at https://h:8080"]


class _HTTP2Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Logs as hpack does: reading one response of a connection decodes the headers of the others."""

    def __iter__(self) -> Iterator[bytes]:
        for event in chat_events("Hi"):
            logging.getLogger("hpack.hpack").debug("Decoded (b'set-cookie', b'secret')")
            logging.getLogger("httpcore.http2").debug("receive_response_body.started request=<Request [b'POST']>")
            yield event

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in self:
            yield event


async def test_hpack_logs_nothing_of_our_requests(
    variant: Variant, clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        logging.getLogger("hpack.table").debug("Adding (b'authorization', b'secret')")
        headers = {"content-type": "text/event-stream"}
        return httpx.Response(200, headers=headers, stream=_HTTP2Body(), extensions={"http_version": b"HTTP/2"})

    make: Any = httpx.Client if variant.name == "sync" else httpx.AsyncClient
    client = clients("http://h/v1", http_client=make(transport=httpx.MockTransport(answer)))
    stream = await variant.open_chat(client)
    await variant.rest(stream)
    assert stream.text == "Hi"
    assert not any("secret" in message for message in caplog.messages)
    assert "receive_response_body.started" in caplog.messages
    logging.getLogger("hpack.hpack").debug("of other code")
    assert caplog.messages[-1] == "of other code"


async def test_a_call_that_is_dropped_while_it_is_sent_is_closed_in_silence() -> None:
    async def send() -> None:
        with redacted_logs():
            await asyncio.Event().wait()

    coroutine = send()
    coroutine.send(None)
    closed = asyncio.create_task(asyncio.sleep(0))  # another context
    await closed
    await asyncio.to_thread(coroutine.close)
