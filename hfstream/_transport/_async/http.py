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
from ..redirects import next_request
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
            headers=dict(request.headers),
            timeout=request.timeout,
            extensions={DEADLINE: request.deadline},
        )
        with redacted_logs():
            response = await client.send(outgoing, stream=True)
            redirects = 0
            while self._follows_redirects and (redirect := next_request(response, redirects)) is not None:
                await response.aclose()
                response = await client.send(redirect, stream=True)
                redirects += 1
        return AsyncStreamedResponse(response, state.pending_close)

    async def send_cancel(self, spec: RequestSpec[object, object, object]) -> None:
        """Tells a server that a stream will not be resumed. If that fails, its grace period ends the stream."""
        deadline = Deadline()
        deadline.at = time.monotonic() + CANCEL_TIMEOUT
        with redacted_logs(), contextlib.suppress(Exception), anyio.move_on_after(CANCEL_TIMEOUT):
            client = (await self._states.current()).client
            request = client.build_request(
                spec.method,
                spec.url,
                headers=dict(spec.headers),
                timeout=CANCEL_TIMEOUT,
                extensions={DEADLINE: deadline},
            )
            await client.send(request)

    async def close(self) -> None:
        """Ends all calls and streams, and closes our own httpx client (that of the running event loop)."""
        self.close_all()
        await self._states.close()
