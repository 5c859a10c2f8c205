"""Where our transports stand among the proxies of the environment. The only place that knows httpx's patterns."""

from __future__ import annotations

import ipaddress
import urllib.request
from typing import Any

__all__ = ["proxy_mounts"]


def proxy_mounts(transport: Any) -> dict[str, Any]:
    """Our transport, wherever httpx would put its own: for all URLs, and for the hosts that NO_PROXY names.

    Proxies from the environment stay httpx's: they win because they are more specific. ALL_PROXY alone is not.
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
    """What httpx makes of an entry of NO_PROXY: a name stands for its subdomains too, an address for itself."""
    if "://" in host:
        return host
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return f"all://{host}" if host.lower() == "localhost" else f"all://*{host}"
    return f"all://{host}" if version == 4 else f"all://[{host}]"
