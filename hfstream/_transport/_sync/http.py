"""Sends requests for the synchronous client, and returns responses to be read.

Does not depend on what is sent, or on what a failure means.
"""

from __future__ import annotations

import contextlib
import time

import httpx

from ...core.request_spec import PreparedRequest, RequestSpec
from ...core.timeouts import Deadline
from ..client_state import SyncClientStates
from ..open_calls import OpenCalls
from ..redaction import redacted_logs
from ..redirects import Redirection, encode_headers, mark_invalid_redirect, mark_redirection, next_request
from ..sockets import DEADLINE
from ..waiting import SyncWakeup
from .responses import SyncStreamedResponse

__all__ = ["SyncHTTP"]

CANCEL_TIMEOUT = 1.0
"""Limit in seconds for the request that tells a server that a stream will not be resumed."""


class SyncHTTP(OpenCalls):
    """Sends requests with httpx, for one `InferenceClient`."""

    Wakeup = SyncWakeup

    def __init__(self, http_client: httpx.Client | None) -> None:
        super().__init__()
        self._follows_redirects = http_client is None  # a user's client follows its own configuration
        self._states = SyncClientStates(http_client)

    def send(self, request: PreparedRequest) -> SyncStreamedResponse:
        """Sends `request`; returns when the headers of the response have been received."""
        self.ensure_open()
        state = self._states.current()
        state.close_pending()
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
            response = self._send(client, outgoing)
        return SyncStreamedResponse(response, state.pending_close, Redirection.of(outgoing, response.request))

    def _send(self, client: httpx.Client, original: httpx.Request) -> httpx.Response:
        request, redirects = original, 0
        while True:
            with mark_redirection(original, request), mark_invalid_redirect():
                response = client.send(request, stream=True)
            if not self._follows_redirects or response.next_request is None:
                return response
            response.close()
            request = next_request(response, redirects)
            redirects += 1

    def send_cancel(self, spec: RequestSpec[object, object, object]) -> None:
        """Tells a server that a stream will not be resumed. If that fails, its grace period ends the stream."""
        deadline = Deadline()
        deadline.at = time.monotonic() + CANCEL_TIMEOUT
        with redacted_logs(), contextlib.suppress(Exception):
            client = self._states.current().client
            request = client.build_request(
                spec.method,
                spec.url,
                headers=encode_headers(spec.headers),
                timeout=CANCEL_TIMEOUT,
                extensions={DEADLINE: deadline},
            )
            client.send(request)

    def close(self) -> None:
        """Ends all calls and streams, and closes our own httpx client (that of the running event loop)."""
        self.close_all()
        self._states.close()
