"""The bundled model's greedy answers, id for id as they have been: alone and in a full batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hfstream.server.engine.protocol import EngineRequest
from hfstream.server.model_files import BUNDLED
from tests.helpers.tiny_models import RunningEngine

RECORDED = json.loads(Path(__file__).with_name("bundled_greedy.json").read_text("utf-8"))


def requests() -> list[EngineRequest]:
    return [EngineRequest(answer["prompt"], 48) for answer in RECORDED]


@pytest.mark.slow
def test_answers_alone_and_in_a_full_batch_are_those_recorded() -> None:
    expected = [answer["tokens"] for answer in RECORDED]
    with RunningEngine(BUNDLED, max_batch_size=32) as engine:
        together = requests()
        engine.submit(*together)
        assert [engine.tokens(request) for request in together] == expected
        assert [engine.generate(request) for request in requests()] == expected, "most of each prompt is kept by now"
