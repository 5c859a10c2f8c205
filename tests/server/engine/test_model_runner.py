"""Greedy tokens are those of transformers' `generate()`, in every supported architecture; the rows of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hfstream.server.engine.model_runner import ModelRunner
from hfstream.server.engine.protocol import EngineRequest
from tests.helpers.tiny_models import (
    CONFIGS,
    CONTEXT,
    RunningEngine,
    is_clean,
    make_model,
    prompt_of,
    reference,
    save_model,
)

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


@pytest.mark.parametrize("length", [255, 256, 257, 512, 600, CONTEXT - 10])
def test_a_prompt_prefilled_in_chunks_gives_the_tokens_of_generate(
    length: int, engine: RunningEngine, model: Any
) -> None:
    assert engine.generate(EngineRequest(prompt_of(length), 10)) == reference(model, prompt_of(length), 10)


def add_row(runner: ModelRunner, prompt: list[int]) -> int:
    """Prefill and commit a prompt; returns the likeliest next token."""
    logits = runner.prefill(prompt)
    runner.commit()
    return int(logits.argmax())


def decode(runner: ModelRunner, tokens: list[int]) -> list[int]:
    """Decode one step; returns the likeliest next tokens."""
    return [int(token) for token in runner.decode(tokens).argmax(-1)]


@torch.inference_mode()
def test_freeing_a_row_moves_the_last_one_there(model: Any) -> None:
    runner = ModelRunner(model, 3)
    prompts = [prompt_of(length, length) for length in (20, 4, 9)]
    tokens = [add_row(runner, prompt) for prompt in prompts]
    runner.free(0)
    assert runner.lengths == [9, 4]
    assert decode(runner, [tokens[2], tokens[1]]) == [reference(model, prompts[i], 2)[1] for i in (2, 1)]
    for row in (1, 0):
        runner.free(row)
    assert is_clean(runner)


@torch.inference_mode()
def test_a_prefill_that_is_reset_leaves_nothing_behind(model: Any) -> None:
    runner = ModelRunner(model, 2)
    first = add_row(runner, prompt_of(6))
    runner.prefill(prompt_of(30, 1))
    runner.reset_prefill()
    second = add_row(runner, prompt_of(5, 2))
    assert decode(runner, [first, second]) == [reference(model, prompt_of(*args), 2)[1] for args in ((6, 0), (5, 2))]


@torch.inference_mode()
def test_clear_frees_all_rows(model: Any) -> None:
    runner = ModelRunner(model, 3)
    for length in (20, 4, 9):
        add_row(runner, prompt_of(length))
    runner.clear()
    assert is_clean(runner)
    assert add_row(runner, prompt_of(7)) == reference(model, prompt_of(7), 1)[0]
