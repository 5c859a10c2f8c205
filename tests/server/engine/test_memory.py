"""What requests cost in memory, what they wait for, and what they read again or need not: counted, not timed.

A scheduler without a thread, and a model with a context of 8,192 tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from hfstream.server.engine.attention import Segment
from hfstream.server.engine.kv_cache import KVCache
from hfstream.server.engine.kv_memory import LayerShape
from hfstream.server.engine.model_runner import ModelRunner
from hfstream.server.engine.prefill_budget import PrefillBudget
from hfstream.server.engine.prefix_cache import MAX_ENTRIES, MIN_TOKENS
from hfstream.server.engine.protocol import EngineRequest, ModelInfo, RequestFailed, SamplingParams, TokenOutput
from hfstream.server.engine.scheduler import MAX_SCORED, Scheduler
from hfstream.server.engine.transformers_forward import TransformersForward
from tests.helpers.tiny_models import VOCAB, make_model, prompt_of, reference

LONG = 8192
SHAPES = [LayerShape(2, 8, 8)] * 2
BYTES_PER_TOKEN = 2 * 2 * 2 * 8 * 4


class CountingRunner(ModelRunner):
    """Notes the sizes of the segments of each pass."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.passes: list[list[int]] = []

    def forward(self, segments: Any) -> torch.Tensor:
        self.passes.append([len(segment.tokens) for segment in segments])
        logits: torch.Tensor = super().forward(segments)
        return logits

    @property
    def computed(self) -> int:
        """Tokens in all passes so far."""
        return sum(map(sum, self.passes))


class Batch:
    """A scheduler that is stepped by the test."""

    def __init__(self, model: Any, *, rows: int = 4, budget: int = 16 * LONG, device: str = "cpu") -> None:
        context = min(LONG, budget)
        self.cache = KVCache(
            SHAPES,
            dtype=torch.float32,
            device=torch.device(device),
            max_rows=rows,
            max_tokens=context,
            budget_tokens=budget,
        )
        cpu = torch.device("cpu")
        self.runner = CountingRunner(TransformersForward(deepcopy(model)), self.cache, dtype=torch.float32, device=cpu)
        info = ModelInfo("llama", context, frozenset(), VOCAB, "float32", "cpu", 0)
        self.scheduler = Scheduler(self.runner, info, max_rows=rows)
        self.tokens: dict[EngineRequest, list[int]] = {}
        self.steps: list[list[TokenOutput | RequestFailed]] = []

    def add(self, *requests: EngineRequest) -> None:
        for request in requests:
            self.tokens[request] = []
            self.scheduler.add(request)

    def step(self) -> list[TokenOutput | RequestFailed]:
        with torch.inference_mode():
            outputs = self.scheduler.step()
        for output in outputs:
            assert isinstance(output, TokenOutput), output
            self.tokens[output.request].append(output.token)
        self.steps.append(outputs)
        return outputs

    def run(self, *requests: EngineRequest) -> list[list[int]]:
        """Add requests, and step until all have ended."""
        self.add(*requests)
        while not self.scheduler.idle:
            self.step()
            assert self.held() <= self.cache.budget_tokens
        return [self.tokens[request] for request in requests]

    def release(self) -> None:
        with torch.inference_mode():
            self.scheduler.release_memory()

    def held(self) -> int:
        """Tokens that count against the budget."""
        running = sum(self.cache.cost(each.row.length) for each in self.scheduler._running)
        return running + self.scheduler.prefixes.cost

    def order(self) -> list[EngineRequest]:
        """The requests in the order of their first tokens."""
        return list(dict.fromkeys(output.request for outputs in self.steps for output in outputs))


@pytest.fixture(scope="module")
def long_model() -> Any:
    return make_model(max_position_embeddings=LONG)


@pytest.fixture
def batch(long_model: Any) -> Iterator[Batch]:
    batch = Batch(long_model)
    yield batch
    batch.release()
    assert batch.held() == 0
    assert not any(batch.cache._slabs.values()), "all memory is given back"


