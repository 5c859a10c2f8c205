"""Continuous batching: what is generated, when requests end, which ones an error affects, in which order they run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hfstream.server.engine.attention import Segment
from hfstream.server.engine.model_runner import ModelRunner
from hfstream.server.engine.prefill_budget import PrefillBudget
from hfstream.server.engine.protocol import EngineRequest, Output, SamplingParams
from tests.helpers.tiny_models import CONTEXT, ROWS, RunningEngine, is_clean, prompt_of, reference, save_model

GREEDY = SamplingParams()
SAMPLED = SamplingParams(do_sample=True, temperature=0.8, top_k=30, top_p=0.95)


def make_request(length: int = 8, tokens: int = 10, sampling: SamplingParams = GREEDY, seed: int = 0) -> EngineRequest:
    return EngineRequest(prompt_of(length, seed), tokens, sampling)


# What is generated


@pytest.mark.parametrize("penalty", [0.7, 1.3])
def test_a_repetition_penalty_gives_the_tokens_of_generate(penalty: float, engine: RunningEngine, model: Any) -> None:
    requests = [make_request(3 * i + 1, 30, SamplingParams(repetition_penalty=penalty), seed=i) for i in range(6)]
    engine.submit(*requests)
    for i, request in enumerate(requests):
        assert engine.tokens(request) == reference(model, prompt_of(3 * i + 1, i), 30, repetition_penalty=penalty)


def test_a_seed_gives_the_same_tokens_alone_and_among_other_requests(engine: RunningEngine) -> None:
    # Another batch size moves logits by 1e-5. No draw is as close as that: with these seeds, the best two tokens of
    # each draw are at least 8e-4 apart, whatever kernels the processor has.
    params = [
        replace(SAMPLED, seed=2**64 - 1),
        replace(SAMPLED, seed=7, repetition_penalty=1.2, frequency_penalty=0.5),
        replace(SAMPLED, seed=8, top_k=None),
        replace(SAMPLED, seed=9, top_p=None, top_n_tokens=3),
    ]
    alone = [engine.generate(make_request(10, 60, sampling)) for sampling in params]
    watched = [make_request(10, 60, sampling) for sampling in params]
    others = [
        make_request(1 + i % 40, 1 + i % 7, replace(SAMPLED, seed=i) if i % 3 else SamplingParams(), seed=i)
        for i in range(120)
    ]
    for i, request in enumerate(watched):
        engine.submit(*others[30 * i : 30 * i + 15], request, *others[30 * i + 15 : 30 * i + 30])
    assert [engine.tokens(request) for request in watched] == alone
    assert len(set(map(tuple, alone))) == len(alone)
    engine.wait_until(lambda: engine.running == 0)


def test_logprobs_are_those_of_the_model(engine: RunningEngine, model: Any) -> None:
    request = make_request(8, 5, SamplingParams(top_n_tokens=2))
    tokens = engine.generate(request)
    with torch.no_grad():
        logprobs = model(torch.tensor([list(request.prompt) + tokens])).logits[0, 7:-1].log_softmax(-1)
    for output, expected in zip(engine.token_outputs(request), logprobs, strict=True):
        assert output.logprob == pytest.approx(expected[output.token].item(), abs=1e-4)
        assert [token for token, _ in output.top] == expected.topk(2).indices.tolist()
        assert output.top[0] == (output.token, output.logprob)


@pytest.mark.parametrize("length", [1, 40, CONTEXT - 1])
def test_the_logprobs_of_a_prompt_are_those_of_the_model(length: int, engine: RunningEngine, model: Any) -> None:
    """Whether an earlier request has read the same prompt, in one step or several, alone or among others."""
    plain = make_request(length, 2)
    expected = engine.generate(plain)
    sampling = SamplingParams(temperature=5.0, repetition_penalty=2.0, top_n_tokens=2)
    scored = [EngineRequest(plain.prompt, 2, params, prompt_logprobs=True) for params in (GREEDY, sampling)]
    engine.submit(make_request(30, 20, seed=1), *scored, make_request(50, 20, seed=2))
    with torch.no_grad():
        logprobs = model(torch.tensor([list(plain.prompt)])).logits[0].log_softmax(-1)
    assert engine.tokens(scored[0]) == expected
    for request, tops in zip(scored, (0, 2), strict=True):
        first, *rest = engine.token_outputs(request)
        assert not any(output.prompt for output in rest)
        assert first.prompt[0] == (None, ())
        found = [each.logprob for each in first.prompt[1:]]
        assert found == pytest.approx(
            [row[token].item() for row, token in zip(logprobs, plain.prompt[1:], strict=False)], abs=1e-4
        )
        assert [len(each.top) for each in first.prompt[1:]] == [tops] * (length - 1)
        best = [each.top[0][0] for each in first.prompt[1:] if each.top]
        assert best == logprobs.argmax(-1)[: len(best)].tolist()
    assert engine.token_outputs(plain)[0].prompt == ()


# When requests end


def test_a_request_ends_with_max_new_tokens(engine: RunningEngine) -> None:
    short, long = make_request(tokens=1), make_request(tokens=10)
    engine.submit(short, long)
    assert [len(engine.tokens(short)), len(engine.tokens(long))] == [1, 10]
    assert [output.last for output in engine.token_outputs(long)] == [False] * 9 + [True]


def test_a_request_ends_with_the_context(engine: RunningEngine, model: Any) -> None:
    full, nearly = make_request(CONTEXT, 50), make_request(CONTEXT - 3, 50)
    engine.submit(full, nearly)
    assert engine.tokens(full) == reference(model, prompt_of(CONTEXT), 1)
    assert len(engine.tokens(nearly)) == 4


def test_a_request_ends_with_an_eos_token(tmp_path: Path, model: Any) -> None:
    tokens = reference(model, prompt_of(8), 20)
    with RunningEngine(save_model(tmp_path, eos_token_id=[63, tokens[6]])) as engine:
        assert engine.generate(make_request(tokens=20)) == tokens[: tokens.index(tokens[6]) + 1]


# Which requests an error affects


@pytest.mark.parametrize("prompt", [[], prompt_of(CONTEXT + 1), [3, 64], [-1]])
@pytest.mark.slow
def test_an_invalid_prompt_fails_alone(prompt: list[int], engine: RunningEngine, model: Any) -> None:
    before, wrong, after = make_request(seed=1), EngineRequest(prompt, 5, SamplingParams()), make_request(seed=2)
    engine.submit(before, wrong, after)
    assert isinstance(engine.error(wrong), ValueError)
    assert engine.tokens(before) == reference(model, prompt_of(8, 1), 10)
    assert engine.tokens(after) == reference(model, prompt_of(8, 2), 10)


ERRORS = [RuntimeError("boom"), torch.OutOfMemoryError("CUDA out of memory"), MemoryError()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("read", [0, 100])
def test_an_error_in_a_prompt_fails_only_that_request(
    read: int, error: Exception, engine: RunningEngine, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`read`: how much of the prompt is read without an error."""
    forward = ModelRunner.forward

    def fails(runner: ModelRunner, segments: list[Segment]) -> torch.Tensor:
        if any(set(segment.tokens) == {63} and segment.end > read for segment in segments):
            raise error
        return forward(runner, segments)

    monkeypatch.setattr(ModelRunner, "forward", fails)
    before, wrong, after = make_request(tokens=30, seed=1), EngineRequest(600 * [63], 10), make_request(seed=2)
    engine.submit(before, wrong, after)
    assert engine.error(wrong) is error
    assert engine.tokens(before) == reference(model, prompt_of(8, 1), 30)
    assert engine.tokens(after) == reference(model, prompt_of(8, 2), 10)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_in_a_step_fails_only_the_requests_in_it(
    error: Exception, checkpoint: Path, model: Any, monkeypatch: pytest.MonkeyPatch, runners: list[ModelRunner]
) -> None:
    with RunningEngine(checkpoint, max_batch_size=ROWS) as engine:
        forward, steps = ModelRunner.forward, iter(range(99))

        def fails(runner: ModelRunner, segments: list[Segment]) -> torch.Tensor:
            if [len(segment.tokens) for segment in segments] == [1] * ROWS and next(steps) == 3:
                raise error
            return forward(runner, segments)

        monkeypatch.setattr(ModelRunner, "forward", fails)
        requests = [make_request(tokens=20, seed=i) for i in range(ROWS + 2)]
        engine.submit(*requests)
        for request in requests[:ROWS]:
            assert engine.error(request) is error
            assert error.__traceback__ is None, "a traceback would keep the step's tensors alive"
        for i in (ROWS, ROWS + 1):
            assert engine.tokens(requests[i]) == reference(model, prompt_of(8, i), 20)
        assert is_clean(runners[0])


