"""What all tests share: an environment of their own, and both client variants."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.helpers.variants import VARIANTS, Clients, Variant

OUTSIDE = ("HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own token, proxies and certificates are not part of any test."""
    for name in OUTSIDE:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Variant:
    found: Variant = request.param
    return found


@pytest.fixture
async def clients(variant: Variant) -> AsyncIterator[Clients]:
    clients = Clients(variant)
    yield clients
    for client in clients.made:
        await variant.close(client)
