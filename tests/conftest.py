"""What all tests share: the two faces."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.helpers.variants import VARIANTS, Clients, Variant


@pytest.fixture(autouse=True)
def no_token_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)


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
