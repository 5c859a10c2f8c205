"""One of the servers behind this one: its health and its models.

When it gets a request, and when it rests, is the client's own policy (`hfstream.core.endpoints`). Does not depend on
what the requests are.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress

from hfstream.core.endpoints import EndpointState
from hfstream.core.retry_decisions import FailureKind, classify
from hfstream.core.urls import origin, text_generation_endpoint
from hfstream.errors import InferenceError, NotFoundError, OverloadedError
from hfstream.types import Model

from ..settings import Settings
from .client import UpstreamClient

CHECK_SECONDS = 5.0
"""How often a server that has failed is asked for its health, and how long it may take."""
IDLE_SECONDS = 30.0
"""After so many seconds without an answer, one that has not failed is asked too."""
_DEFAULT_MODELS = (None, "", "tgi")
"""What clients send as `model` that do not know of models: huggingface_hub's sends "tgi"."""


class Upstream(EndpointState):
    """One server."""

    def __init__(self, url: str, client: UpstreamClient, settings: Settings) -> None:
        """`client`: the server's own, without retries."""
        super().__init__(url)
        self.client: UpstreamClient = client
        self.name: str = origin(url)
        """Its scheme, host and port, for messages: the rest may be secret."""
        self.is_openai: bool = text_generation_endpoint(url, stream=True).openai
        """Whether it is a server with OpenAI's routes, and not one with TGI's."""
        self.healthy: bool = False
        """Whether it has answered at all, and not failed since."""
        self.models: list[Model] | None = None
        """What it lists; None if it has not answered that yet, and if it was not asked."""
        self.check_error: InferenceError | None = None
        """Why the last check failed."""
        self._settings = settings
        self._answered_at = -math.inf

    def is_open(self, now: float) -> bool:
        """As of all endpoints; and it is healthy. One that is not is asked for its health, and for nothing else."""
        return self.healthy and super().is_open(now)

    def record_success(self) -> None:
        """It has answered."""
        super().record_success()
        self.healthy, self._answered_at = True, time.monotonic()

    def record_failure(self, error: InferenceError, sent_at: float, now: float) -> None:
        """A request that was sent at `sent_at` has failed. To be overloaded is no lack of health."""
        kind = classify(error)
        if kind is FailureKind.OVERLOADED:
            self._answered_at = now
        elif kind is FailureKind.INTERRUPTED and sent_at >= self.failed_at:
            self.healthy = False
        super().record_failure(error, sent_at, now)

    @property
    def check_due(self) -> bool:
        """Whether to ask for its health: it has failed, or not answered anything for a while."""
        return not self.healthy or time.monotonic() - self._answered_at > IDLE_SECONDS

    async def check(self) -> None:
        """Asks for its health and its models."""
        began, self.check_error = time.monotonic(), None
        try:
            if self.is_openai:
                await self._list_models()
            elif not await self.client.health_check(timeout=CHECK_SECONDS):
                raise OverloadedError("the server is not ready")
        except NotFoundError:  # it answers, but has no such route
            self.models = self.models or []
        except InferenceError as error:
            self.record_failure(error, began, time.monotonic())
            self.healthy, self.check_error = False, error
            return
        if self.failed_at < began:  # else a request has failed meanwhile, which is later news
            self.record_success()

    def model_name(self, requested: str | None) -> str | None:
        """The model to ask for; None if that is the first one that it lists, and it has not listed any yet."""
        if requested not in _DEFAULT_MODELS and requested != self._settings.served_model_name:
            return requested
        if self._settings.upstream_model is not None or not self.is_openai:
            return self._settings.upstream_model or "tgi"
        if self.models is None:
            return None
        return self.models[0].id if self.models else "tgi"  # a server of one model may list none

    async def list_models(self) -> list[Model]:
        """Its models, or those that it listed last if it does not answer now."""
        with suppress(InferenceError):
            await self._list_models()
        return self.models or []

    async def _list_models(self) -> None:
        self.models = await self.client.list_models(timeout=CHECK_SECONDS)