def anonymous(cache: KVCache) -> int:
    """Bytes of memory that the pages of a cache's slabs take, as the system counts them."""
    ranges = [
        (slab._memory.data_ptr(), slab._memory.data_ptr() + slab._memory.nbytes)
        for slabs in cache._slabs.values()
        for slab in slabs
    ]
    total, inside = 0, False
    with Path("/proc/self/smaps").open(encoding="ascii") as file:
        for line in file:
            head = line.split(maxsplit=1)[0]
            if "-" in head and not head.endswith(":"):
                start, end = (int(number, 16) for number in head.split("-"))
                inside = any(first < end and start < last for first, last in ranges)
            elif inside and head == "Rss:":
                total += int(line.split()[1]) * 1024
    return total


# Memory


def test_a_scheduler_is_idle_once_all_have_ended(batch: Batch) -> None:
    assert batch.scheduler.idle
    requests = [EngineRequest(prompt_of(8), tokens) for tokens in (1, 2, 2)]
    batch.add(*requests)
    requests[2].cancelled = True
    ended: list[set[EngineRequest]] = []
    while not batch.scheduler.idle:
        batch.step()
        ended.append(batch.scheduler.ended)
    assert ended == [{requests[0], requests[2]}, {requests[1]}]


@pytest.mark.skipif("sys.platform != 'linux'", reason="reads /proc")
def test_a_prompt_takes_the_memory_of_its_own_tokens_and_gives_it_back(long_model: Any) -> None:
    batch = Batch(long_model, rows=32)
    batch.run(EngineRequest(prompt_of(100), 2))
    before = anonymous(batch.cache)
    batch.add(EngineRequest(prompt_of(4450, 1), 3), EngineRequest(prompt_of(100, 2), 3))
    most = 0
    while not batch.scheduler.idle:
        batch.step()
        most = max(most, anonymous(batch.cache))
    own = 4600 * BYTES_PER_TOKEN
    pages = 4096 * 2 * 2 * 2 * 2  # one that is not full, for each head of keys and values, in two layers and rows
    # Smaps counts neighbouring mappings as one, so what is kept may be counted too.
    assert own / 1.1 <= most - before <= 2 * own + pages
    batch.release()
    assert anonymous(batch.cache) == 0


def test_rows_that_have_ended_take_no_memory(batch: Batch) -> None:
    batch.run(*(EngineRequest(prompt_of(20, seed), 3) for seed in range(9)))
    assert batch.held() == 0, "so short prompts are not kept"
    assert all(slab.unused for slabs in batch.cache._slabs.values() for slab in slabs)


def test_a_request_waits_while_there_is_no_memory_for_it(long_model: Any) -> None:
    batch = Batch(long_model, budget=1024)
    first, second, third = (EngineRequest(prompt_of(length, length), 30) for length in (400, 600, 100))
    batch.add(first, second, third)
    results = batch.run()
    assert results == []
    assert batch.order() == [first, second, third], "no request overtakes one that waits"
    for request in (first, second, third):
        assert batch.tokens[request] == reference(long_model, list(request.prompt), 30)
    assert max(map(len, batch.runner.passes)) < 3


@pytest.mark.slow
def test_what_outgrows_the_memory_waits_and_goes_on(long_model: Any) -> None:
    batch = Batch(long_model, budget=512)
    sampling = SamplingParams(do_sample=True, seed=7, repetition_penalty=1.2)
    requests = [EngineRequest(prompt_of(60, 1), 300), EngineRequest(prompt_of(60, 2), 300, sampling)]
    alone = [Batch(long_model).run(EngineRequest(r.prompt, 300, r.sampling))[0] for r in requests]
    assert batch.run(*requests) == alone
    singles = [sizes for sizes in batch.runner.passes if sizes == [1, 1]]
    assert len(singles) > 100, "they ran together at first"
    assert any(len(outputs) == 1 for outputs in batch.steps), "then one had to wait"


def test_a_request_that_was_interrupted_can_be_cancelled(long_model: Any) -> None:
    batch = Batch(long_model, budget=512)
    first, second = EngineRequest(prompt_of(60, 1), 300), EngineRequest(prompt_of(60, 2), 300)
    batch.add(first, second)
    while len(batch.scheduler._running) != 1:
        batch.step()
    second.cancelled = True
    batch.run()
    assert len(batch.tokens[first]) == 300
    assert 0 < len(batch.tokens[second]) < 300


