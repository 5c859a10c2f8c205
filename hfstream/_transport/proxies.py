"""Mounts our transport beside the proxies that httpx reads from the environment.

No other module depends on httpx's URL patterns.
"""

from __future__ import annotations

import ipaddress
import urllib.request
from typing import Any

__all__ = ["proxy_mounts"]


def proxy_mounts(transport: Any) -> dict[str, Any]:
    """The `mounts` of an httpx client: `transport` for all URLs without a proxy, and for the hosts of NO_PROXY.

    httpx mounts the proxies itself, and the more specific pattern wins. ALL_PROXY has the same pattern as ours, so
    with it ours is left out.
    """
    proxies = urllib.request.getproxies()
    found = {} if "all" in proxies else {"all://": transport}
    for host in map(str.strip, proxies.get("no", "").split(",")):
        if host == "*":
            return {"all://": transport}
        if host:
            found[_pattern(host)] = transport
    return found


def _pattern(host: str) -> str:
    """The pattern that httpx makes of an entry of NO_PROXY: a name includes its subdomains, an address only itself."""
    if "://" in host:
        return host
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return f"all://{host}" if host.lower() == "localhost" else f"all://*{host}"
    return f"all://{host}" if version == 4 else f"all://[{host}]"
