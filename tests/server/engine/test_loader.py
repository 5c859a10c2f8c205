"""Greedy answers are those of transformers' `generate()` in every architecture served; the others are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hfstream.server.engine.model_runner import ModelRunner
from hfstream.server.engine.protocol import EngineRequest, SamplingParams, UnsupportedModelError
from tests.helpers.tiny_models import CONFIGS, CONTEXT, Running, make_model, prompt_of, reference, save_model

LENGTHS = (5, 1, 30, 300, 12, 7, 2)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_mixed_requests_through_fewer_rows_say_what_generate_says(architecture: str, tmp_path: Path) -> None:
    model = make_model(architecture)
    jobs = [
        EngineRequest(prompt_of(length, seed=i), max_new_tokens=3 + 4 * (i % 3)) for i, length in enumerate(LENGTHS)
    ]
    with Running(save_model(tmp_path, architecture), max_batch_size=3) as running:
        running.submit(*jobs)
        answers = [running.tokens(job) for job in jobs]
    assert answers == [reference(model, list(job.prompt), job.max_new_tokens) for job in jobs]
    assert len({token for answer in answers for token in answer}) > 5, "always the same token would prove nothing"


@pytest.mark.parametrize(
    ("architecture", "changes", "complaint"),
    [
        ("gemma2", {"num_key_value_heads": 2, "intermediate_size": 64, "head_dim": 8}, "type sliding_attention"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}, "sliding_attention"),
        ("mistral", {"sliding_window": 16}, "slides over 16 tokens, not all"),
        ("falcon", {"alibi": True}, "ALiBi"),
        ("bloom", {"n_layer": 2, "n_head": 4}, "does not support an attention implementation"),
        ("bart", {"d_model": 32, "decoder_layers": 1, "decoder_attention_heads": 4}, "takes no position_ids"),
        (
            "phi3",
            {
                "original_max_position_embeddings": 32,
                "rope_parameters": {
                    "rope_type": "longrope",
                    "rope_theta": 10000.0,
                    "original_max_position_embeddings": 32,
                    "short_factor": [1.0] * 4,
                    "long_factor": [2.0] * 4,
                },
            },
            "longrope changes all rows once one is longer than 32",
        ),
    ],
)
def test_what_would_come_out_wrong_is_refused(
    architecture: str, changes: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    save_model(tmp_path, architecture, **changes)
    with pytest.raises(UnsupportedModelError, match=complaint), Running(tmp_path):
        pass


def test_a_window_longer_than_the_context_is_none(tmp_path: Path) -> None:
    model = make_model("mistral", sliding_window=48)
    with Running(save_model(tmp_path, "mistral", sliding_window=48), max_total_tokens=48) as running:
        assert running.answer(EngineRequest(prompt_of(30), max_new_tokens=18)) == reference(model, prompt_of(30), 18)


@pytest.mark.parametrize("context", [7, CONTEXT + 1])
def test_a_context_that_the_model_has_not_is_refused(context: int, tmp_path: Path) -> None:
    save_model(tmp_path)
    with pytest.raises(ValueError, match=f"between 8 and {CONTEXT}"), Running(tmp_path, max_total_tokens=context):
        pass


@pytest.mark.parametrize("context", [8, 9, 20])
def test_the_smallest_contexts_and_batches_pass_the_self_check(context: int, tmp_path: Path) -> None:
    with Running(save_model(tmp_path), max_total_tokens=context, max_batch_size=1) as running:
        assert running.facts is not None
        assert running.facts.max_total_tokens == context


def test_a_model_that_disagrees_with_generate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = ModelRunner.decode
    monkeypatch.setattr(ModelRunner, "decode", lambda rows, tokens: decode(rows, tokens) * 1.01)
    save_model(tmp_path)
    with pytest.raises(UnsupportedModelError, match="in the start-up self-check its logits differ"), Running(tmp_path):
        pass


def test_a_dtype_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dtype must be one of float32"), Running(save_model(tmp_path), dtype="int8"):
        pass


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_a_half_precision_checkpoint_runs_in_single(stored: torch.dtype, tmp_path: Path) -> None:
    rounded = make_model().to(stored).float()
    with Running(save_model(tmp_path, dtype=stored)) as running:
        assert running.facts is not None
        assert running.facts.dtype == "float32"
        assert running.answer(EngineRequest(prompt_of(9), max_new_tokens=12)) == reference(rounded, prompt_of(9), 12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_passes_its_self_check_and_speaks(dtype: str, tmp_path: Path) -> None:
    with Running(save_model(tmp_path), dtype=dtype) as running:
        sampling = SamplingParams(do_sample=True, seed=1, repetition_penalty=1.2, top_p=0.9, top_n_tokens=2)
        assert len(running.answer(EngineRequest(prompt_of(9), 12, sampling))) == 12


def test_what_was_loaded_is_told(tmp_path: Path) -> None:
    with Running(save_model(tmp_path, eos_token_id=[3, 4])) as running:
        facts = running.facts
    assert facts is not None
    assert (facts.architecture, facts.max_total_tokens, sorted(facts.eos_ids)) == ("llama", CONTEXT, [3, 4])
    assert (facts.vocab_size, facts.dtype, facts.device) == (64, "float32", "cpu")
    assert facts.parameters == make_model().num_parameters()
