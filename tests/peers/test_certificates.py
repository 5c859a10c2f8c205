"""Servers whose certificate is not accepted, and SOCKS proxies."""

from __future__ import annotations

import datetime
import gc
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from hfstream import InferenceConnectionError
from hfstream.testing import Response, ScriptedServer
from tests.helpers.relays import Target, socks_proxy, tls_server
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import AGAIN, WORDS, Task

SECTION = "Proxies, certificates and addresses"

CERTIFICATES = row(
    SECTION,
    "a certificate that is self-signed, of an unknown issuer, expired, or of another host; `https://` where the server "
    "speaks http",
    "tried again, three times as a rule",
    "an error that says what to change, at once",
)

OURS, OTHER = trustme.CA(), trustme.CA()
PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


def context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(server)  # pyright: ignore[reportUnknownMemberType]  it takes pyOpenSSL's too
    return server


WRONG: dict[str, tuple[Callable[[], trustme.LeafCert], str]] = {
    "an unknown issuer": (
        lambda: OTHER.issue_cert("127.0.0.1"),
        "is not trusted: .*Set SSL_CERT_FILE to its issuer's certificate, or pass an http_client= with verify=",
    ),
    "expired": (
        lambda: OURS.issue_cert("127.0.0.1", not_before=PAST, not_after=PAST + datetime.timedelta(1)),
        "is not valid today: .*expired.*Renew it, or set this computer's clock",
    ),
    "of another host": (
        lambda: OURS.issue_cert("model.example"),
        "is for another host: .*Write the name that it is for into the URL",
    ),
}


@CERTIFICATES
@pytest.mark.parametrize(("issue", "words"), WRONG.values(), ids=WRONG)
async def test_a_certificate_that_is_not_accepted_is_told_at_once(
    variant: Variant,
    clients: Clients,
    task: Task,
    issue: Callable[[], trustme.LeafCert],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    OURS.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with ScriptedServer(Response(task.whole(*WORDS))) as server, tls_server(server.url, context(issue())) as url:
        for ask in (task.open, task.ask):
            with pytest.raises(InferenceConnectionError, match=f"^the certificate of {url} {words}") as caught:
                await ask(variant, clients(url, retry=AGAIN))
            assert not caught.value.retryable
        assert server.connections == 0


@CERTIFICATES
async def test_a_server_without_TLS_at_a_https_URL_is_told_at_once(
    variant: Variant, clients: Clients, task: Task
) -> None:
    with ScriptedServer(Response(task.whole(*WORDS))) as server:
        url = server.url.replace("http:", "https:")
        with pytest.raises(InferenceConnectionError, match=f"{url} does not answer in TLS: .*http://") as caught:
            await task.open(variant, clients(url, retry=AGAIN))
        assert not caught.value.retryable
        assert server.connections == 1


@CERTIFICATES
async def test_a_certificate_of_ones_own_issuer_is_accepted(
    variant: Variant, clients: Clients, task: Task, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    OURS.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    secure = context(OURS.issue_cert("127.0.0.1"))
    with ScriptedServer(Response(task.whole(*WORDS))) as server, tls_server(server.url, secure) as url:
        assert task.texts(await variant.rest(await task.open(variant, clients(url)))) == WORDS


SOCKS = row(
    SECTION,
    "a SOCKS5 proxy from the environment, with a user and a password or without",
    "works, if its package is installed",
    "works; the proxy looks up the host's name",
)


@SOCKS
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("credentials", [None, (b"user", b"pass word")], ids=["open", "password"])
async def test_a_SOCKS_proxy_is_used(
    variant: Variant,
    clients: Clients,
    task: Task,
    scheme: str,
    credentials: tuple[bytes, bytes] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Target] = []
    userinfo = "user:pass%20word@" if credentials else ""
    with ScriptedServer(Response(task.whole(*WORDS))) as server, socks_proxy(asked, credentials=credentials) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://{userinfo}{proxy}")
        port = int(server.url.rpartition(":")[2])
        client = clients(f"http://model.invalid:{port}")
        for _ in range(2):
            assert task.texts(await variant.rest(await task.open(variant, client))) == WORDS
        assert asked == [("model.invalid", port)]


@SOCKS
async def test_a_SOCKS_proxy_that_wants_another_password_is_named(
    variant: Variant, clients: Clients, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socks_proxy([], credentials=(b"user", b"right")) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5://user:secret@{proxy}")
        with pytest.raises(InferenceConnectionError, match=f"the proxy socks5://{proxy} .from ALL_PROXY") as caught:
            await task.open(variant, clients("http://model.invalid", retry=None))
        assert "secret" not in str(caught.value)
    del caught
    gc.collect()  # what httpcore leaves open would be told here
