"""The exceptions of httpx and httpcore become ours: with a class, a cause, a message, and no secret in it."""

from __future__ import annotations

import inspect
import socket
import ssl
from typing import Any

import httpcore
import httpx
import pytest

from hfstream import errors
from hfstream._transport import map_exception
from hfstream.core.request_spec import RequestSpec
from hfstream.core.text_generation import text_generation
from hfstream.core.urls import Endpoint


def exceptions_of(module: Any) -> list[type[Exception]]:
    found = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, Exception)]
    return sorted(set(found), key=lambda kind: kind.__name__)


HTTPX = [
    kind for kind in exceptions_of(httpx) if issubclass(kind, httpx.HTTPError | httpx.StreamError | httpx.InvalidURL)
]
HTTPCORE = exceptions_of(httpcore)
TIMEOUT, CONNECTION = errors.InferenceTimeoutError, errors.InferenceConnectionError
CLASSES: dict[str, type[errors.InferenceError]] = {
    "ConnectTimeout": TIMEOUT, "PoolTimeout": TIMEOUT, "ReadTimeout": TIMEOUT, "WriteTimeout": TIMEOUT,
    "TimeoutException": TIMEOUT,
    "CloseError": CONNECTION, "ConnectError": CONNECTION, "NetworkError": CONNECTION, "ProtocolError": CONNECTION,
    "ProxyError": CONNECTION, "ReadError": CONNECTION, "RemoteProtocolError": CONNECTION, "TransportError": CONNECTION,
    "WriteError": CONNECTION, "ConnectionNotAvailable": CONNECTION,
    "StreamError": CONNECTION, "StreamClosed": CONNECTION, "StreamConsumed": CONNECTION, "RequestNotRead": CONNECTION,
    "ResponseNotRead": CONNECTION,
    "InvalidURL": errors.BadRequestError, "LocalProtocolError": errors.BadRequestError,
    "UnsupportedProtocol": errors.BadRequestError,
    "DecodingError": errors.UnexpectedResponseError, "TooManyRedirects": errors.UnexpectedResponseError,
    "RequestError": CONNECTION, "HTTPError": CONNECTION, "HTTPStatusError": errors.OverloadedError,
}  # fmt: skip
EXCEPTIONS = [pytest.param(kind, id=f"{kind.__module__.split('.')[0]}.{kind.__name__}") for kind in HTTPX + HTTPCORE]


def make_exception(kind: type[Exception]) -> Exception:
    if issubclass(kind, httpx.HTTPStatusError):
        request = httpx.Request("POST", "http://h")
        return kind("reason", request=request, response=httpx.Response(429, request=request))
    no_arguments = kind.__module__ == "httpx" and issubclass(kind, httpx.StreamError) and kind is not httpx.StreamError
    return kind() if no_arguments else kind("reason")


def spec_with_secrets() -> RequestSpec[Any, Any, Any]:
    endpoint = Endpoint("https://user:secret@h:8080/secret?key=secret", stream_in_body=False)
    return text_generation(endpoint, "p", {}, stream=True, details=False, headers={"Authorization": "Bearer secret"})


@pytest.mark.parametrize("kind", EXCEPTIONS)
def test_every_exception_is_mapped(kind: type[Exception]) -> None:
    original = make_exception(kind)
    mapped = map_exception(original, spec_with_secrets().url)
    assert type(mapped) is CLASSES[kind.__name__]
    assert mapped.__cause__ is original
    assert "https://h:8080" in str(mapped) or kind in (httpx.PoolTimeout, httpcore.PoolTimeout, httpx.HTTPStatusError)
    assert "secret" not in str(mapped)


@pytest.mark.parametrize("kind", EXCEPTIONS)
def test_an_exception_without_a_message_becomes_an_error_with_one(kind: type[Exception]) -> None:
    if issubclass(kind, httpx.HTTPStatusError | httpx.StreamError):
        return
    mapped = map_exception(kind(""), spec_with_secrets().url)
    assert len(str(mapped)) > 10
    assert ": ." not in str(mapped)


def test_an_unknown_exception_is_mapped_by_its_base_class() -> None:
    class OddTimeoutError(httpx.ReadTimeout):
        pass

    class ConnectError(Exception):
        """Has the name of one of httpx's, but not its module."""

    assert type(map_exception(OddTimeoutError("x"), spec_with_secrets().url)) is errors.InferenceTimeoutError
    original = ConnectError("x")
    assert map_exception(original, spec_with_secrets().url) is original


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), errors.OverloadedError("x"), KeyError("x")])
def test_an_exception_of_another_module_is_returned_unchanged(error: Exception) -> None:
    assert map_exception(error, spec_with_secrets().url) is error


@pytest.mark.parametrize(
    ("kind", "phase"),
    [(httpx.ConnectTimeout, "connect"), (httpx.PoolTimeout, "connect"), (httpcore.ConnectTimeout, "connect")],
)
def test_a_timeout_before_there_is_a_connection_has_the_phase_connect(kind: type[Exception], phase: str) -> None:
    mapped = map_exception(kind("x"), spec_with_secrets().url)
    assert isinstance(mapped, errors.InferenceTimeoutError)
    assert mapped.phase == phase


@pytest.mark.parametrize("kind", [httpx.ReadError, httpcore.ConnectError])
def test_a_server_that_wants_a_client_certificate_is_told(kind: type[Exception]) -> None:
    """Not with a real one, which may reset the connection before its alert has been read."""
    mapped = map_exception(kind("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] alert"), spec_with_secrets().url)
    assert isinstance(mapped, CONNECTION)
    assert not mapped.retryable
    assert str(mapped).startswith("https://h:8080 asks for a client certificate: ")


@pytest.mark.parametrize("kind", [httpx.LocalProtocolError, httpcore.LocalProtocolError])
def test_an_illegal_header_is_not_quoted(kind: type[Exception]) -> None:
    assert "secret" not in str(map_exception(kind("Illegal header value b'Bearer secret\\n'"), spec_with_secrets().url))


# --- What is neither of httpx nor of the user's ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected", "retryable"),
    [
        (UnicodeError("label empty or too long"), errors.BadRequestError, False),
        ("é".encode, errors.BadRequestError, False),
        (OSError("x"), CONNECTION, False),
        (FileNotFoundError(2, "No such file"), CONNECTION, False),
        (ConnectionResetError("x"), CONNECTION, True),
        (socket.gaierror(-2, "Name or service not known"), CONNECTION, True),
        (ssl.SSLError(1, "bad record"), CONNECTION, True),
    ],
    ids=range(7),
)
def test_an_error_of_the_standard_library_becomes_one_of_ours(error: Any, expected: type, retryable: bool) -> None:
    if callable(error):
        with pytest.raises(UnicodeEncodeError) as caught:
            error("ascii")
        error = caught.value
    mapped = map_exception(error, spec_with_secrets().url)
    assert isinstance(mapped, errors.InferenceError)
    assert type(mapped) is expected
    assert mapped.retryable is retryable
    assert "https://h:8080" in str(mapped)
    assert mapped.__cause__ is error
