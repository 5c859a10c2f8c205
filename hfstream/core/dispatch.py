"""One call among the others of its client: whether its request may be sent now, and to which endpoint.

Does not depend on what the call asks, nor on how it waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import InferenceError
from .concurrency import RequestSlot
from .endpoints import EndpointPool, EndpointState
from .request_spec import RequestSpec
from .retry_decisions import is_overload

__all__ = ["Dispatch"]


class Dispatch:
    """The slot and the endpoint of one call: `enter` before each request, `leave` after it."""

    def __init__(self, slot: RequestSlot | None, pool: EndpointPool | None) -> None:
        self._slot = slot
        self._pool = pool
        self._endpoint: EndpointState | None = None
        self._sent_at = 0.0

    @property
    def granted(self) -> bool:
        """Whether the request may be sent."""
        return self._slot is None or self._slot.granted

    def enter(self, wake: Callable[[], object]) -> None:
        """Asks for permission: `granted` is set at once, or before `wake` is called."""
        if self._slot is not None:
            self._slot.enter(wake)

    def leave(self) -> None:
        """The request is over, or is not needed any more. Again, it has no effect."""
        if self._pool is not None and self._endpoint is not None:
            self._pool.leave(self._endpoint, self)
        if self._slot is not None:
            self._slot.leave()

    def send(self, spec: RequestSpec[Any, Any, Any], now: float, *, stay: bool) -> RequestSpec[Any, Any, Any]:
        """An attempt begins: returns `spec` for the endpoint that gets it; with `stay` the last one."""
        self._sent_at = now
        if self._pool is None or spec.relocate is None:
            return spec
        if stay and self._endpoint is not None:
            self._pool.enter(self._endpoint, self)
            return spec
        self._endpoint = self._pool.choose(self, now)
        return spec.relocate(self._endpoint.url)

    def has_other(self, now: float) -> bool:
        """Whether another endpoint can take the request now, after a failure of this one."""
        return self._pool is not None and self._endpoint is not None and self._pool.has_open(now)

    def record_success(self, first_token_at: float | None) -> None:
        """The request has been answered; `first_token_at` is None for a response that is not streamed."""
        if self._slot is not None:
            self._slot.record_success(self._sent_at, first_token_at)
        if self._pool is not None and self._endpoint is not None:
            self._pool.record_success(self._endpoint)

    def record_failure(self, error: InferenceError, now: float) -> None:
        """The request has failed, for whatever reason."""
        if self._slot is not None and is_overload(error):
            self._slot.record_overload(self._sent_at, now)
        if self._pool is not None and self._endpoint is not None:
            self._pool.record_failure(self._endpoint, error, self._sent_at, now)
