"""What an exchange tells of its life. Does not depend on who listens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from .attempts import Attempt

__all__ = ["NO_LISTENER", "ExchangeListener"]


class ExchangeListener(Protocol):
    """Called by an `Exchange`, never for each token. Its methods do not raise."""

    def on_request(self, attempt: Attempt) -> Mapping[str, str]:
        """A request will be sent; returns headers to send with it."""
        ...

    def on_content(self) -> None:
        """The first content of an attempt has come."""
        ...

    def on_attempt_failed(self, attempt: Attempt, delay: float) -> None:
        """Another attempt follows after `delay` seconds."""
        ...

    def on_end(self, error: BaseException | None) -> None:
        """There will be no more: the response is complete, the caller has left it, or it ended in `error`."""
        ...


class _NoListener:
    """Does nothing."""

    def on_request(self, attempt: Attempt) -> Mapping[str, str]:
        return {}

    def on_content(self) -> None: ...

    def on_attempt_failed(self, attempt: Attempt, delay: float) -> None: ...

    def on_end(self, error: BaseException | None) -> None: ...


NO_LISTENER: Final[ExchangeListener] = _NoListener()
