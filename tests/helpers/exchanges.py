"""An exchange driven by hand: a clock that only a test moves, and a server that is a function of the request."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NoReturn

import pytest
import tenacity

from hfstream.core.chat_completion import chat_completion
from hfstream.core.exchange import Exchange
from hfstream.core.request_spec import PreparedRequest, RequestSpec
from hfstream.core.retry import RetryPacer, RetryPolicy
from hfstream.core.text_generation import text_generation
from hfstream.core.timeouts import Timeouts
from hfstream.core.urls import text_generation_endpoint
from hfstream.errors import InferenceConnectionError, InferenceError, InferenceTimeoutError

__all__ = [
    "AT_ONCE",
    "DONE",
    "INVALID",
    "JSON",
    "KEEP_ALIVE",
    "LOST",
    "OVERLOADED",
    "SILENCE",
    "SSE",
    "URL",
    "ExchangeDriver",
    "ManualClock",
    "Response",
    "Server",
    "Step",
    "drive",
    "error_response",
    "in_turn",
    "json_response",
    "lost",
    "numbered",
    "stream",
    "tokenized",
]

URL = "http://host:8080"
SSE = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
KEEP_ALIVE = b":\n\n"
DONE = b"data: [DONE]\n\n"
OVERLOADED = b'data: {"error":"Model is overloaded","error_type":"overloaded"}\n\n'
INVALID = b'data: {"error":"Input validation error: bad","error_type":"validation"}\n\n'
LOST = InferenceConnectionError("connection lost")
AT_ONCE = RetryPolicy(attempts=3, wait=tenacity.wait_none())


class ManualClock:
    """Monotonic seconds that stand still until a test moves them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.now


class Silence(Enum):
    """Nothing comes until the deadline, at which our sockets stop waiting."""

    UNTIL_THE_DEADLINE = "until the deadline"


SILENCE = Silence.UNTIL_THE_DEADLINE
Step = bytes | float | Exception | Silence
"""A chunk of the body, seconds that pass, or a failure."""


@dataclass
class Response:
    """What a server answers: a head, and then one step after the other; after the last one the body ends."""

    steps: Sequence[Step] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: dict(SSE))


def stream(*steps: Step) -> Response:
    return Response(steps)


def lost(*events: bytes, error: Exception | Silence = LOST) -> Response:
    """Events in one chunk, and then a failure of the connection."""
    return Response([b"".join(events), error])


def json_response(value: Any, status: int = 200, **headers: str) -> Response:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response([body[:5], body[5:]], status, {**JSON, **named})


def error_response(status: int, message: str, **more: str) -> Response:
    return json_response({"error": message, **more}, status)


def tokenized(*ids: int) -> Response:
    """What `/tokenize` answers."""
    return json_response([{"id": token, "text": "x", "start": 0, "stop": 1} for token in ids])


def numbered(events: Sequence[bytes], name: str = "s") -> list[bytes]:
    """The events with the ids that our own server gives to those of a resumable stream."""
    return [b"id: %b:%d\n%b" % (name.encode(), at, event) for at, event in enumerate(events, 1)]


Server = Callable[[PreparedRequest], "Response | Exception | Silence"]


def in_turn(*responses: Response | Exception | Silence) -> Server:
    """A server that answers with one response after the other."""
    remaining = list(responses)
    return lambda request: remaining.pop(0)


class ExchangeDriver:
    """Drives one exchange as the clients do, without a network: waits, sends, reads."""

    def __init__(self, exchange: Exchange[Any, Any], server: Server, clock: ManualClock) -> None:
        self.exchange = exchange
        self.clock = clock
        self.requests: list[PreparedRequest] = []
        self.items: list[Any] = []
        self._server = server

    def run(self) -> ExchangeDriver:
        while not self.exchange.closed:
            self.step()
        return self

    def step(self) -> None:
        """One attempt."""
        self.clock.now += self.exchange.delay
        request = self.exchange.next_request()
        self.requests.append(request)
        try:
            self._read(self._server(request))
        except InferenceError as error:
            self.exchange.handle_error(error)

    def _read(self, response: Response | Exception | Silence) -> None:
        exchange = self.exchange
        if not isinstance(response, Response):
            self._fail(response)
        exchange.receive_headers(response.status, response.headers)
        for step in response.steps:
            if not exchange.needs_data:
                break
            if isinstance(step, bytes):
                self.items += exchange.feed(step)
            elif isinstance(step, float):
                self.clock.now += step
            else:
                self._fail(step)
        self.items += exchange.finish()

    def _fail(self, step: Exception | Silence) -> NoReturn:
        if isinstance(step, Exception):
            raise step
        self.clock.now = self.exchange.deadline.at
        raise InferenceTimeoutError("nothing in time", phase="first_token")  # which limit it was, a socket cannot tell

    def error(self) -> InferenceError:
        """Runs to the error that is expected."""
        with pytest.raises(InferenceError) as caught:
            self.run()
        assert self.exchange.closed
        return caught.value

    @property
    def result(self) -> Any:
        return self.exchange.accumulator.result()

    @property
    def methods(self) -> list[str]:
        return [f"{request.method} {request.url.removeprefix(URL)}" for request in self.requests]

    def body(self, at: int) -> Any:
        return json.loads(self.requests[at].body or b"")


def drive(
    server: Server,
    *,
    chat: bool = False,
    streamed: bool = True,
    details: bool = False,
    resume: bool = False,
    retry: RetryPolicy = AT_ONCE,
    timeouts: Timeouts = Timeouts(),  # noqa: B008  immutable
    parameters: Mapping[str, Any] | None = None,
    extra_body: Mapping[str, Any] | None = None,
    url: str = URL,
    pacer: RetryPacer | None = None,
) -> ExchangeDriver:
    """The driver of a call that has not begun yet."""
    headers = {"Authorization": "Bearer t", "Prefer": "resumable", "Accept": "text/event-stream"}
    spec: RequestSpec[Any, Any, Any]
    if chat:
        messages = [{"role": "user", "content": "p"}]
        spec = chat_completion(url, "m", messages, parameters or {}, stream=True, headers=headers, resume=resume)
    else:
        spec = text_generation(
            text_generation_endpoint(url, stream=streamed),
            "p",
            parameters or {},
            stream=streamed,
            details=details,
            headers=headers,
            extra_body=extra_body,
            resume=resume,
        )
    clock = ManualClock()
    return ExchangeDriver(Exchange(spec, retry=retry, timeouts=timeouts, pacer=pacer, clock=clock), server, clock)
