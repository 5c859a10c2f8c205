"""What all tests share: the two faces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from variants import VARIANTS, Variant


@pytest.fixture(autouse=True)
def no_token_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Variant:
    found: Variant = request.param
    return found


class Clients:
    """Makes clients of one face, and closes them after the test."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.made: list[Any] = []

    def __call__(self, model: str | None, **settings: Any) -> Any:
        self.made.append(self.variant.client(model, **settings))
        return self.made[-1]


@pytest.fixture
async def clients(variant: Variant) -> AsyncIterator[Clients]:
    clients = Clients(variant)
    yield clients
    for client in clients.made:
        await variant.close(client)
