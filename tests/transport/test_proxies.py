"""Proxies from the environment, and the hosts of NO_PROXY."""

from __future__ import annotations

import time

import pytest

from hfstream import InferenceConnectionError, InferenceTimeoutError, Timeouts
from hfstream._transport.proxies import ProxySettings
from hfstream.testing import Fault, Response, ScriptedServer, token_events
from tests.helpers.variants import Clients, Variant

STREAM = token_events("Hello", ",", " you", finish_reason="eos_token")
ENDLESS = Response([STREAM[0], Fault.STALL])


@pytest.mark.parametrize("named", ["localhost,127.0.0.1", "*", ".example.com, 127.0.0.1", "::1,http://127.0.0.1"])
@pytest.mark.slow
async def test_a_host_that_needs_no_proxy_gets_our_sockets(
    variant: Variant, clients: Clients, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("NO_PROXY", named)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with ScriptedServer(ENDLESS) as server:
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError, match="between_tokens"):
            stream = await variant.open(clients(server.url, timeout=Timeouts(first_token=300, between_tokens=0.2)))
            await variant.rest(stream)
        assert time.monotonic() - started < 60


async def test_a_proxy_from_the_environment_is_used(
    variant: Variant, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with ScriptedServer(Response([*STREAM, Fault.STALL])) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        started = time.monotonic()
        limits = Timeouts(first_token=300, between_tokens=300)
        stream = await variant.open(clients("http://model.invalid", timeout=limits))
        assert await variant.rest(stream) == ["Hello", ",", " you"]
        assert time.monotonic() - started < 60  # the end of the body is not waited for
        assert proxy.requests[0].path == "http://model.invalid/generate_stream"


# --- Without a server ------------------------------------------------------------------------------------------------


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    return monkeypatch


def goes_direct(host: str, port: int | None = None) -> bool:
    return ProxySettings().proxy_for("http", host, port) is None


@pytest.mark.parametrize(
    ("entry", "direct", "proxied"),
    [
        ("example.com", ["example.com", "a.example.com", "EXAMPLE.com", "example.com."], ["anexample.com", "com"]),
        (".example.com", ["a.example.com", "example.com"], ["anexample.com"]),
        ("*.example.com", ["a.b.example.com", "example.com"], ["example.org"]),
        ("*example.com", ["a.example.com", "example.com"], ["anexample.com"]),
        ("localhost", ["localhost"], ["127.0.0.1"]),
        ("127.0.0.1", ["127.0.0.1", "::ffff:127.0.0.1"], ["127.0.0.2"]),
        ("::1", ["::1", "0:0:0:0:0:0:0:1"], ["::2"]),
        ("[::1]", ["::1"], ["::2"]),
        ("fe80::/10", ["fe80::1", "fe80::1%eth0", "febf::1"], ["fec0::1", "1.2.3.4", "host"]),
        ("[fe80::]/10", [], ["host"]),
        ("10.0.0.0/8", ["10.1.2.3"], ["11.0.0.1", "10.host"]),
        ("10.1.2.3/8", ["10.9.9.9"], ["11.0.0.1"]),
        ("http://example.com", ["example.com"], ["example.org"]),
        ("*", ["anything", "1.2.3.4", "::1"], []),
        ("a, b,,c d", ["a", "b", "c", "d"], ["e"]),
    ],
)
def test_entries_of_NO_PROXY(entry: str, direct: list[str], proxied: list[str], no_proxy: pytest.MonkeyPatch) -> None:
    no_proxy.setenv("NO_PROXY", entry)
    assert [host for host in direct if not goes_direct(host)] == []
    assert [host for host in proxied if goes_direct(host)] == []


@pytest.mark.parametrize("entry", ["example.com:8080", "[::1]:8080", "127.0.0.1:8080", ".example.com:8080"])
def test_an_entry_with_a_port_is_about_that_port(entry: str, no_proxy: pytest.MonkeyPatch) -> None:
    no_proxy.setenv("NO_PROXY", entry)
    host = entry.removesuffix(":8080").strip("[].")
    assert goes_direct(host, 8080)
    assert not goes_direct(host, 80)
    assert not goes_direct(host)


@pytest.mark.parametrize(
    "entry", [":", "[", "[]", "::g", "http://", "a:b", "1.2.3.4/99", ":80", ".", "*.", "://", "é:x"]
)
def test_an_entry_that_means_nothing_is_passed_over(entry: str, no_proxy: pytest.MonkeyPatch) -> None:
    no_proxy.setenv("NO_PROXY", f"{entry},known.example")
    assert goes_direct("known.example")
    assert not goes_direct("other.example")


def test_a_proxy_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "user:p%40ss@proxy:3128")
    proxy = ProxySettings().proxy_for("https", "h")
    assert proxy is not None
    assert str(proxy) == repr(proxy) == "http://proxy:3128 (from https_proxy)"
    assert (proxy.address, proxy.auth) == (("proxy", 3128), (b"user", b"p@ss"))
    assert ProxySettings().proxy_for("http", "h") is None


@pytest.mark.parametrize("url", ["http://", "http://proxy:x", "gopher://proxy", "http://[::1", "http://u:p/s@proxy:1"])
def test_an_invalid_proxy_is_no_error_for_hosts_that_need_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    monkeypatch.setenv("NO_PROXY", "direct")
    settings = ProxySettings()
    assert settings.proxy_for("https", "direct") is None
    with pytest.raises(InferenceConnectionError, match="HTTPS_PROXY") as caught:
        settings.proxy_for("https", "other")
    assert "u:p" not in str(caught.value)
