"""A server that answers like a model, by rules or from a tape, on TGI's and OpenAI's routes.

    with MockServer.from_file("rules.yaml") as server:
        client = InferenceClient(server.url)

Does not depend on the command line.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from ..arguments import check_function, check_number
from ..request import Request
from ..response import Response
from ..scripted import ScriptedServer
from .loading import load_rules, parse_rules
from .responders import Reply, Responder, RulesResponder
from .tape import TapeResponder, is_tape, load_tape

__all__ = ["MockServer", "MockedRequest"]

_CORS = [
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", "*"),
]  # programs in a browser may ask too
_PREFLIGHT = [*_CORS, ("Access-Control-Allow-Methods", "*"), ("Access-Control-Allow-Headers", "authorization, *")]


@dataclass(frozen=True)
class MockedRequest:
    """A request that a `MockServer` has answered."""

    number: int
    """Its number, counted from 1. The response has it as ``x-request-id: mock-1``."""
    request: Request
    source: str | None
    """What answers, such as ``"rule 2 (line 14)"``; None where no rule held, or the tape has no such request."""
    asked: str
    """What was asked, in one line."""
    status: int
    """The response's status."""


class MockServer:
    """A server that answers like a model, by rules or from a tape. It needs no model.

    Use it as a context manager, or call `start` and `close`. A request for which no rule holds gets a 404 whose message
    says what was asked, and is one of `unmatched`.

    Args:
        rules: The rules, with the fields of a file of rules: ``{"rules": [{"text": "Hello"}]}``.
        speed: A factor for all paces and delays: 10 is ten times as fast, ``float("inf")`` without pauses.
        host: The address to listen at.
        port: The port; 0 takes a free one.
        keep: How many requests are kept in `requests`; None: all.
        on_request: Called for each request, in the thread of its connection, before it is answered.

    Raises:
        RulesError: The rules are not valid.
        TypeError: An argument is of another type.
        ValueError: `speed` is not greater than 0.
        OSError: The port is in use, or `host` is not an address of this machine.
    """

    def __init__(
        self,
        rules: Mapping[str, Any],
        *,
        speed: float = 1.0,
        host: str = "127.0.0.1",
        port: int = 0,
        keep: int | None = None,
        on_request: Callable[[MockedRequest], None] | None = None,
    ) -> None:
        given: Any = rules  # annotations are not checked at run time
        if not isinstance(given, Mapping):
            raise TypeError(f"rules must be a dict, not {given!r:.100}: MockServer.from_file(path) reads a file")
        check_number("speed", speed, positive=True, infinite=True)
        self._set_up(RulesResponder(parse_rules(rules), speed=speed), host, port, keep, on_request)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        speed: float = 1.0,
        match: Literal["body", "path"] = "body",
        host: str = "127.0.0.1",
        port: int = 0,
        keep: int | None = None,
        on_request: Callable[[MockedRequest], None] | None = None,
    ) -> Self:
        """A server with the rules of a file, in JSON or YAML, or with the responses of a tape.

        `match` says which recording of a tape answers: the next one with the same method, path and body (as JSON), or
        the next one with the same method and path. The last one is repeated. The other arguments are the class's.

        Raises:
            RulesError: The rules or the tape are not valid. The message names the line and the field.
            TypeError: An argument is of another type.
            ValueError: `speed` is not greater than 0, or `match` is another word.
            ImportError: The rules are in YAML, and PyYAML is not installed (``hfstream[mock]``).
            OSError: The file cannot be read, the port is in use, or `host` is not an address of this machine.
        """
        check_number("speed", speed, positive=True, infinite=True)
        if match not in ("body", "path"):
            raise ValueError(f'match must be "body" or "path", not {match!r:.50}')
        responder: Responder
        if is_tape(Path(path)):
            responder = TapeResponder(load_tape(Path(path)), by_body=match == "body", speed=speed)
        else:
            responder = RulesResponder(load_rules(path), speed=speed)
        server = cls.__new__(cls)
        server._set_up(responder, host, port, keep, on_request)
        return server

    def _set_up(
        self,
        responder: Responder,
        host: str,
        port: int,
        keep: int | None,
        on_request: Callable[[MockedRequest], None] | None,
    ) -> None:
        check_function("on_request", on_request)
        self._responder = responder
        self._requests: deque[MockedRequest] = deque(maxlen=keep)
        self._unmatched: deque[MockedRequest] = deque(maxlen=keep)
        self._count = self._unmatched_count = 0
        self._lock = threading.Lock()
        self._on_request = on_request
        self._server = ScriptedServer(self._respond, host=host, port=port)

    @property
    def url(self) -> str:
        """The server's URL, such as ``http://127.0.0.1:54321``."""
        return self._server.url

    @property
    def requests(self) -> Sequence[MockedRequest]:
        """The requests so far, in order of arrival."""
        return list(self._requests)

    @property
    def unmatched(self) -> Sequence[MockedRequest]:
        """The requests for which no rule held, or which the tape does not have."""
        return list(self._unmatched)

    @property
    def count(self) -> int:
        """The number of requests so far, also of those that are not kept."""
        return self._count

    @property
    def unmatched_count(self) -> int:
        """The number of requests in `unmatched`, also of those that are not kept."""
        return self._unmatched_count

    @property
    def unused(self) -> Sequence[str]:
        """The rules, or recordings, that have not answered a request, in words."""
        return self._responder.unused

    @property
    def running(self) -> int:
        """How many responses are being sent now."""
        return self._server.running

    def wait_until_running(self, count: int, timeout: float = 60.0) -> bool:
        """Waits until exactly `count` responses are being sent; returns False if `timeout` seconds pass first."""
        return self._server.wait_until_running(count, timeout)

    def start(self) -> Self:
        """Starts to accept connections.

        Raises:
            RuntimeError: It was closed.
        """
        self._server.start()
        return self

    def close(self) -> None:
        """Closes all connections."""
        self._server.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _respond(self, request: Request) -> Response:
        self._server.requests.clear()  # they are kept here
        if request.method == "OPTIONS":
            return Response((), 204, None, _PREFLIGHT)
        with self._lock:
            self._count += 1
            number = self._count
        reply = self._responder.respond(request, number)
        self._note(number, request, reply)
        if isinstance(self._responder, TapeResponder) and reply.source is not None:
            return reply.response  # byte for byte
        headers = reply.response.header_items()
        present = {name.lower() for name, _ in headers}
        added = [("X-Request-Id", f"mock-{number}"), *_CORS]
        headers += [(name, value) for name, value in added if name.lower() not in present]
        return replace(reply.response, content_type=None, headers=headers)

    def _note(self, number: int, request: Request, reply: Reply) -> None:
        noted = MockedRequest(number, request, reply.source, reply.asked, reply.response.status)
        with self._lock:
            self._requests.append(noted)
            if reply.source is None:
                self._unmatched.append(noted)
                self._unmatched_count += 1
        if self._on_request is not None:
            self._on_request(noted)
