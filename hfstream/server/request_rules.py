"""What holds for requests of all routes: how paths and lengths are read, which Host may be named, which pages may call.

Does not depend on the backend.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_LOOPBACK_ORIGIN = r"https?://(localhost|([a-z0-9-]+\.)+localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?"
_ABSOLUTE = re.compile("https?://([^/]*)(/.*)?", re.IGNORECASE | re.DOTALL)
_LOCAL_NAMES = ("localhost", "host.docker.internal")
"""Names of this computer. The second is how it is called from containers."""


def cors(allow_origin: Sequence[str]) -> Middleware:
    """Which pages may read responses: those that this computer serves, and those of the origins in `allow_origin`."""
    return Middleware(
        CORSMiddleware,
        allow_origins=list(allow_origin),
        allow_origin_regex=_LOOPBACK_ORIGIN,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],  # `authorization`, and OpenAI's client adds some `x-stainless-...`
        expose_headers=["*"],
    )


class LengthCheck:
    """Refuses requests that say in two ways how long their body is, and closes their connections.

    A proxy before this server may have gone by the other length, and passed on a second request as part of the body
    (RFC 9112, section 6.1).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and {"content-length", "transfer-encoding"}.issubset(Headers(scope=scope)):
            message = "A request must have Content-Length or Transfer-Encoding, and not both"
            app = PlainTextResponse(message, 400, {"connection": "close"})
        await app(scope, receive, send)


class AbsoluteTargets:
    """``GET http://localhost:8080/health``, as to a proxy, is ``GET /health`` with that host (RFC 9112, 3.2.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            root: str = scope.get("root_path", "")
            if target := _ABSOLUTE.fullmatch(scope["path"].removeprefix(root)):
                others = [(name, value) for name, value in scope["headers"] if name != b"host"]
                headers = [(b"host", target[1].encode()), *others]
                scope = {**scope, "path": root + (target[2] or "/"), "headers": headers}
        await self._app(scope, receive, send)


class TidyPaths:
    """``//v1/models/`` is ``/v1/models``: base URLs are written with a slash at the end, and without."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = re.sub("/{2,}", "/", scope["path"]).rstrip("/")
            # The root path without a slash behind it would be no path below it.
            scope["path"] = path if path != scope.get("root_path", "").rstrip("/") else path + "/"
        await self._app(scope, receive, send)


class HostCheck:
    """Refuses requests whose Host header is a name that is not this server's.

    A page on the internet can let its own name point to 127.0.0.1 (DNS rebinding). For the browser it then is a page of
    this server. Only its name gives it away.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str]) -> None:
        """`allowed_hosts`: names besides addresses and this computer's own names; "*" allows all."""
        self._app = app
        own_name = socket.gethostname().lower()
        self._names = {*_LOCAL_NAMES, own_name, own_name.partition(".")[0] + ".local", *map(str.lower, allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = _name(Headers(scope=scope).get("host", "")) if scope["type"] == "http" else ""
        if self._allows(name):
            await self._app(scope, receive, send)
            return
        message = (
            f"The Host header names {name[:100]!r}, which is not a name of this server. "
            "Add it to the setting `allowed_hosts` (--allowed-host) if it is."
        )
        await JSONResponse({"error": message, "error_type": "host_not_allowed"}, 421)(scope, receive, send)

    def _allows(self, name: str) -> bool:
        return not name or "*" in self._names or name in self._names or name.endswith(".localhost") or _is_address(name)


def _name(host: str) -> str:
    """A Host header without its port."""
    name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    return name.strip().lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
