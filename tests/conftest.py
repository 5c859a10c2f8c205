"""What all tests share: the two faces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from faces import FACES, Face


@pytest.fixture(autouse=True)
def no_token_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    found: Face = request.param
    return found


class Clients:
    """Makes clients of one face, and closes them after the test."""

    def __init__(self, face: Face) -> None:
        self.face = face
        self.made: list[Any] = []

    def __call__(self, model: str | None, **settings: Any) -> Any:
        self.made.append(self.face.client(model, **settings))
        return self.made[-1]


@pytest.fixture
async def clients(face: Face) -> AsyncIterator[Clients]:
    clients = Clients(face)
    yield clients
    for client in clients.made:
        await face.close(client)
