"""Several servers as one: a request is sent as the client's own with several endpoints.

So it goes to the server with the fewest requests of this one; one that fails rests; a retry before the first content,
and an answer that is lost and can be continued, go to another server. Here is only what the client does not do: to find
out which servers can take a request, and to ask for their health. Does not depend on HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from hfstream import Timeouts
from hfstream._async.stream import AsyncTokenStream
from hfstream.core.endpoints import EndpointPool
from hfstream.core.request_spec import RequestSpec
from hfstream.core.retry import RetryPolicy
from hfstream.core.urls import is_url
from hfstream.errors import ValidationError

from ..settings import Settings
from .calls import Call
from .client import UpstreamClient
from .errors import own_error
from .upstream import Upstream

RETRY = RetryPolicy()
"""How often a request is sent, to whichever server, until its first content has come."""
BETWEEN_TOKENS = 60.0
"""Seconds from one token to the next, at most."""


class UpstreamPool:
    """The servers behind this one."""

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError if one of `settings.upstreams` is no URL."""
        for url in settings.upstreams:
            if not is_url(url):
                raise ValueError(f"upstream {url!r} is not a URL: write, for example, http://127.0.0.1:8000/v1")
        seconds = settings.upstream_timeout
        self._client = UpstreamClient(
            settings.upstreams[0],
            token=settings.upstream_api_key,
            timeout=Timeouts(first_token=seconds, between_tokens=min(seconds, BETWEEN_TOKENS)),
            retry=RETRY,
            resume=True,
        )
        self.upstreams: Sequence[Upstream] = [
            Upstream(url, self._client.with_options(model=url, retry=None), settings) for url in settings.upstreams
        ]
        self._checked = asyncio.Event()

    async def send(self, call: Call) -> AsyncTokenStream[Any]:
        """The stream for `call`, whose request is sent when it is read.

        Raises:
            InferenceError: no server has said yet which models it has.
            ValidationError: the call cannot be sent as JSON, or not be expressed in the servers' API.
        """
        upstreams = {each.url: each for each in await self._candidates(call)}

        @cache  # the same request again is how the client knows that it stays at a server
        def request_for(url: str) -> RequestSpec[Any, Any, Any]:
            return replace(call.make_request(upstreams[url]), relocate=request_for)

        try:
            request = request_for(next(iter(upstreams)))
        except TypeError as error:
            raise ValidationError(f"Input validation error: {error}") from error
        return self._client.send(request, EndpointPool(list(upstreams.values())))

    async def _candidates(self, call: Call) -> list[Upstream]:
        """The servers that can take `call`: those of which it is known which model to ask for.

        Text is asked for in two ways, which no answer can mix: at servers of TGI's kind if one of them is healthy,
        because only they know all of its parameters, and else at those of OpenAI's.
        """
        await self._checked.wait()
        if not (known := self._with_known_model(call)):
            await asyncio.gather(*(each.check() for each in self.upstreams))
            if not (known := self._with_known_model(call)):
                raise own_error(next(each.check_error for each in self.upstreams if each.check_error))
        if not call.is_text:
            return known
        kinds = [[each for each in known if each.is_openai is is_openai] for is_openai in (False, True)]
        return max(kinds, key=lambda kind: (any(each.healthy for each in kind), len(kind) > 0))

    def _with_known_model(self, call: Call) -> list[Upstream]:
        return [each for each in self.upstreams if each.model_name(call.model) is not None]

    async def check(self) -> None:
        """Asks servers for their health where it is due. Requests wait for the first time that this ends."""
        try:
            await asyncio.gather(*(each.check() for each in self.upstreams if each.check_due))
        finally:
            self._checked.set()

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.aclose()
