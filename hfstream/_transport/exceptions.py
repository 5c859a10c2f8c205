"""Maps exceptions of httpx and httpcore to `InferenceError` classes. No other module depends on their names."""

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
from .redaction import redact

__all__ = ["map_exception"]

# Exceptions are looked up by name: httpcore's have the same names as httpx's, and so have httpx2's, whose client may
# be passed as http_client=.
_MODULES = frozenset({"httpx", "httpx2", "httpcore", "httpcore2"})

_Mapping = tuple[type[InferenceError], str, dict[str, Any]]
"""Class, message, and further arguments of the constructor."""

_UNREACHABLE = "cannot connect to {origin}: {why}. Check the URL, and that a server runs there{hint}"

_LOCALHOST = re.compile(r"https?://(localhost|127\.|\[::1\])")

_UNTRUSTED = (
    "the certificate of {origin} is not trusted: {why}. Set SSL_CERT_FILE to its "
    "issuer's certificate, or pass an http_client= with verify="
)

_BROKEN: _Mapping = (InferenceConnectionError, "the connection to {origin} was lost: {why}", {})
"""Reset, closed, cut off, or not HTTP."""

_ERRORS: dict[str, _Mapping] = {
    "ConnectTimeout": (
        InferenceTimeoutError,
        "connecting to {origin} took too long (Timeouts.connect)",
        {"phase": "connect"},
    ),
    "PoolTimeout": (
        InferenceTimeoutError,
        "all connections of the http_client are in use (Timeouts.connect)",
        {"phase": "connect"},
    ),
    # The exchange knows which limit a read has exceeded, and replaces the message and the phase.
    "TimeoutException": (InferenceTimeoutError, "no data from {origin} in time", {"phase": "first_token"}),
    "ConnectError": (InferenceConnectionError, _UNREACHABLE, {}),
    "ProxyError": (InferenceConnectionError, "the proxy for {origin} refused the connection: {why}", {}),
    "UnsupportedProtocol": (BadRequestError, "{origin} is not a valid URL: {why}", {}),
    "InvalidURL": (BadRequestError, "{origin} is not a valid URL: {why}", {}),
    "LocalProtocolError": (BadRequestError, "the request to {origin} cannot be sent: {why}", {}),
    "TooManyRedirects": (UnexpectedResponseError, "too many redirects from {origin}", {}),
    "DecodingError": (
        UnexpectedResponseError,
        "the response from {origin} does not match its Content-Encoding: {why}",
        {},
    ),
    "TransportError": _BROKEN,
    "NetworkError": _BROKEN,
    "ProtocolError": _BROKEN,
    "ConnectionNotAvailable": _BROKEN,
    "HTTPError": (InferenceConnectionError, "the request to {origin} failed: {why}", {}),
    "StreamError": _BROKEN,
}


def map_exception(error: Exception, url: str) -> Exception:
    """`error` as an `InferenceError`. Exceptions of other libraries are returned unchanged.

    `error` is its cause, unless its message shows a secret: a traceback prints it.
    """
    response = getattr(error, "response", None) if type(error).__name__ == "HTTPStatusError" else None
    if response is not None:  # an event hook of the user's client has called raise_for_status()
        body = response.content if response.is_stream_consumed else b""
        return _with_cause(from_response(response.status_code, response.headers, body), error)
    for kind in type(error).__mro__:
        if kind.__name__ in _ERRORS and kind.__module__.partition(".")[0] in _MODULES:
            error_class, message, fields = _ERRORS[kind.__name__]
            why = redact(str(error)) or type(error).__name__
            if "CERTIFICATE_VERIFY_FAILED" in why:
                message = _UNTRUSTED
            host = origin(url)
            hint = " (`hfstream serve` starts one)" if _LOCALHOST.match(host) else ""
            return _with_cause(
                error_class(message.format(origin=host, why=why.rstrip("."), hint=hint), **fields), error
            )
    return error


def _with_cause(mapped: InferenceError, error: Exception) -> InferenceError:
    mapped.__cause__ = error if redact(str(error)) == str(error) else None  # None: and its context is not printed
    return mapped
