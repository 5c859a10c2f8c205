"""What the doctor says of a URL that cannot be reached: name, port, proxy, TLS, certificate."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from hfstream.testing import ScriptedServer
from tests.helpers.ports import unused_port
from tests.helpers.relays import tls_server

from .conftest import Diagnose, ModelServer


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return authority


def context_for(authority: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


@pytest.fixture
def model() -> Iterator[ScriptedServer]:
    with ScriptedServer(ModelServer(tokens=5)) as server:
        yield server


def test_a_name_that_is_unknown(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    diagnosis = diagnose("http://model.example:8080")
    assert diagnosis.first == "The name of model.example is unknown: DNS has no address for it"
    assert diagnosis.lines == ["nslookup model.example"]
    assert (diagnosis.code, diagnosis.report["requests"]) == (1, 0)


def test_a_port_at_which_nothing_listens(diagnose: Diagnose) -> None:
    port = unused_port()
    diagnosis = diagnose(f"http://127.0.0.1:{port}")
    assert diagnosis.first == f"Nothing listens at 127.0.0.1:{port}: the connection was refused"
    assert diagnosis.report["requests"] == 0


def test_a_proxy_that_is_down(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    port = unused_port()
    monkeypatch.setenv("HTTP_PROXY", f"http://user:secret-password@127.0.0.1:{port}")
    diagnosis = diagnose("http://model.example:8080")
    assert diagnosis.first.startswith(f"Nothing listens at the proxy http://127.0.0.1:{port} (from HTTP_PROXY)")
    assert diagnosis.lines == ["unset HTTP_PROXY"]
    assert "secret-password" not in str(diagnosis)


def test_https_for_a_server_without_tls(diagnose: Diagnose, model: ScriptedServer) -> None:
    diagnosis = diagnose(model.url.replace("http://", "https://"))
    assert diagnosis.first.endswith("does not speak TLS: the URL must begin with http://")
    assert diagnosis.lines == [model.url]


def test_a_certificate_that_is_not_trusted(diagnose: Diagnose, model: ScriptedServer, authority: trustme.CA) -> None:
    with tls_server(model.url, context_for(authority, "127.0.0.1")) as url:
        diagnosis = diagnose(url)
    assert diagnosis.first.startswith("The certificate of 127.0.0.1 is not trusted: ")
    assert diagnosis.lines == ["export SSL_CERT_FILE=issuer.pem"]
    assert diagnosis.report["requests"] == 0


@pytest.mark.parametrize(
    ("names", "days", "first"),
    [
        (["model.example"], 100, "The certificate of 127.0.0.1 is for another name: "),
        (["127.0.0.1"], -1, "The certificate of 127.0.0.1 is not valid today: "),
        (["127.0.0.1"], 3, "The certificate ends in 3 days"),
    ],
)  # fmt: skip
def test_a_certificate_that_is_wrong(
    names: list[str], days: float, first: str, diagnose: Diagnose, model: ScriptedServer, authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    now = datetime.datetime.now(datetime.UTC)
    context = context_for(
        authority,
        *names,
        not_before=now - datetime.timedelta(days=9),
        not_after=now + datetime.timedelta(days=days, hours=1),
    )
    with tls_server(model.url, context) as url:
        diagnosis = diagnose(url)
    assert diagnosis.first.startswith(first)
    assert diagnosis.code == (3 if days > 0 and names == ["127.0.0.1"] else 1)


@pytest.mark.slow
def test_tls_that_works(
    diagnose: Diagnose, model: ScriptedServer, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with tls_server(model.url, context_for(authority, "127.0.0.1")) as url:
        diagnosis = diagnose(url)
    assert diagnosis.code == 0
    certificate = diagnosis.finding("certificate")
    assert certificate["summary"].startswith("The certificate is trusted, for ")
    assert "issued by trustme" in certificate["evidence"][1]
