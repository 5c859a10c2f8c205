"""The certificates that a connection with TLS trusts: those that the environment names, or certifi's.

Read when the first such connection is made, so that a wrong path is no error for connections without TLS. Does not
depend on what connects.
"""

from __future__ import annotations

import functools
import os
import ssl
from pathlib import Path

import httpx

from ..errors import InferenceConnectionError

__all__ = ["ssl_context"]

_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""OpenSSL's and httpx's, requests' and curl's. The first one that is set is used."""


def ssl_context() -> ssl.SSLContext:
    """The TLS settings for the environment as it is now.

    Raises:
        InferenceConnectionError: a variable names a file or directory that cannot be used.
    """
    found = ((name, os.environ.get(name, "")) for name in _VARIABLES)
    name, path = next(((name, path) for name, path in found if path), ("", ""))
    return _load(name, path, os.environ.get("SSLKEYLOGFILE", ""))


@functools.lru_cache(maxsize=8)
def _load(name: str, path: str, key_log: str) -> ssl.SSLContext:
    """One context for all clients: reading the certificates takes 20 ms, and nothing in it is a client's own."""
    if name and not Path(path).exists():
        raise _error(name, path, "there is no such file or directory")
    is_directory = bool(name) and Path(path).is_dir()
    if name == "SSL_CERT_DIR" and not is_directory:
        raise _error(name, path, "that is no directory")
    if name == "SSL_CERT_FILE" and is_directory:
        raise _error(name, path, "that is a directory")
    try:
        if not name:
            return httpx.create_ssl_context(trust_env=False)
        file, directory = (None, path) if is_directory else (path, None)
        return ssl.create_default_context(cafile=file, capath=directory)
    except ssl.SSLError as error:
        raise _error(name, path, "it has no certificates in PEM format") from error
    except OSError as error:
        # The standard library opens SSLKEYLOGFILE too. The error of a file with certificates has no filename.
        if key_log and error.filename == key_log:
            name, path = "SSLKEYLOGFILE", key_log
        raise _error(name, path or str(error.filename), error.strerror or str(error)) from error


def _error(name: str, path: str, reason: str) -> InferenceConnectionError:
    if name:
        message = f"the environment variable {name} is {path!r}, but {reason}. Correct the variable, or unset it"
    else:
        message = f"the certificates of certifi, {path!r}, cannot be read: {reason}. Install certifi again"
    return InferenceConnectionError(f"no TLS connection can be made: {message}", retryable=False)
