"""The asynchronous httpx transport of a client: sends each request directly, or through its proxy.

A pool is made when a request needs it. So what is wrong with a proxy or with certificates is no error for a request
that needs neither. Does not depend on where the settings come from.
"""

from __future__ import annotations

import httpx

from ..certificates import ssl_context
from ..proxies import Proxy, ProxySettings
from ..sockets import DEADLINE, OpenSockets, mark_proxy
from .transport import AsyncTransport, make_pool

__all__ = ["AsyncRouter"]


class AsyncRouter(httpx.AsyncBaseTransport):
    """One transport for each proxy, and for requests with and without TLS."""

    def __init__(self) -> None:
        self.sockets: OpenSockets = OpenSockets()
        """All open sockets, those included that a pool no longer lists."""
        self._settings = ProxySettings()
        self._transports: dict[tuple[Proxy | None, bool], AsyncTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        proxy = self._settings.proxy_for(request.url.scheme, request.url.host, request.url.port)
        transport = self._transport(proxy, request.url.scheme == "https")
        with mark_proxy(proxy):
            try:
                return await transport.handle_async_request(request)
            except httpx.ProxyError:
                # httpcore leaves the connection open on which a SOCKS proxy has refused a request.
                for stream in self.sockets.used_by(request.extensions.get(DEADLINE)):
                    await stream.aclose()
                raise

    def _transport(self, proxy: Proxy | None, tls: bool) -> AsyncTransport:
        found = self._transports.get((proxy, tls))
        if found is None:
            context = ssl_context() if tls or (proxy is not None and proxy.scheme == "https") else None
            made = AsyncTransport(make_pool(proxy, context, self.sockets))
            found = self._transports.setdefault((proxy, tls), made)  # another thread may have been faster
        return found

    async def aclose(self) -> None:
        for transport in list(self._transports.values()):
            await transport.aclose()
