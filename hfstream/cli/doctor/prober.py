"""Sends the doctor's requests, within its limits, and records what came back and when.

Another driver of an `Exchange`, beside the streams of the two clients: it reads as they do, and keeps the times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ... import _transport
from ..._config import ClientConfig
from ..._request_factory import RequestFactory
from ...core.decoders import JSONBodyDecoder
from ...core.exchange import Exchange
from ...core.retry import RetryPolicy
from ...core.single_result import SingleResult
from ...core.timeouts import Timeouts
from ...core.urls import is_url, service_url, split_credentials
from ...errors import InferenceError, UnexpectedResponseError
from .words import shown_url

__all__ = ["MAX_REQUESTS", "LimitReachedError", "Prober", "Recorded"]

MAX_REQUESTS = 12

MAX_BODY = 256 * 1024
"""Bytes of a body that are kept."""


class LimitReachedError(Exception):
    """No further request may be sent, or no time is left for one."""


@dataclass
class Recorded:
    """One request, and what came back. Times are in seconds since it was sent."""

    url: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    http_version: str = ""
    head_at: float = 0.0
    arrivals: list[float] = field(default_factory=list[float])
    """When each token (or chunk of a chat with content) arrived."""
    reads: list[float] = field(default_factory=list[float])
    """When each read of the body returned."""
    read_sizes: list[int] = field(default_factory=list[int])
    """How many bytes it brought, decompressed."""
    body: bytes = b""
    """Its first `MAX_BODY` bytes, decompressed."""
    result: Any = None
    """What the call returns at the end; None if it failed."""
    text: str = ""
    """What was received, also of a call that failed."""
    usage: Any = None
    finish_reason: str | None = None
    error: InferenceError | None = None
    closed_early: bool = False
    redirected_to: str = ""
    """The URL that answered, if it is another."""
    became_get: bool = False
    """Whether a redirect has made a GET without a body of the request."""
    ended_at: float = 0.0

    @property
    def url_shown(self) -> str:
        """The URL without what may be secret."""
        return shown_url(self.url)

    @property
    def works(self) -> bool:
        """Whether the answer is complete."""
        return self.error is None

    def header(self, name: str) -> str:
        """A header of the response, by its name in lower case; empty if there is none."""
        return self.headers.get(name, "")


class Prober:
    """Sends requests to one URL: at most `MAX_REQUESTS`, for at most `max_tokens` in all, and none after `seconds`."""

    def __init__(self, url: str, api_key: str | None, *, seconds: float, max_tokens: int) -> None:
        self.url: str = url
        self.requests: int = 0
        self.tokens: int = 0
        self.seconds: float = seconds
        self._max_tokens = max_tokens
        self._started = time.monotonic()
        self._deadline = self._started + seconds
        self._http = _transport.SyncHTTP(None)
        self._api_key = api_key
        self.factory: RequestFactory = _factory(url, api_key)
        self.factory_without_key: RequestFactory = _factory(url, False)

    def close(self) -> None:
        """Closes all connections."""
        self._http.close()

    def factory_for(self, url: str) -> RequestFactory:
        """Makes requests to another URL of the same server."""
        return _factory(url, self._api_key)

    @property
    def elapsed(self) -> float:
        """Seconds since this was made."""
        return time.monotonic() - self._started

    @property
    def remaining(self) -> float:
        """Seconds that are left."""
        return max(0.0, self._deadline - time.monotonic())

    def limits(self, share: float = 1.0) -> Timeouts:
        """The limits of one request that may take this share of all the time.

        Raises:
            LimitReachedError: no request may be sent any more.
        """
        if self.requests >= MAX_REQUESTS:
            raise LimitReachedError(f"{MAX_REQUESTS} requests are the limit")
        if self.remaining < 0.01:
            raise LimitReachedError(f"the {self.seconds:g} s of --timeout are over")
        total = max(0.001, min(self.remaining, self.seconds * share))
        return Timeouts(
            connect=max(0.001, min(10.0, total / 2)),
            first_token=max(0.001, min(total, self.seconds / 2)),
            between_tokens=max(0.001, min(total, self.seconds / 3)),
            total=total,
        )

    def get(self, url: str) -> Recorded:
        """The body of what is at a URL of the same server, or at a route such as ``/metrics``, as bytes."""
        url = url if is_url(url) else service_url(self.url, url)
        exchange = self.factory.info(None, self.limits(0.1))
        spec = replace(
            exchange.spec,
            url=split_credentials(url)[0],
            make_decoder=lambda: JSONBodyDecoder[Any](lambda body: [body]),
            make_accumulator=SingleResult,
        )
        return self.send(Exchange(spec, retry=RetryPolicy.of(None), timeouts=exchange.timeouts))

    def send(
        self, exchange: Exchange[Any, Any], *, tokens: int = 0, until: Callable[[Recorded], bool] | None = None
    ) -> Recorded:
        """Sends one request and reads its response, or the part of it up to which `until` is false.

        `tokens` is how many the request asks for.

        Raises:
            LimitReachedError: so many may not be asked for any more.
        """
        if self.tokens + tokens > self._max_tokens:
            raise LimitReachedError(f"{self._max_tokens} tokens are the limit")
        self.requests += 1
        self.tokens += tokens
        recorded = Recorded(exchange.spec.url)
        started = time.monotonic()
        try:
            self._read(exchange, recorded, started, until)
            if not recorded.closed_early:
                recorded.result = exchange.accumulator.result()
        except InferenceError as error:
            recorded.error = error
        except (TypeError, ValueError, LookupError) as error:  # of a result that is built from an odd answer
            recorded.error = UnexpectedResponseError(f"the answer cannot be read: {error}")
        recorded.ended_at = time.monotonic() - started
        recorded.text = exchange.accumulator.text
        recorded.usage = exchange.accumulator.usage
        recorded.finish_reason = exchange.accumulator.finish_reason
        return recorded

    def _read(
        self,
        exchange: Exchange[Any, Any],
        recorded: Recorded,
        started: float,
        until: Callable[[Recorded], bool] | None,
    ) -> None:
        redirection = response = None
        try:
            response = self._http.send(exchange.next_request())
            redirection = response.redirection
            if redirection is not None:
                recorded.redirected_to, recorded.became_get = redirection
            recorded.status, recorded.http_version = response.status_code, response.http_version
            recorded.headers = {name.lower(): value for name, value in response.headers.items()}
            recorded.head_at = time.monotonic() - started
            exchange.receive_headers(response.status_code, response.headers)
            while exchange.needs_data:
                chunk = next(response.chunks, None)
                if chunk is None:
                    response.at_end = True
                    break
                now = time.monotonic() - started
                recorded.reads.append(now)
                recorded.read_sizes.append(len(chunk))
                recorded.body += chunk[: max(0, MAX_BODY - len(recorded.body))]
                before = exchange.metrics.tokens
                exchange.feed(chunk)
                recorded.arrivals += [now] * (exchange.metrics.tokens - before)
                if until is not None and until(recorded):
                    recorded.closed_early = True
                    return
            exchange.finish()
        except Exception as error:  # noqa: BLE001  the exchange raises it again, as the client would
            exchange.handle_error(_transport.map_exception(error, exchange.spec.url, redirection))
        finally:
            if response is not None and exchange.complete:
                response.drain(exchange.deadline)  # so that the next request can use its connection
            elif response is not None:
                response.close()


def _factory(url: str, api_key: str | bool | None) -> RequestFactory:
    return RequestFactory(
        ClientConfig.from_arguments(
            url, token=api_key, timeout=Timeouts(), headers=None, bill_to=None, base_url=None, api_key=None, retry=None,
        )
    )  # fmt: skip
