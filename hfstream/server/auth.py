"""Bearer-token middleware. Does not depend on routes."""

from __future__ import annotations

import secrets

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class BearerAuth:
    """An ASGI application that requires ``Authorization: Bearer <key>``; other requests get a 401."""

    def __init__(self, app: ASGIApp, api_key: str | None, refusal: str = "") -> None:
        """`api_key`: None lets every request pass. `refusal`: the JSON of the 401; TGI's has none."""
        self._app = app
        self._key = None if api_key is None else api_key.encode()
        media_type = "application/json" if refusal else None
        self._refusal = Response(refusal, 401, {"www-authenticate": "Bearer"}, media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        allowed = self._key is None or self._matches(Headers(scope=scope).get("authorization", ""), self._key)
        await (self._app if allowed else self._refusal)(scope, receive, send)

    @staticmethod
    def _matches(authorization: str, key: bytes) -> bool:
        scheme, _, credentials = authorization.partition(" ")
        # TGI ignores the case of the key too. That makes keys weaker and helps no client.
        return scheme.lower() == "bearer" and secrets.compare_digest(credentials.encode("latin-1"), key)
