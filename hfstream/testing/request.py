"""Reads requests of HTTP/1.0 and HTTP/1.1, also of clients that do unusual things, within limits.

Does not depend on the responses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .connection import ClosedByClientError, Connection, LineTooLongError

__all__ = ["MAX_BODY_SIZE", "MAX_HEAD_SIZE", "InvalidRequestError", "Request", "read_request"]

MAX_HEAD_SIZE = 65_536
"""Bytes of the request line and the headers together; also of the trailers of a chunked body."""

MAX_BODY_SIZE = 64 * 1_048_576
"""Bytes of a body."""

_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) +([^ ]+) +HTTP/(\d)\.(\d) *")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;.*)?", re.DOTALL)


@dataclass(frozen=True)
class Request:
    """A request that a `ScriptedServer` received."""

    method: str
    path: str
    """The request target, including the query string."""
    headers: Mapping[str, str]
    """The request's headers; the names are in lower case. The values of repeated headers are joined with commas."""
    body: bytes
    """The body, without the framing of chunked bodies."""
    http_version: str = "1.1"
    """``"1.0"`` or ``"1.1"``."""

    def json(self) -> Any:
        """The body, decoded from JSON.

        Raises:
            ValueError: The body is not valid JSON.
        """
        return json.loads(self.body)

    @property
    def keeps_alive(self) -> bool:
        """Whether the client may send another request on the same connection."""
        options = [option.strip().lower() for option in self.headers.get("connection", "").split(",")]
        return "close" not in options and (self.http_version != "1.0" or "keep-alive" in options)


class InvalidRequestError(Exception):
    """A request that cannot be read. It is answered with `status`, and the connection is closed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def read_request(connection: Connection) -> Request | None:
    """The next request; None if the client closed the connection after the previous one.

    Raises:
        InvalidRequestError: The request is malformed, incomplete or too large.
        OSError: The connection was lost.
    """
    try:
        if not _skip_empty_lines(connection):
            return None
        lines = _read_lines(connection)
        method, path, version = _parse_request_line(lines[0])
        headers = _parse_headers(lines[1:])
        return Request(method, path, headers, _read_body(connection, headers, version), version)
    except ClosedByClientError as error:
        raise InvalidRequestError(400, "the connection ended in the middle of the request") from error
    except LineTooLongError as error:
        raise InvalidRequestError(431, f"the request's headers are longer than {MAX_HEAD_SIZE} bytes") from error


def _skip_empty_lines(connection: Connection) -> bool:
    """Skips line ends before a request, which old clients send after a body; returns whether there is a request."""
    for _ in range(100):
        first = connection.peek()
        if first is None:
            return False
        if first not in b"\r\n":
            if not 0x20 < first < 0x7F:  # such as the handshake of TLS, whose first line might never end
                message = "not HTTP" if first != 0x16 else "this server does not speak TLS: use http:// in its URL"
                raise InvalidRequestError(400, message)
            return True
        connection.read(1)
    raise InvalidRequestError(400, "too many empty lines before the request")


def _read_lines(connection: Connection) -> list[str]:
    """The lines up to the next empty one."""
    lines: list[str] = []
    left = MAX_HEAD_SIZE
    while line := connection.read_line(left):
        left -= len(line) + 1
        lines.append(line.decode("latin-1"))
        if len(lines) == 1 and not _REQUEST_LINE.fullmatch(lines[0]):
            break  # what is not HTTP may have no empty line
    return lines


def _parse_request_line(line: str) -> tuple[str, str, str]:
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise InvalidRequestError(400, f"not a request line: {line[:100]!r}")
    method, path, major, minor = found.groups()
    if major != "1":
        raise InvalidRequestError(505, f"HTTP/{major}.{minor} is not supported: use HTTP/1.1")
    return method, path, "1.0" if minor == "0" else "1.1"


def _parse_headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    name = ""
    for line in lines:
        if line[0] in " \t" and name:  # a folded header
            headers[name] += f" {line.strip()}"
            continue
        found = _HEADER.fullmatch(line)
        if found is None:
            raise InvalidRequestError(400, f"not a header: {line[:100]!r}")
        name = found[1].lower()
        headers[name] = f"{headers[name]}, {found[2]}" if name in headers else found[2]
    return headers


def _read_body(connection: Connection, headers: Mapping[str, str], version: str) -> bytes:
    coding = headers.get("transfer-encoding", "").lower()
    if coding not in ("", "chunked"):
        raise InvalidRequestError(501, f"the transfer coding {coding[:100]!r} is not supported: use chunked")
    size = 0 if coding else _content_length(headers)
    expected = headers.get("expect", "").lower()
    if expected not in ("", "100-continue"):
        raise InvalidRequestError(417, f"cannot meet the expectation {expected[:100]!r}")
    if expected and version != "1.0" and (coding or size):
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    return _read_chunks(connection) if coding else connection.read(size)


def _content_length(headers: Mapping[str, str]) -> int:
    values = {value.strip() for value in headers.get("content-length", "0").split(",")}
    value = values.pop()
    if values or not re.fullmatch(r"[0-9]+", value):
        raise InvalidRequestError(400, "Content-Length is not one number")
    if len(value) > 18 or int(value) > MAX_BODY_SIZE:
        raise InvalidRequestError(413, f"the body is longer than {MAX_BODY_SIZE} bytes")
    return int(value)


def _read_chunks(connection: Connection) -> bytes:
    body = bytearray()
    while True:
        found = _CHUNK_SIZE.fullmatch(connection.read_line(MAX_HEAD_SIZE))
        if found is None:
            raise InvalidRequestError(400, "not the size of a chunk")
        size = int(found[1], 16)
        if len(body) + size > MAX_BODY_SIZE:
            raise InvalidRequestError(413, f"the body is longer than {MAX_BODY_SIZE} bytes")
        if size == 0:
            _skip_trailers(connection)
            return bytes(body)
        body += connection.read(size)
        if connection.read_line(MAX_HEAD_SIZE):
            raise InvalidRequestError(400, "a chunk is longer than its size")


def _skip_trailers(connection: Connection) -> None:
    left = MAX_HEAD_SIZE
    while line := connection.read_line(left):
        left -= len(line) + 1
