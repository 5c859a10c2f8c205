"""httpx's and httpcore's exceptions, as ours. The only place that knows them."""

from __future__ import annotations

import re
from typing import Any

from ..core.urls import origin
from ..errors import (
    BadRequestError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    UnexpectedResponseError,
)
from ..errors.response_bodies import from_response

__all__ = ["map_exception"]

# By name: httpcore raises under the same names as httpx, and so does httpx2, whose client a user may hand us.
_MODULES = frozenset({"httpx", "httpx2", "httpcore", "httpcore2"})

_Mapping = tuple[type[InferenceError], str, dict[str, Any]]
"""Class, message, and what else its constructor is told."""

_UNREACHABLE = "cannot connect to {origin}: {why}. Check the URL, and that a server runs there{hint}"

_LOCALHOST = re.compile(r"https?://(localhost|127\.|\[::1\])")

_UNTRUSTED = (
    "the certificate of {origin} is not trusted: {why}. Name its issuer with SSL_CERT_FILE, or pass an http_client= of "
    "your own with verify="
)

_BROKEN: _Mapping = (InferenceConnectionError, "the connection to {origin} broke: {why}", {})
"""Reset, closed, cut off, or not HTTP at all."""

_ERRORS: dict[str, _Mapping] = {
    "ConnectTimeout": (
        InferenceTimeoutError,
        "no connection to {origin} in time (Timeouts.connect)",
        {"phase": "connect"},
    ),
    "PoolTimeout": (
        InferenceTimeoutError,
        "all connections of the http_client are in use (Timeouts.connect)",
        {"phase": "connect"},
    ),
    # Which limit a read ran into, only the exchange can tell.
    "TimeoutException": (InferenceTimeoutError, "nothing from {origin} in time", {"phase": "first_token"}),
    "ConnectError": (InferenceConnectionError, _UNREACHABLE, {}),
    "ProxyError": (InferenceConnectionError, "the proxy on the way to {origin} refused: {why}", {}),
    "UnsupportedProtocol": (BadRequestError, "{origin} is no address that can be called: {why}", {}),
    "InvalidURL": (BadRequestError, "{origin} is no address that can be called: {why}", {}),
    "LocalProtocolError": (BadRequestError, "the request to {origin} cannot be sent: {why}", {}),
    "TooManyRedirects": (UnexpectedResponseError, "{origin} redirects in a circle", {}),
    "DecodingError": (UnexpectedResponseError, "the answer of {origin} is not compressed as it says: {why}", {}),
    "TransportError": _BROKEN,
    "NetworkError": _BROKEN,
    "ProtocolError": _BROKEN,
    "ConnectionNotAvailable": _BROKEN,
    "HTTPError": (InferenceConnectionError, "the request to {origin} failed: {why}", {}),
    "StreamError": _BROKEN,
}


def map_exception(error: Exception, url: str) -> Exception:
    """`error` as an `InferenceError` whose cause it is; anything that is not of httpx's making stays as it is."""
    response = getattr(error, "response", None) if type(error).__name__ == "HTTPStatusError" else None
    if response is not None:  # a hook of the user's client called raise_for_status()
        body = response.content if response.is_stream_consumed else b""
        error_from_hook = from_response(response.status_code, response.headers, body)
        error_from_hook.__cause__ = error
        return error_from_hook
    for kind in type(error).__mro__:
        if kind.__name__ in _ERRORS and kind.__module__.partition(".")[0] in _MODULES:
            error_class, message, fields = _ERRORS[kind.__name__]
            why = str(error) or type(error).__name__
            if "CERTIFICATE_VERIFY_FAILED" in why:
                message = _UNTRUSTED
            why = why.partition(" b'")[0].partition(' b"')[0]  # h11 quotes a header that it refuses: the token is one
            host = origin(url)
            hint = " (`hfstream serve` starts one)" if _LOCALHOST.match(host) else ""
            mapped = error_class(message.format(origin=host, why=why.rstrip("."), hint=hint), **fields)
            mapped.__cause__ = error
            return mapped
    return error
