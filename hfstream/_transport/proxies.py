"""Which proxy a URL has, from the environment: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.

Entries of NO_PROXY are read as curl, Go and requests do, and one that cannot be read is passed over: it may be meant
for another program. Does not depend on how a proxy is used.
"""

from __future__ import annotations

import ipaddress
import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ..core.urls import origin
from ..errors import InferenceConnectionError

__all__ = ["Proxy", "ProxySettings"]

_SCHEMES = ("http", "https", "socks5", "socks5h")
_DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True)
class Proxy:
    """A proxy, and where its URL comes from. Its text shows neither user nor password."""

    url: str
    variable: str

    def __str__(self) -> str:
        return f"{origin(self.url)} (from {self.variable})"

    __repr__ = __str__

    @property
    def scheme(self) -> str:
        """http, https, socks5 or socks5h."""
        return urlsplit(self.url).scheme

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]

    @property
    def auth(self) -> tuple[bytes, bytes] | None:
        """User and password."""
        parts = urlsplit(self.url)
        if not (parts.username or parts.password):
            return None
        return unquote(parts.username or "").encode(), unquote(parts.password or "").encode()


class ProxySettings:
    """The proxies of the environment, as it was when this was made."""

    def __init__(self) -> None:
        self._proxies = urllib.request.getproxies()  # also those of macOS and the Windows registry
        self._variables = {scheme: _variable(scheme) for scheme in ("http", "https", "all")}
        entries = [entry.strip() for entry in self._proxies.get("no", "").replace(" ", ",").split(",")]
        self._exceptions = [match for entry in entries if entry and (match := _exception(entry)) is not None]

    def proxy_for(self, scheme: str, host: str, port: int | None = None) -> Proxy | None:
        """The proxy for requests to a URL of these parts; None if they are sent without one.

        Raises:
            InferenceConnectionError: the proxy's URL is invalid.
        """
        kind = scheme if self._proxies.get(scheme) else "all"
        address = self._proxies.get(kind, "")
        host, port = host.lower().rstrip("."), port or _DEFAULT_PORTS.get(scheme, 0)
        if not address or any(match(host, port) for match in self._exceptions):
            return None
        return _checked(Proxy(address if "://" in address else f"http://{address}", self._variables[kind]))


def _variable(scheme: str) -> str:
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    return next((name for name in names if os.environ.get(name)), "the system's settings")


def _checked(proxy: Proxy) -> Proxy:
    try:
        scheme, (host, _) = proxy.scheme, proxy.address
    except (ValueError, KeyError):  # the ValueErrors of urlsplit quote parts of the URL
        scheme = host = ""
    if host and scheme in _SCHEMES:
        return proxy
    raise InferenceConnectionError(
        f"the proxy in {proxy.variable} has no valid URL: it must be http://host:port, https://host:port or "
        "socks5://host:port. Characters such as / ? # @ in its password must be percent-encoded",
        retryable=False,
    )


_Exception = Callable[[str, int], bool]
"""Whether a host (in lower case, an IPv6 address without brackets) and a port need no proxy."""


def _exception(entry: str) -> _Exception | None:
    """What an entry of NO_PROXY stands for; None if it stands for nothing.

    A name includes its subdomains, with a dot, ``*.`` or nothing before it. An address may be that of a network, and a
    port, brackets or a scheme may be there.
    """
    if entry == "*":
        return lambda host, port: True
    entry = entry.partition("://")[2] or entry
    network = _network(entry.strip("[]"))
    if network is not None:
        return _in_network(network, None)
    name, _, port_text = entry.rpartition(":") if ":" in entry else (entry, "", "")
    if not (name and (port_text.isdecimal() if port_text else ":" not in entry)):
        return None
    wanted = int(port_text) if port_text else None
    name = name.strip("[]").removeprefix("*").lstrip(".").rstrip(".").lower()
    if not name:
        return None
    network = _network(name)
    if network is not None:
        return _in_network(network, wanted)
    return lambda host, port: wanted in (None, port) and (host == name or host.endswith(f".{name}"))


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _in_network(network: _Network, wanted: int | None) -> _Exception:
    return lambda host, port: wanted in (None, port) and _contains(network, host)


def _contains(network: _Network, host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address in network or (mapped is not None and mapped in network)
