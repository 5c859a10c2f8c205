"""Greedy tokens are those of transformers' `generate()`, in every supported architecture; segments packed in a pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from hfstream.server.engine.attention import Segment
from hfstream.server.engine.kv_cache import KVCache, Row
from hfstream.server.engine.kv_memory import LayerShape
from hfstream.server.engine.model_runner import ModelRunner
from hfstream.server.engine.protocol import EngineRequest
from hfstream.server.engine.transformers_forward import TransformersForward
from tests.helpers.tiny_models import CONFIGS, CONTEXT, RunningEngine, make_model, prompt_of, reference, save_model

LENGTHS = (5, 1, 30, 300, 12, 7, 2)


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.slow
def test_mixed_requests_in_fewer_rows_give_the_tokens_of_generate(architecture: str, tmp_path: Path) -> None:
    model = make_model(architecture)
    requests = [
        EngineRequest(prompt_of(length, seed=i), max_new_tokens=3 + 4 * (i % 3)) for i, length in enumerate(LENGTHS)
    ]
    with RunningEngine(save_model(tmp_path, architecture), max_batch_size=3) as engine:
        engine.submit(*requests)
        outputs = [engine.tokens(request) for request in requests]
    assert outputs == [reference(model, list(request.prompt), request.max_new_tokens) for request in requests]
    assert len({token for output in outputs for token in output}) > 5, "always the same token would prove nothing"


@pytest.mark.parametrize("length", [63, 64, 65, 127, 128, 129, 600, CONTEXT - 10])
def test_a_prompt_prefilled_in_chunks_gives_the_tokens_of_generate(
    length: int, engine: RunningEngine, model: Any
) -> None:
    assert engine.generate(EngineRequest(prompt_of(length), 10)) == reference(model, prompt_of(length), 10)


def make_runner(architecture: str = "llama") -> ModelRunner:
    model = make_model(architecture)
    config = model.config
    heads = getattr(config, "num_key_value_heads", 1)
    cache = KVCache(
        [LayerShape(heads, 8, 8)] * 2,
        dtype=torch.float32,
        device=torch.device("cpu"),
        max_rows=4,
        max_tokens=CONTEXT,
        budget_tokens=4 * CONTEXT,
    )
    return ModelRunner(TransformersForward(model), cache, dtype=torch.float32, device=torch.device("cpu"))


def run(runner: ModelRunner, *segments: tuple[Row, Sequence[int]]) -> list[int]:
    """Run one pass; returns the likeliest next token of each segment."""
    logits = runner.forward([Segment(row, tokens) for row, tokens in segments])
    return [int(token) for token in logits.argmax(-1)]


PROMPTS = [prompt_of(length, length) for length in (20, 4, 150, 33)]


@pytest.mark.parametrize("architecture", ["llama", "falcon"])
@torch.inference_mode()
def test_segments_of_all_kinds_share_a_pass(architecture: str) -> None:
    runner, model = make_runner(architecture), make_model(architecture)
    expected = [reference(model, prompt, 3) for prompt in PROMPTS]
    rows = [runner.cache.allocate(len(prompt) + 1) for prompt in PROMPTS]
    assert run(runner, (rows[1], PROMPTS[1]), (rows[0], PROMPTS[0])) == [expected[1][0], expected[0][0]]
    # In one pass: two prompts' first chunks, one token for a row, and a whole prompt.
    logits = runner.forward(
        [
            Segment(rows[2], PROMPTS[2][:100], logits=0),
            Segment(rows[0], expected[0][:1]),
            Segment(rows[3], PROMPTS[3]),
        ]
    )
    assert [int(token) for token in logits.argmax(-1)] == [expected[0][1], expected[3][0]]
    tokens = run(
        runner,
        (rows[3], expected[3][:1]),
        (rows[2], PROMPTS[2][100:]),
        (rows[0], expected[0][1:2]),
        (rows[1], expected[1][:1]),
    )
    assert tokens == [expected[3][1], expected[2][0], expected[0][2], expected[1][1]]
    assert [row.length for row in rows] == [22, 5, 150, 34]


@torch.inference_mode()
def test_rows_with_gaps_between_them_are_decoded_together() -> None:
    runner, model = make_runner(), make_model()
    rows = [runner.cache.allocate(len(prompt) + 1) for prompt in (PROMPTS[0], PROMPTS[1], PROMPTS[3])]
    assert [row.index for row in rows] == [0, 1, 2]
    for row, prompt in zip(rows, (PROMPTS[0], PROMPTS[1], PROMPTS[3]), strict=True):
        run(runner, (row, prompt))
    runner.cache.free(rows[1])
    first, last = reference(model, PROMPTS[0], 2), reference(model, PROMPTS[3], 2)
    assert run(runner, (rows[2], last[:1]), (rows[0], first[:1])) == [last[1], first[1]]


@torch.inference_mode()
def test_a_pass_without_logits() -> None:
    runner, model = make_runner(), make_model()
    row = runner.cache.allocate(21)
    assert runner.forward([Segment(row, PROMPTS[0][:10], logits=0)]).shape[0] == 0
    assert run(runner, (row, PROMPTS[0][10:])) == reference(model, PROMPTS[0], 1)


@torch.inference_mode()
def test_after_an_error_the_same_segments_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, model = make_runner(), make_model()
    row, compute = runner.cache.allocate(21), TransformersForward.__call__

    def fails(*args: Any) -> torch.Tensor:
        compute(*args)
        raise RuntimeError("boom")

    with monkeypatch.context() as patch:
        patch.setattr(TransformersForward, "__call__", fails)
        with pytest.raises(RuntimeError, match="boom"):
            run(runner, (row, PROMPTS[0]))
    assert row.length == 0
    assert run(runner, (row, PROMPTS[0])) == reference(model, PROMPTS[0], 1)
