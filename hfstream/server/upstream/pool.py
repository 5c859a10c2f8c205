"""Several servers as one: which of them gets a request, and what happens when it fails.

The one with the fewest requests of this server is chosen. One that fails rests, each time longer, and is asked for its
health meanwhile; while all rest, the one whose rest ends first is chosen all the same. A request that fails before its
first content is sent to another server at once, and where all have failed again after a wait, as the client's
`RetryPolicy` says. Does not depend on what the requests are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from hfstream.core.retry import RetryPolicy, RetryState
from hfstream.core.retry_decisions import Decision, decide
from hfstream.errors import InferenceError, NotFoundError, OverloadedError
from hfstream.types import Model

from ..settings import Settings
from .client import UpstreamClient
from .errors import own_error

ResultT = TypeVar("ResultT")

CHECK_SECONDS = 5.0
"""How often a server that has failed is asked for its health, and how long it may take."""
IDLE_SECONDS = 30.0
"""After so many seconds without an answer, one that has not failed is asked too."""
SHORTEST_REST, LONGEST_REST = 0.5, 30.0
"""Seconds."""
RETRY = RetryPolicy()
"""How often a request is sent until its first content has come, if all servers fail."""
_DEFAULT_MODELS = (None, "", "tgi")
"""What clients send as `model` that do not know of models: huggingface_hub's sends "tgi"."""


class Upstream:
    """One server."""

    def __init__(self, url: str, settings: Settings) -> None:
        """Raises ValueError if `url` is no URL."""
        self.client: UpstreamClient = UpstreamClient(url, settings)
        self.outstanding: int = 0
        """Requests of this server that it has not finished."""
        self.last_used: float = 0.0
        self.rest_until: float = 0.0
        self.healthy: bool = False
        """Whether it has answered at all, and not failed since."""
        self.models: list[Model] = []
        """What it lists; empty if it lists nothing, or was not asked yet."""
        self._settings = settings
        self._failures = 0
        self._answered = 0.0

    @property
    def name(self) -> str:
        """Its host and port."""
        return self.client.name

    def record_success(self) -> None:
        """It has answered."""
        self.healthy, self._answered = True, time.monotonic()
        self._failures, self.rest_until = 0, 0.0

    def record_failure(self, error: InferenceError) -> None:
        """It rests if the failure is one of the server, and not of the request."""
        if decide(error, after_content=False) is not Decision.RETRY:
            return
        if not isinstance(error, OverloadedError):
            self.healthy = False
        rest = min(LONGEST_REST, SHORTEST_REST * 2**self._failures)
        self._failures += 1
        self.rest_until = time.monotonic() + min(LONGEST_REST, max(rest, error.retry_after or 0.0))

    @property
    def check_due(self) -> bool:
        """Whether to ask for its health: it has failed, or not been asked for anything for a while."""
        return not self.healthy or time.monotonic() - self._answered > IDLE_SECONDS

    async def check(self) -> None:
        """Asks for its health and its models."""
        failures = self._failures
        try:
            if self.client.is_openai:
                await self._list_models()
            elif not await self.client.health_check(timeout=CHECK_SECONDS):
                raise OverloadedError("the server is not ready")
        except NotFoundError:
            pass  # it answers, but has no such route
        except InferenceError as error:
            self.record_failure(error)
            self.healthy = False
            return
        if self._failures <= failures:  # else a request has failed meanwhile, which is later news
            self.record_success()

    async def model_name(self, requested: str | None) -> str:
        """The model to ask for. Raises what the client raises when it lists the models."""
        default = self._settings.upstream_model
        if requested not in _DEFAULT_MODELS and requested != self._settings.served_model_name:
            return requested or ""
        if default is None and self.client.is_openai:
            if not self.models:
                try:
                    await self._list_models()
                except NotFoundError:
                    return "tgi"  # a server of one model, that lists none
            default = self.models[0].id if self.models else None
        return default or "tgi"

    async def list_models(self) -> list[Model]:
        """Its models, or those that it listed last if it does not answer now."""
        with suppress(InferenceError):
            await self._list_models()
        return self.models

    async def _list_models(self) -> None:
        self.models = await self.client.list_models(timeout=CHECK_SECONDS)


class UpstreamPool:
    """The servers behind this one."""

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError if one of `settings.upstreams` is no URL."""
        self.upstreams: Sequence[Upstream] = [Upstream(url, settings) for url in settings.upstreams]

    @asynccontextmanager
    async def sent(self, send: Callable[[Upstream], Awaitable[ResultT]]) -> AsyncGenerator[ResultT, None]:
        """What ``send(upstream)`` returns for one of the servers. Its request is outstanding until the block is left.

        Raises:
            InferenceError: the last failure, as `own_error`, also of what the block raises.
        """
        retry_state, failed = RetryState(RETRY), set[Upstream]()
        while True:
            upstream = self._choose(failed)
            failed.add(upstream)
            upstream.outstanding += 1
            try:
                try:
                    result = await send(upstream)
                except InferenceError as error:
                    upstream.record_failure(error)
                    delay = self._delay(error, retry_state, failed)
                    if delay is None:
                        raise own_error(error, upstream.name) from error
                else:
                    upstream.record_success()
                    try:
                        yield result
                    except InferenceError as error:
                        upstream.record_failure(error)
                        raise own_error(error, upstream.name, after_content=True) from error
                    return
            finally:
                upstream.outstanding -= 1
            if len(failed) == len(self.upstreams):
                failed.clear()
            await asyncio.sleep(delay)

    def _choose(self, failed: set[Upstream]) -> Upstream:
        now = time.monotonic()
        candidates = [each for each in self.upstreams if each not in failed]
        chosen = min(candidates, key=lambda each: (max(0.0, each.rest_until - now), each.outstanding, each.last_used))
        chosen.last_used = now
        return chosen

    def _delay(self, error: InferenceError, retry_state: RetryState, failed: set[Upstream]) -> float | None:
        """Seconds until the next attempt; None if there is none."""
        if decide(error, after_content=False) is not Decision.RETRY:
            return None
        if len(failed) < len(self.upstreams):
            return 0.0
        return None if retry_state.reason_not_to_retry(error) else retry_state.next_delay(error)

    async def check(self) -> None:
        """Asks servers for their health where it is due."""
        await asyncio.gather(*(each.check() for each in self.upstreams if each.check_due))

    async def close(self) -> None:
        """Closes all connections."""
        await asyncio.gather(*(each.client.aclose() for each in self.upstreams))
