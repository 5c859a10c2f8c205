"""The memory of keys and values: where it is written, how it grows, and that rows do not affect one another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hfstream.server.engine.kv_cache import INITIAL_CAPACITY, ForwardContext, KVCache
from hfstream.server.engine.model_runner import ModelRunner
from hfstream.server.engine.protocol import EngineRequest, SamplingParams
from tests.helpers.tiny_models import RunningEngine, prompt_of, reference


def make_request(length: int, tokens: int = 10, *, seed: int = 0, top_n_tokens: int = 0) -> EngineRequest:
    return EngineRequest(prompt_of(length, seed), tokens, SamplingParams(top_n_tokens=top_n_tokens))


def update(cache: KVCache, states: Tensor, positions: list[list[int]], *, first: int = 0) -> tuple[Tensor, Tensor]:
    """Write `states` [b, heads, c, head_dim] at `positions` [b, c] of the b rows from `first`."""
    rows = range(first, first + len(positions))
    cache.context = ForwardContext(
        torch.tensor(rows)[:, None], torch.tensor(positions), slice(rows.start, rows.stop), 1 + max(map(max, positions))
    )
    keys, values = cache.update(states, -states, layer_idx=0)
    return keys, values


def test_each_row_is_written_at_its_own_position_and_read_as_a_view() -> None:
    cache, states = KVCache(3), torch.randn(2, 4, 1, 8)
    keys, values = update(cache, states, [[5], [2]], first=1)
    assert keys.shape == (2, 4, 6, 8)
    assert torch.equal(keys[0, :, 5], states[0, :, 0])
    assert torch.equal(keys[1, :, 2], states[1, :, 0])
    assert torch.equal(values, -keys)
    assert keys.count_nonzero() == states.numel(), "all else is zero"
    (layer,) = cache.layers
    assert keys.data_ptr() == layer.keys[1].data_ptr(), "no copy"
    assert (cache.get_seq_length(), layer.get_mask_sizes(1)) == (5, (6, 0))


def test_a_cache_that_grows_keeps_its_tokens() -> None:
    cache, states = KVCache(1), torch.randn(1, 4, INITIAL_CAPACITY, 8)
    before, _ = update(cache, states, [[*range(INITIAL_CAPACITY)]])
    after, _ = update(cache, states[:, :, :1], [[INITIAL_CAPACITY]])
    assert cache.layers[0].keys.shape[2] == 2 * INITIAL_CAPACITY
    assert torch.equal(after[:, :, :-1], before)


def test_rows_are_moved_and_zeroed() -> None:
    cache, states = KVCache(2), torch.randn(1, 4, 6, 8)
    update(cache, states, [[*range(6)]], first=1)
    (layer,) = cache.layers
    cache.move(1, 0, 4)
    assert torch.equal(layer.keys[0, :, :4], states[0, :, :4])
    assert not layer.keys[0, :, 4:].any()
    cache.zero(slice(1, 2), 5)
    assert not layer.values[1, :, :5].any()
    assert torch.equal(layer.values[1, :, 5], -states[0, :, 5])
    cache.zero(slice(0, 2))
    assert not layer.keys.any()
    assert not layer.values.any()


def test_memory_grows_by_doubling(engine: RunningEngine, runners: list[ModelRunner]) -> None:
    for length, capacity in ((200, 256), (250, 512), (500, 512), (510, 1024)):
        engine.generate(make_request(length))
        assert {layer.keys.shape[2] for layer in runners[0].cache.layers} == {capacity}


def test_a_nan_in_one_row_does_not_reach_other_or_later_rows(
    engine: RunningEngine, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = ModelRunner._forward

    def spoils(runner: ModelRunner, ids: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        logits = forward(runner, ids, *args, **kwargs)
        if runner.lengths[:1] == [202]:
            for layer in runner.cache.layers:
                layer.values[0, :, :202] = torch.nan
            return logits.index_fill(0, torch.tensor([0]), torch.nan)
        return logits

    monkeypatch.setattr(ModelRunner, "_forward", spoils)
    wrong, beside = make_request(200, 4, top_n_tokens=2), make_request(5, 40, seed=1)
    engine.submit(wrong, beside)
    assert [(output.logprob, output.top) for output in engine.token_outputs(wrong)][-1] == (None, ())
    late = make_request(250, 5, seed=2)  # makes the view long enough to show what the first row left behind
    engine.submit(late)
    assert engine.tokens(late) == reference(model, prompt_of(250, 2), 5)
    assert engine.tokens(beside) == reference(model, prompt_of(5, 1), 40)