def test_what_is_not_a_number_in_one_row_reaches_no_other_and_no_later_request(
    engine: RunningEngine, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = ModelRunner.forward

    def spoils(runner: ModelRunner, segments: list[Segment]) -> torch.Tensor:
        logits = forward(runner, segments)
        for i, segment in enumerate(segments):
            if segment.row.length == 202:
                for values in segment.row.slab.values:
                    values[segment.row.index, :, :202] = torch.nan
                logits[i] = torch.nan
        return logits

    monkeypatch.setattr(ModelRunner, "forward", spoils)
    wrong, beside = make_request(200, 4, SamplingParams(top_n_tokens=2)), make_request(150, 40, seed=1)
    engine.submit(wrong, beside)
    assert [(output.logprob, output.top) for output in engine.token_outputs(wrong)][-1] == (None, ())
    late = make_request(250, 5, seed=2)
    engine.submit(late)
    assert engine.tokens(late) == reference(model, prompt_of(250, 2), 5)
    assert engine.tokens(beside) == reference(model, prompt_of(150, 1), 40)
    monkeypatch.undo()
    same = make_request(200, 4)
    assert engine.generate(same) == reference(model, prompt_of(200), 4)


def test_an_error_in_sampling_fails_only_the_requests_in_that_step(engine: RunningEngine, model: Any) -> None:
    wrong = make_request(sampling=SamplingParams(do_sample=True, seed=1, temperature="hot"))  # type: ignore[arg-type]
    engine.submit(wrong)
    assert isinstance(engine.error(wrong), (TypeError, ValueError))
    assert engine.generate(make_request()) == reference(model, prompt_of(8), 10)


# Order


def test_a_step_delivers_one_token_for_every_running_request(engine: RunningEngine) -> None:
    requests = [make_request(tokens=12, seed=i) for i in range(ROWS)]
    engine.submit(*requests)
    for request in requests:
        engine.tokens(request)
    assert all(len({output.request for output in outputs}) == len(outputs) for outputs in engine.deliveries)
    assert ROWS in map(len, engine.deliveries)


def test_first_come_first_served(engine: RunningEngine) -> None:
    requests = [make_request(tokens=5, seed=i) for i in range(3 * ROWS)]
    engine.submit(*requests)
    for request in requests:
        engine.tokens(request)
    firsts = dict.fromkeys(output.request for outputs in engine.deliveries for output in outputs)
    assert list(firsts) == requests


# Cancelling


def test_the_row_of_a_cancelled_request_is_free_after_the_step(checkpoint: Path, model: Any) -> None:
    cancelled, other, queued = (make_request(tokens=tokens, seed=i) for i, tokens in enumerate((99, 30, 5), 1))

    def on_delivery(outputs: list[Output]) -> None:
        if len(engine.deliveries) == 3:
            engine.cancel(cancelled)
            engine.cancel(cancelled)

    with RunningEngine(checkpoint, max_batch_size=2, on_delivery=on_delivery) as engine:
        engine.submit(cancelled, other, queued)
        assert engine.tokens(other) == reference(model, prompt_of(8, 2), 30)
        assert engine.tokens(queued) == reference(model, prompt_of(8, 3), 5)
        assert engine.deliveries_of(cancelled) == [0, 1, 2, 3]
        assert engine.deliveries_of(queued) == [4, 5, 6, 7, 8]
        assert engine.running == 0


def test_what_is_cancelled_while_queued_or_in_prefill_is_not_generated(
    checkpoint: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrefillBudget, "tokens", lambda *args, **kwargs: 64)
    running, prefilling = make_request(tokens=12), make_request(600, 5)
    queued, next_one = make_request(tokens=5, seed=1), make_request(tokens=5, seed=2)

    def on_delivery(outputs: list[Output]) -> None:
        if len(engine.deliveries) == 0:
            engine.submit(prefilling, queued, next_one)
        if len(engine.deliveries) == 2:
            engine.cancel(prefilling)
            engine.cancel(queued)

    with RunningEngine(checkpoint, max_batch_size=2, on_delivery=on_delivery) as engine:
        assert engine.generate(running) == reference(model, prompt_of(8), 12)
        assert engine.tokens(next_one) == reference(model, prompt_of(8, 2), 5)
        assert not engine.deliveries_of(prefilling)
        assert not engine.deliveries_of(queued)
        assert engine.deliveries_of(next_one)[0] == 3
        engine.wait_until(lambda: engine.running == 0)
