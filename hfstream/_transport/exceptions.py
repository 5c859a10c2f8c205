"""Maps exceptions of httpx and httpcore to `InferenceError` classes. No other module depends on their names."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping
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
from .redirects import INVALID_LOCATION, REDIRECTION, Redirection
from .sockets import PROXY

__all__ = ["map_exception"]

# Exceptions are looked up by name: httpcore's have the same names as httpx's, and so have httpx2's, whose client may
# be passed as http_client=.
_MODULES = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "h11"})

_Mapping = tuple[type[InferenceError], str, dict[str, Any]]
"""Class, message, and further arguments of the constructor."""

_UNREACHABLE = "cannot connect to {origin}: {why}. Check the URL, and that a server runs there{hint}"

_PROXY_UNREACHABLE = (
    "cannot connect to the proxy {proxy} on the way to {origin}: {why}. Check the proxy, or add the host to NO_PROXY"
)

_PROXY_REFUSED = (
    "the proxy {proxy} refused the connection to {origin}: {why}. Check the proxy, or add the host to NO_PROXY"
)

_PROXY_AUTHENTICATION = ". Put user and password into the proxy's URL (http://user:password@proxy:3128)"

_LOCALHOST = re.compile(r"https?://(localhost|127\.|\[::1\])")

_TLS: Mapping[re.Pattern[str], str] = {
    re.compile("CERTIFICATE_VERIFY_FAILED.*(expired|not yet valid)"): (
        "the certificate of {origin} is not valid today: {why}. Renew it, or set this computer's clock"
    ),
    re.compile("CERTIFICATE_VERIFY_FAILED.*mismatch"): (
        "the certificate of {origin} is for another host: {why}. Write the name that it is for into the URL"
    ),
    re.compile("CERTIFICATE_VERIFY_FAILED"): (
        "the certificate of {origin} is not trusted: {why}. Set SSL_CERT_FILE to its issuer's certificate, or pass an "
        "http_client= with verify="
    ),
    re.compile("ALERT_(CERTIFICATE_REQUIRED|UNKNOWN_CA|BAD_CERTIFICATE)"): (
        "{origin} asks for a client certificate: {why}. Pass an http_client= with one"
    ),
    re.compile("WRONG_VERSION_NUMBER|record layer failure", re.IGNORECASE): (
        "{origin} does not answer in TLS: {why}. Check the URL: is it http://?"
    ),
}
"""What OpenSSL says, the first that fits, and the message for it. None of these errors passes by itself."""

_INVALID_HOST = "{origin} is not a valid URL: its host name cannot be encoded ({why})"

_INVALID_REDIRECT = "{origin} redirects to an invalid URL: correct the URL, or the server"

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
    "ProxyError": (InferenceConnectionError, _PROXY_REFUSED, {}),
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


def map_exception(error: Exception, url: str, redirection: Redirection | None = None) -> Exception:
    """`error` as an `InferenceError`. Exceptions of a user's own code are returned unchanged.

    `url` is that of the request; `redirection` says where it was redirected to, unless `error` itself knows. `error` is
    the cause, unless its message shows a secret: a traceback prints it.
    """
    redirection = getattr(error, REDIRECTION, redirection)
    response = getattr(error, "response", None) if type(error).__name__ == "HTTPStatusError" else None
    if response is not None:  # an event hook of the user's client has called raise_for_status()
        body = response.content if response.is_stream_consumed else b""
        return _with_cause(from_response(response.status_code, response.headers, body), error)
    found = _mapping(error)
    if found is None:
        if redirection is not None and isinstance(error, InferenceError) and error.status_code is not None:
            redirection.explain(error)
        return error
    error_class, message, fields = found
    why = (redact(str(error)) or type(error).__name__).rstrip(".")
    host = origin(url if redirection is None else redirection.url)
    proxy = getattr(error, PROXY, None)
    text = message.format(
        origin=host if redirection is None else f"{host} (to which {origin(url)} redirects)",
        why=why,
        hint=" (`hfstream serve` starts one)" if _LOCALHOST.match(host) else "",
        proxy=proxy or "of the http_client",
    )
    if message is _PROXY_REFUSED and why.startswith("407"):
        return _with_cause(error_class(text + _PROXY_AUTHENTICATION, retryable=False), error)
    return _with_cause(error_class(text, **fields), error)


def _mapping(error: Exception) -> _Mapping | None:
    for kind in type(error).__mro__:
        if kind.__name__ in _ERRORS and kind.__module__.partition(".")[0] in _MODULES:
            return _by_message(error, kind.__name__)
    if isinstance(error, UnicodeError):  # of idna, or of the standard library's encoding of that name
        return BadRequestError, _INVALID_HOST, {}
    if isinstance(error, OSError) and not isinstance(error, InferenceError):
        transient = isinstance(error, ConnectionError | TimeoutError | ssl.SSLError | socket.gaierror)
        return InferenceConnectionError, "the request to {origin} failed: {why}", {"retryable": transient}
    return None


def _by_message(error: Exception, name: str) -> _Mapping:
    error_class, _, fields = found = _ERRORS[name]
    for pattern, message in _TLS.items() if "SSL" in str(error) else ():
        if pattern.search(str(error)):
            return error_class, message, {**fields, "retryable": False}
    if str(error).startswith(INVALID_LOCATION):
        return UnexpectedResponseError, _INVALID_REDIRECT, {}
    if name == "ConnectError" and getattr(error, PROXY, None) is not None:
        return error_class, _PROXY_UNREACHABLE, fields
    return found


def _with_cause(mapped: InferenceError, error: Exception) -> InferenceError:
    mapped.__cause__ = error if redact(str(error)) == str(error) else None  # None: and its context is not printed
    return mapped
