"""Who may ask. Refuses to know what."""

from __future__ import annotations

import secrets

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class BearerAuth:
    """An ASGI application behind a key: who does not send ``Authorization: Bearer <key>`` gets a 401 without a word."""

    def __init__(self, app: ASGIApp, api_key: str | None) -> None:
        self._app = app
        self._key = None if api_key is None else api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        allowed = self._key is None or self._matches(Headers(scope=scope).get("authorization", ""), self._key)
        await (self._app if allowed else Response(status_code=401))(scope, receive, send)

    @staticmethod
    def _matches(authorization: str, key: bytes) -> bool:
        scheme, _, sent = authorization.partition(" ")
        # TGI compares the key without regard to case too. That makes keys weaker and helps nobody.
        return scheme.lower() == "bearer" and secrets.compare_digest(sent.encode("latin-1"), key)
