"""The names of other clients."""

from __future__ import annotations

import pytest

import hfstream
from hfstream import StreamResponse, TextGenerationResponse


@pytest.mark.parametrize(
    ("alias", "kind"),
    [
        ("TextGenerationStreamResponse", StreamResponse),
        ("TextGenerationStreamOutput", StreamResponse),
        ("TextGenerationOutput", TextGenerationResponse),
    ],
)
def test_names_of_other_clients_are_the_same_types(alias: str, kind: type) -> None:
    assert getattr(hfstream, alias) is kind
