"""hfstream's client, with the one call more that a server in front of others needs. Does not depend on routes."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from hfstream import AsyncInferenceClient, Timeouts
from hfstream.core.urls import is_url, origin, text_generation_endpoint

from ..settings import Settings

BETWEEN_TOKENS = 60.0
"""Seconds from one token to the next, at most."""


class UpstreamClient(AsyncInferenceClient):
    """The client of one server. It does not retry: `pool` does, at another server if there is one."""

    def __init__(self, url: str, settings: Settings) -> None:
        """Raises ValueError if `url` is no URL."""
        if not is_url(url):
            raise ValueError(f"upstream {url!r} is not a URL: write, for example, http://127.0.0.1:8000/v1")
        seconds = settings.upstream_timeout
        super().__init__(
            url,
            token=settings.upstream_api_key,
            timeout=Timeouts(first_token=seconds, between_tokens=min(seconds, BETWEEN_TOKENS)),
            retry=None,
            resume=True,
        )
        self.name: str = origin(url)
        """The URL's host and port, for messages: the rest may be secret."""
        self.is_openai: bool = text_generation_endpoint(url, stream=True).openai
        """Whether it is a server with OpenAI's routes, and not one with TGI's."""

    def completion(self, body: Mapping[str, Any], *, stream: bool) -> Awaitable[Any]:
        """A request to `/v1/completions` with this body; awaited, a stream of `CompletionChunk`, or the whole response.

        Raises, where it is awaited, what the client's other calls raise.
        """
        exchange = self._requests.completion(body, stream=stream)
        token_stream = self._new_stream(exchange)
        return token_stream.open() if stream else self._read_result(token_stream)
