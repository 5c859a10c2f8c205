"""Sends requests for the asynchronous client, and returns responses to be read.

Does not depend on what is sent, or on what a failure means.
"""

from __future__ import annotations

import contextlib
import time

import anyio
import httpx

from ...core.request_spec import PreparedRequest, RequestSpec
from ...core.timeouts import Deadline
from ..client_state import AsyncClientStates
from ..open_calls import OpenCalls
from ..redaction import redacted_logs
from ..redirects import Redirection, encode_headers, mark_invalid_redirect, mark_redirection, next_request
from ..sockets import DEADLINE
from ..waiting import AsyncWakeup
from .responses import AsyncStreamedResponse

__all__ = ["AsyncHTTP"]

CANCEL_TIMEOUT = 1.0
"""Limit in seconds for the request that tells a server that a stream will not be resumed."""


class AsyncHTTP(OpenCalls):
    """Sends requests with httpx, for one `AsyncInferenceClient`."""

    Wakeup = AsyncWakeup

    def __init__(self, http_client: httpx.AsyncClient | None) -> None:
        super().__init__()
        self._follows_redirects = http_client is None  # a user's client follows its own configuration
        self._states = AsyncClientStates(http_client)

    async def send(self, request: PreparedRequest) -> AsyncStreamedResponse:
        """Sends `request`; returns when the headers of the response have been received."""
        self.ensure_open()
        state = await self._states.current()
        await state.close_pending()
        client = state.client
        outgoing = client.build_request(
            request.method,
            request.url,
            content=request.body,
            headers=encode_headers(request.headers),
            timeout=request.timeout,
            extensions={DEADLINE: request.deadline},
        )
        with redacted_logs():
            response = await self._send(client, outgoing)
        return AsyncStreamedResponse(response, state.pending_close, Redirection.of(outgoing, response.request))

    async def _send(self, client: httpx.AsyncClient, original: httpx.Request) -> httpx.Response:
        request, redirects = original, 0
        while True:
            with mark_redirection(original, request), mark_invalid_redirect():
                response = await client.send(request, stream=True)
            if not self._follows_redirects or response.next_request is None:
                return response
            await response.aclose()
            request = next_request(response, redirects)
            redirects += 1

    async def send_cancel(self, spec: RequestSpec[object, object, object]) -> None:
        """Tells a server that a stream will not be resumed. If that fails, its grace period ends the stream."""
        deadline = Deadline()
        deadline.at = time.monotonic() + CANCEL_TIMEOUT
        with redacted_logs(), contextlib.suppress(Exception), anyio.move_on_after(CANCEL_TIMEOUT):
            client = (await self._states.current()).client
            request = client.build_request(
                spec.method,
                spec.url,
                headers=encode_headers(spec.headers),
                timeout=CANCEL_TIMEOUT,
                extensions={DEADLINE: deadline},
            )
            await client.send(request)

    async def close(self) -> None:
        """Ends all calls and streams, and closes our own httpx client (that of the running event loop)."""
        self.close_all()
        await self._states.close()
