"""Whether a URL can be reached, step by step: proxy, name, connection, TLS, certificate. Sends no request.

A connection of its own, because an HTTP client reports a failure of any of these steps as one that it cannot connect.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..._transport.certificates import ssl_context
from ..._transport.proxies import Proxy, ProxySettings
from ...errors import InferenceConnectionError
from .findings import Finding, Mend, Severity
from .words import duration, plain

__all__ = ["Reach", "check_reach"]

RENEW_DAYS = 14
"""A certificate that ends sooner is a warning."""


@dataclass
class Reach:
    """How far the way to the server is open."""

    findings: list[Finding] = field(default_factory=list[Finding])
    proxy: Proxy | None = None

    @property
    def failed(self) -> bool:
        """Whether no request can be sent."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)

    def add(self, check: str, severity: Severity, summary: str, *evidence: str, mend: tuple[Mend, ...] = ()) -> None:
        """Adds a finding."""
        self.findings.append(Finding(check, severity, summary, evidence, mend))


def check_reach(url: str, seconds: float) -> Reach:
    """Looks up the host of `url`, connects, and shakes hands; each step may take `seconds`."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    reach = Reach()
    try:
        reach.proxy = ProxySettings().proxy_for(parts.scheme, host, port)
    except InferenceConnectionError as error:
        reach.add("proxy", Severity.ERROR, "The environment names a proxy that is none", error.message)
        return reach
    address = reach.proxy.address if reach.proxy else (host, port)
    found, looked_up_in = _look_up(*address, seconds)
    if isinstance(found, Exception):
        _add_unknown_host(reach, address[0], found, seconds)
        return reach
    connected = _connect(found, seconds)
    if isinstance(connected, Exception):
        _add_unreachable(reach, address, found, connected, seconds)
        return reach
    sock, connected_in = connected
    with sock:
        way = f"through the proxy {reach.proxy}" if reach.proxy else "without a proxy"
        where = plain(f"{sock.getpeername()[0]}, port {address[1]}")
        reach.add(
            "connection", Severity.OK, f"Reached {plain(host)} {way}",
            f"name looked up in {duration(looked_up_in)}, connected to {where} in {duration(connected_in)}",
        )  # fmt: skip
        if parts.scheme == "https" and reach.proxy is None:
            _check_tls(reach, sock, host, port, seconds)
    return reach


def _look_up(host: str, port: int, seconds: float) -> tuple[list[Any] | Exception, float]:
    """The addresses of a host, and how long it took. `getaddrinfo` has no time limit, so a thread of its own waits."""
    found: list[list[Any] | Exception] = []

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    started = time.monotonic()
    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(seconds)
    return (found[0] if found else TimeoutError("no answer")), time.monotonic() - started


def _connect(addresses: list[Any], seconds: float) -> tuple[socket.socket, float] | OSError:
    """A connection to the first address that accepts one, and how long it took; or the last error."""
    failure = OSError("no address")
    deadline = time.monotonic() + seconds
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        started = time.monotonic()
        sock.settimeout(max(0.001, deadline - started))
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock, time.monotonic() - started
    return failure


def _add_unknown_host(reach: Reach, host: str, error: Exception, seconds: float) -> None:
    name = plain(host)
    what = "the proxy " if reach.proxy else ""
    mend: tuple[Mend, ...]
    if isinstance(error, TimeoutError):
        summary = f"The name of {what}{name} could not be looked up within {seconds:g} s"
        mend = (Mend("this computer: does another name answer?", f"nslookup {name}"),)
    else:
        summary = f"The name of {what}{name} is unknown: DNS has no address for it"
        mend = (
            Mend("the URL, if it is misspelt; otherwise ask DNS", f"nslookup {name}"),
            *([Mend("without the proxy", f"unset {reach.proxy.variable}")] if reach.proxy else []),
        )
    reach.add("dns", Severity.ERROR, summary, f"{type(error).__name__}: {plain(str(error))}", mend=mend)


def _add_unreachable(
    reach: Reach, address: tuple[str, int], found: list[Any], error: Exception, seconds: float
) -> None:
    host, port = plain(address[0]), address[1]
    who = f"the proxy {reach.proxy}" if reach.proxy else f"{host}:{port}"
    evidence = f"tried {', '.join(sorted({str(each[4][0]) for each in found}))}: {plain(str(error))}"
    mend: list[Mend] = []
    if reach.proxy:
        mend += [Mend("without this proxy, in the environment", f"unset {reach.proxy.variable}")]
    elif isinstance(error, ConnectionRefusedError):
        mend += [Mend("the URL's port, if it is wrong; or start the server there", f"hfstream serve --port {port}")]
    if isinstance(error, ConnectionRefusedError):
        summary = f"Nothing listens at {who}: the connection was refused"
    elif isinstance(error, TimeoutError):
        summary = f"Nothing answers at {who}: no connection within {seconds:g} s"
        mend.append(Mend("a firewall or security group between here and there must let this pass", f"tcp/{port}"))
    else:
        summary = f"{who} cannot be reached: {plain(getattr(error, 'strerror', '') or str(error))}"
        summary = summary[0].upper() + summary[1:]
    reach.add("connection", Severity.ERROR, summary, evidence, mend=tuple(mend))


# TLS -----------------------------------------------------------------------------------------------------------------


def _check_tls(reach: Reach, sock: socket.socket, host: str, port: int, seconds: float) -> None:
    sock.settimeout(seconds)
    started = time.monotonic()
    try:
        context = ssl_context()
        with context.wrap_socket(sock, server_hostname=host) as secure:
            version, certificate = secure.version(), secure.getpeercert() or {}
    except InferenceConnectionError as error:  # a variable of the environment
        reach.add("certificate", Severity.ERROR, "The certificates to trust cannot be read", error.message)
    except ssl.SSLCertVerificationError as error:
        _add_bad_certificate(reach, host, port, error)
    except (OSError, ValueError) as error:
        _add_no_tls(reach, host, port, error)
    else:
        _add_certificate(reach, certificate, f"{version}, in {duration(time.monotonic() - started)}")


_EXPIRED, _NOT_YET, _WRONG_HOST, _WRONG_IP = 10, 9, 62, 64
"""X509_V_ERR_... of OpenSSL: `verify_code` of the exception."""


def _add_bad_certificate(reach: Reach, host: str, port: int, error: ssl.SSLCertVerificationError) -> None:
    name, why = plain(host), plain(error.verify_message)
    if error.verify_code in (_EXPIRED, _NOT_YET):
        summary = f"The certificate of {name} is not valid today: {why}"
        mend = Mend("the server; or this computer's clock, if it is wrong", "certbot renew")
    elif error.verify_code in (_WRONG_HOST, _WRONG_IP):
        summary = f"The certificate of {name} is for another name: {why}"
        mend = Mend(
            "the URL: write the name that the certificate is for, which this shows",
            f"openssl s_client -connect {name}:{port} </dev/null | openssl x509 -noout -ext subjectAltName",
        )
    else:
        summary = f"The certificate of {name} is not trusted: {why}"
        mend = Mend("the client's environment, with the certificate of the issuer", "export SSL_CERT_FILE=issuer.pem")
    reach.add("certificate", Severity.ERROR, summary, f"OpenSSL: {why} (code {error.verify_code})", mend=(mend,))


def _add_no_tls(reach: Reach, host: str, port: int, error: Exception) -> None:
    name = plain(host)
    mend: tuple[Mend, ...] = ()
    if "WRONG_VERSION_NUMBER" in str(error) or "record layer failure" in str(error):
        summary = f"{name}:{port} does not speak TLS: the URL must begin with http://"
        mend = (Mend("the URL", f"http://{name}:{port}"),)
    else:
        summary = f"{name}:{port} does not complete the TLS handshake"
    reach.add("tls", Severity.ERROR, summary, plain(str(error)) or type(error).__name__, mend=mend)


def _add_certificate(reach: Reach, certificate: Mapping[str, Any], handshake: str) -> None:
    ends = str(certificate.get("notAfter", ""))
    days = (ssl.cert_time_to_seconds(ends) - time.time()) / 86_400 if ends else RENEW_DAYS
    issuer = {key: value for part in certificate.get("issuer", ()) for key, value in part}
    name = plain(str(issuer.get("organizationName") or issuer.get("commonName") or "unknown"))
    evidence = (handshake, f"issued by {name}, valid until {ends or 'an unknown day'}")
    if days < RENEW_DAYS:
        mend = (Mend("the server", "certbot renew"),)
        reach.add("certificate", Severity.WARNING, f"The certificate ends in {days:.0f} days", *evidence, mend=mend)
    else:
        reach.add("certificate", Severity.OK, f"The certificate is trusted, for {days:.0f} more days", *evidence)
