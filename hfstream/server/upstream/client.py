"""hfstream's client, as a server in front of others uses it: it makes requests for one server, and sends them to any.

Does not depend on routes, or on which server gets a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from hfstream import AsyncInferenceClient
from hfstream._async.stream import AsyncTokenStream
from hfstream.core.endpoints import EndpointPool
from hfstream.core.parameters import TextGenerationOptions
from hfstream.core.request_spec import RequestSpec


class UpstreamClient(AsyncInferenceClient):
    """The client of one server. What it raises for a request are TypeErrors, for values that cannot be sent."""

    def text_request(
        self, prompt: str, options: Mapping[str, Any], *, stream: bool, details: bool
    ) -> RequestSpec[Any, Any, Any]:
        """What `text_generation` sends."""
        known = cast("TextGenerationOptions", options)
        return self._requests.text_generation_spec(prompt, stream=stream, details=details, options=known)

    def chat_request(self, messages: list[Any], body: Mapping[str, Any], *, stream: bool) -> RequestSpec[Any, Any, Any]:
        """What `chat_completion` sends, with the fields of `body`."""
        return self._requests.chat_completion_spec(messages, stream=stream, options={"extra_body": body})

    def completion_request(self, body: Mapping[str, Any], *, stream: bool) -> RequestSpec[Any, Any, Any]:
        """A request to `/v1/completions` with this body, for a stream of `CompletionChunk`, or one as the response."""
        return self._requests.completion_spec(body, stream=stream)

    def send(self, request: RequestSpec[Any, Any, Any], pool: EndpointPool) -> AsyncTokenStream[Any]:
        """The stream of a request that one of the servers of `pool` answers. It is sent when the stream is read."""
        return self._new_stream(self._requests.exchange(request, None, pool=pool))