def test_what_is_kept_makes_room_for_requests(long_model: Any) -> None:
    batch = Batch(long_model, budget=1024)
    batch.run(*(EngineRequest(prompt_of(400, seed), 2) for seed in range(6)))
    assert 0 < batch.scheduler.prefixes.cost <= 1024


# Reading prompts


def test_a_prompt_whose_logprobs_are_needed_is_read_in_small_steps_even_if_it_is_interrupted(long_model: Any) -> None:
    """It reads each of its tokens again then, and reports each once."""
    batch = Batch(long_model)
    first = EngineRequest(prompt_of(100, 1), 20)
    scored = EngineRequest(prompt_of(300, 2), 2, SamplingParams(top_n_tokens=1), prompt_logprobs=True)
    batch.add(first)
    batch.step()
    batch.add(scored)
    batch.step()
    batch.step()
    with torch.inference_mode():  # as if the memory had run out
        interrupted = batch.scheduler._running.pop()
        batch.cache.free(interrupted.row)
    batch.scheduler._waiting.appendleft(interrupted)
    assert 1 < len(interrupted.prompt_logprobs) < 300
    batch.run()
    outputs = [output for outputs in batch.steps for output in outputs if output.request is scored]
    assert isinstance(outputs[0], TokenOutput)
    with torch.no_grad():
        logprobs = long_model(torch.tensor([list(scored.prompt)])).logits[0].log_softmax(-1)
    expected = logprobs[range(299), scored.prompt[1:]].tolist()
    assert [each.logprob for each in outputs[0].prompt[1:]] == pytest.approx(expected, abs=1e-4)
    assert max(size for sizes in batch.runner.passes[1:] for size in sizes) <= MAX_SCORED
    assert batch.tokens[scored] == reference(long_model, list(scored.prompt), 2)
    assert batch.tokens[first] == reference(long_model, list(first.prompt), 20)


def test_prompts_that_wait_together_are_read_together(batch: Batch) -> None:
    batch.run(*(EngineRequest(prompt_of(12, seed), 2) for seed in range(4)))
    assert batch.runner.passes[0] == [12] * 4


