"""Rows of keys and values: where they are, how they grow and move, what they cost."""

from __future__ import annotations

import pytest
import torch

from hfstream.server.engine.kv_cache import MIN_CAPACITY, TOKENS_PER_PIECE, KVCache, Row
from hfstream.server.engine.kv_memory import LayerShape, Slab

SHAPES = [LayerShape(2, 8, 8), LayerShape(1, 16, 4)]


def make_cache(*, device: str = "cpu", max_rows: int = 4, budget: int = 4096) -> KVCache:
    return KVCache(
        SHAPES,
        dtype=torch.float32,
        device=torch.device(device),
        max_rows=max_rows,
        max_tokens=1000,
        budget_tokens=budget,
    )


def write(row: Row, length: int) -> list[torch.Tensor]:
    """Fill a row with random numbers; returns them, [heads, length, dim] for the keys and values of each layer."""
    row.length = length
    states = [torch.randn(shape.heads, length, dim) for shape in SHAPES for dim in (shape.key_dim, shape.value_dim)]
    for written, memory in zip(states, memory_of(row), strict=True):
        memory[:, :length] = written
    return states


def memory_of(row: Row) -> list[torch.Tensor]:
    pairs = zip(row.slab.keys, row.slab.values, strict=True)
    return [memory[row.index] for pair in pairs for memory in pair]


def has(row: Row, states: list[torch.Tensor]) -> bool:
    length = row.length
    return all(
        torch.equal(memory[:, :length], written[:, :length]) and not memory[:, length:].any()
        for memory, written in zip(memory_of(row), states, strict=True)
    )


def test_what_a_token_takes() -> None:
    assert make_cache().bytes_per_token == 4 * (2 * 16 + 20)


def test_rows_of_one_slab_do_not_overlap() -> None:
    cache = make_cache()
    rows = [cache.allocate(100) for _ in range(4)]
    assert len({id(row.slab) for row in rows}) == 1
    states = [write(row, 100) for row in rows]
    assert all(has(row, written) for row, written in zip(rows, states, strict=True))


def test_a_row_has_the_next_larger_capacity() -> None:
    cache = make_cache()
    sizes = (1, MIN_CAPACITY, MIN_CAPACITY + 1, 500, 513, 1000)
    assert [cache.allocate(tokens).slab.capacity for tokens in sizes] == [128, 128, 256, 512, 1024, 1024]


def test_a_row_that_is_extended_beyond_its_capacity_moves_with_its_tokens() -> None:
    cache = make_cache()
    row = cache.allocate(MIN_CAPACITY)
    before, states = row.slab, write(row, MIN_CAPACITY)
    cache.extend(row, MIN_CAPACITY)
    assert row.slab is before
    cache.extend(row, MIN_CAPACITY + 1)
    assert row.slab is not before
    assert has(row, states)
    assert before.unused


def test_a_copy_has_as_many_tokens_as_wanted() -> None:
    cache = make_cache()
    source, target = cache.allocate(100), cache.allocate(300)
    states = write(source, 100)
    cache.copy(source, target, 70)
    assert target.length == 70
    assert has(target, states)
    assert has(source, states)


def test_a_row_in_memory_of_its_own_has_no_more_room_than_asked_for() -> None:
    cache = make_cache()
    source, target = cache.allocate(100), cache.allocate_exactly(77)
    states = write(source, 77)
    cache.move(source, target)
    assert has(target, states)
    assert target.slab.capacity == 77
    assert source.slab.unused


@pytest.mark.parametrize("capacity", [1, 3, 64, 300, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_that_is_free_is_zero_and_its_neighbours_are_as_they_were(capacity: int, dtype: torch.dtype) -> None:
    slab = Slab(SHAPES, rows=3, capacity=capacity, dtype=dtype, device=torch.device("cpu"))
    for _ in range(3):
        slab.take()
    for states in (*slab.keys, *slab.values):
        states.fill_(torch.nan)
    slab.release(1)
    for states in (*slab.keys, *slab.values):
        assert not states[1].any()
        assert states[::2].isnan().all()
    assert slab.take() == 1


def test_the_lowest_free_row_is_taken_first() -> None:
    slab = Slab(SHAPES, rows=4, capacity=4, dtype=torch.float32, device=torch.device("cpu"))
    assert [slab.take() for _ in range(4)] == [0, 1, 2, 3]
    assert slab.full
    for row in (2, 0, 3):
        slab.release(row)
    assert [slab.take(), slab.take()] == [0, 2]


def test_more_rows_than_a_slab_has_take_another_slab() -> None:
    cache = make_cache(max_rows=2)
    rows = [cache.allocate(10) for _ in range(3)]
    assert rows[0].slab is rows[1].slab is not rows[2].slab


def test_trimming_gives_back_the_slabs_without_rows() -> None:
    cache = make_cache()
    used, unused = cache.allocate(10), cache.allocate(500)
    states = write(used, 10)
    cache.free(unused)
    cache.trim()
    assert cache.allocate(500).slab is not unused.slab
    assert has(used, states)
    assert cache.allocate(10).slab is used.slab


def test_a_row_costs_what_it_holds_or_on_another_device_all_of_it() -> None:
    lazy, eager = make_cache(), make_cache(device="meta")
    assert [lazy.cost(tokens) for tokens in (1, TOKENS_PER_PIECE, 300)] == [64, 64, 320]
    assert [eager.cost(tokens) for tokens in (1, 300, 1000)] == [128, 512, 1024]


def test_on_another_device_slabs_are_small() -> None:
    cache = make_cache(device="meta", max_rows=32)
    assert [cache.allocate(tokens).slab.rows for tokens in (100, 1000)] == [16, 2]


def test_memory_that_the_system_refuses_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="no memory for"):
        Slab([LayerShape(1, 1, 1)], rows=1, capacity=1 << 52, dtype=torch.float32, device=torch.device("cpu"))