def test_a_running_stream_waits_for_a_bounded_number_of_prompt_tokens(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that a step advances by 10 ms and each token by 2 ms."""
    now = 0.0

    def clock() -> float:
        return now

    forward = CountingRunner.forward

    def takes_time(runner: CountingRunner, segments: list[Segment]) -> torch.Tensor:
        nonlocal now
        now += 0.01 + 0.002 * sum(len(segment.tokens) for segment in segments)
        return forward(runner, segments)

    monkeypatch.setattr("hfstream.server.engine.scheduler.perf_counter", clock)
    monkeypatch.setattr(CountingRunner, "forward", takes_time)
    running, long = EngineRequest(prompt_of(8), 150), EngineRequest(prompt_of(4000, 1), 2)
    batch.add(running)
    for _ in range(5):
        batch.step()
    batch.add(long)
    read: list[int] = []
    gaps: list[float] = []
    while not batch.tokens[long]:
        before, passes = now, len(batch.runner.passes)
        outputs = batch.step()
        assert any(output.request is running for output in outputs)
        read.append(sum(map(sum, batch.runner.passes[passes:])) - 1)
        gaps.append(now - before)
    batch.run()
    assert sum(read) == 4000
    assert max(gaps) < 0.2
    assert 55 < sorted(read)[len(read) // 2] < 75, "as many as the time allows"


def test_a_short_prompt_does_not_wait_for_a_long_one(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PrefillBudget, "tokens", lambda *args, **kwargs: 64)
    long, short = EngineRequest(prompt_of(3000), 2), EngineRequest(prompt_of(50, 1), 2)
    batch.run(long, short)
    assert batch.order() == [short, long]
    assert batch.runner.passes[0] == [32, 32]


# Prefixes


def computed_by(batch: Batch, request: EngineRequest) -> int:
    """How many tokens a request costs; its output is that of the model."""
    before = batch.runner.computed
    batch.run(request)
    return batch.runner.computed - before


def test_the_next_turn_of_a_chat_reads_only_what_is_new(batch: Batch, long_model: Any) -> None:
    prompt = prompt_of(1200)
    [answer] = batch.run(EngineRequest(prompt, 20))
    turn = [*prompt, *answer, *prompt_of(10, 1)]
    assert computed_by(batch, request := EngineRequest(turn, 5)) == 10 + 1 + 4, "and the answer's last token"
    assert batch.tokens[request] == reference(long_model, turn, 5)
    assert len(batch.scheduler.prefixes) == 1, "the longer conversation in place of the shorter"


def test_chats_share_a_system_prompt(batch: Batch, long_model: Any) -> None:
    system = prompt_of(300)
    batch.run(EngineRequest([*system, *prompt_of(20, 1)], 3))
    for seed in (2, 3):
        prompt = [*system, *prompt_of(20, seed)]
        assert computed_by(batch, request := EngineRequest(prompt, 3)) == 20 + 2
        assert batch.tokens[request] == reference(long_model, prompt, 3)
    assert len(batch.scheduler.prefixes) == 3


def test_a_running_request_shares_its_prompt_too(batch: Batch, long_model: Any) -> None:
    system = prompt_of(300)
    running, second = EngineRequest([*system, *prompt_of(20, 1)], 60), EngineRequest([*system, *prompt_of(9, 2)], 3)
    batch.add(running)
    while not batch.tokens[running]:
        batch.step()
    passes = len(batch.runner.passes)
    batch.run(second)
    assert batch.runner.passes[passes] == [1, 9]
    assert batch.tokens[second] == reference(long_model, list(second.prompt), 3)
    assert batch.tokens[running] == reference(long_model, list(running.prompt), 60)


@pytest.mark.parametrize("length", [MIN_TOKENS, 200])
def test_the_same_prompt_again_computes_its_last_token(length: int, batch: Batch, long_model: Any) -> None:
    prompt = prompt_of(length + 1)
    batch.run(EngineRequest(prompt, 3))
    assert computed_by(batch, request := EngineRequest(prompt, 3)) == 1 + 2
    assert batch.tokens[request] == reference(long_model, prompt, 3)


@pytest.mark.parametrize("at", [0, MIN_TOKENS - 1, 100, 199])
def test_tokens_after_the_first_difference_are_read(at: int, batch: Batch, long_model: Any) -> None:
    prompt = prompt_of(200)
    batch.run(EngineRequest(prompt, 3))
    other = [*prompt[:at], (prompt[at] + 1) % VOCAB, *prompt[at + 1 :]]
    shared = at if at >= MIN_TOKENS else 0
    assert computed_by(batch, request := EngineRequest(other, 3)) == 200 - shared + 2
    assert batch.tokens[request] == reference(long_model, other, 3)


def test_a_cancelled_request_is_kept_as_far_as_it_came(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PrefillBudget, "tokens", lambda *args, **kwargs: 64)
    request = EngineRequest(prompt_of(600), 5)
    batch.add(request)
    for _ in range(3):
        batch.step()
    request.cancelled = True
    batch.step()
    assert computed_by(batch, EngineRequest(prompt_of(600), 1)) == 600 - 3 * 64


def test_so_many_are_kept(batch: Batch) -> None:
    for seed in range(MAX_ENTRIES + 3):
        batch.run(EngineRequest(prompt_of(40, seed), 1))
    assert len(batch.scheduler.prefixes) == MAX_ENTRIES
    assert computed_by(batch, EngineRequest(prompt_of(40, 2), 1)) == 40, "the oldest are gone"
    assert computed_by(batch, EngineRequest(prompt_of(40, 4), 1)) == 1


def test_a_long_chat_goes_on_in_memory_that_only_it_fits_in(long_model: Any) -> None:
    batch = Batch(long_model, budget=1024)
    prompt = prompt_of(800)
    [answer] = batch.run(EngineRequest(prompt, 20))
    turn = [*prompt, *answer, *prompt_of(60, 1)]
    assert computed_by(batch, EngineRequest(turn, 5)) == 60 + 1 + 4
