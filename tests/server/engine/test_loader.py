"""Which checkpoints are loaded, with what properties, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils import logging

from hfstream.server.engine.loader import load
from hfstream.server.engine.model_runner import ModelRunner
from hfstream.server.engine.protocol import EngineRequest, SamplingParams, UnsupportedModelError
from tests.helpers.tiny_models import CONTEXT, RunningEngine, make_model, prompt_of, reference, save_model


def test_the_properties_of_the_loaded_model(tmp_path: Path) -> None:
    with RunningEngine(save_model(tmp_path, eos_token_id=[3, 4])) as engine:
        info = engine.info
    assert info is not None
    assert (info.architecture, info.max_total_tokens, sorted(info.eos_ids)) == ("llama", CONTEXT, [3, 4])
    assert (info.vocab_size, info.dtype, info.device) == (64, "float32", "cpu")
    assert info.parameters == make_model().num_parameters()


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
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
def test_a_model_that_would_generate_wrong_tokens_is_refused(
    architecture: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save_model(tmp_path, architecture, **changes)
    with pytest.raises(UnsupportedModelError, match=message), RunningEngine(tmp_path):
        pass


def test_a_model_whose_logits_differ_from_those_of_generate_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = ModelRunner.forward
    monkeypatch.setattr(ModelRunner, "forward", lambda runner, segments: forward(runner, segments) * 1.01)
    save_model(tmp_path)
    with (
        pytest.raises(UnsupportedModelError, match="in the start-up self-check its logits differ"),
        RunningEngine(tmp_path),
    ):
        pass


@pytest.mark.parametrize("context", [8, 9, 20])
def test_the_smallest_contexts_and_batches_pass_the_self_check(context: int, tmp_path: Path) -> None:
    with RunningEngine(save_model(tmp_path), max_total_tokens=context, max_batch_size=1) as engine:
        assert engine.info is not None
        assert engine.info.max_total_tokens == context


def test_a_sliding_window_longer_than_the_context_is_accepted(tmp_path: Path) -> None:
    model = make_model("mistral", sliding_window=48)
    with RunningEngine(save_model(tmp_path, "mistral", sliding_window=48), max_total_tokens=48) as engine:
        assert engine.generate(EngineRequest(prompt_of(30), max_new_tokens=18)) == reference(model, prompt_of(30), 18)


@pytest.mark.parametrize("context", [7, CONTEXT + 1])
def test_a_context_out_of_range_is_an_error(context: int, tmp_path: Path) -> None:
    save_model(tmp_path)
    with pytest.raises(ValueError, match=f"between 8 and {CONTEXT}"), RunningEngine(tmp_path, max_total_tokens=context):
        pass


# A token's keys and values: 2 layers, each with keys and values of 2 heads of 8 float32.
BYTES_PER_TOKEN = 2 * 2 * 2 * 8 * 4


def test_memory_for_less_than_a_context_makes_the_context_shorter(checkpoint: Path) -> None:
    with RunningEngine(checkpoint, kv_cache_memory=200 * BYTES_PER_TOKEN) as engine:
        assert engine.info is not None
        assert (engine.info.max_total_tokens, engine.info.cache_tokens) == (192, 192), "whole pieces of 64 tokens"


def test_the_memory_that_is_asked_for_is_the_budget(checkpoint: Path) -> None:
    with RunningEngine(checkpoint, kv_cache_memory=6400 * BYTES_PER_TOKEN) as engine:
        assert engine.info is not None
        assert (engine.info.max_total_tokens, engine.info.cache_tokens) == (CONTEXT, 6400)


def test_memory_for_hardly_a_token_is_an_error(checkpoint: Path) -> None:
    with (
        pytest.raises(ValueError, match="kv_cache_memory must be at least 16,384 bytes with this model, not 1,000"),
        RunningEngine(checkpoint, kv_cache_memory=1000),
    ):
        pass


def test_a_checkpoint_that_needs_code_of_its_own_is_refused(tmp_path: Path) -> None:
    code = {"model_type": "unknown-model", "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.M"}}
    (tmp_path / "config.json").write_text(json.dumps(code))
    (tmp_path / "code.py").write_text("raise SystemExit('this must not run')")
    with pytest.raises(UnsupportedModelError, match="runs no code that comes with"), RunningEngine(tmp_path):
        pass


def test_code_that_is_not_needed_is_not_run(tmp_path: Path) -> None:
    path = save_model(tmp_path)
    config = json.loads((path / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    (path / "config.json").write_text(json.dumps(config))
    (path / "code.py").write_text("raise SystemExit('this must not run')")
    with RunningEngine(path) as engine:
        assert engine.info is not None
        assert engine.info.architecture == "llama"


def test_an_unknown_dtype_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="dtype must be one of float32"),
        RunningEngine(save_model(tmp_path), dtype="int8"),
    ):
        pass


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_a_half_precision_checkpoint_runs_in_single_precision(stored: torch.dtype, tmp_path: Path) -> None:
    rounded = make_model().to(stored).float()
    with RunningEngine(save_model(tmp_path, dtype=stored)) as engine:
        assert engine.info is not None
        assert engine.info.dtype == "float32"
        assert engine.generate(EngineRequest(prompt_of(9), max_new_tokens=12)) == reference(rounded, prompt_of(9), 12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_passes_the_self_check_and_generates(dtype: str, tmp_path: Path) -> None:
    with RunningEngine(save_model(tmp_path), dtype=dtype) as engine:
        sampling = SamplingParams(do_sample=True, seed=1, repetition_penalty=1.2, top_p=0.9, top_n_tokens=2)
        assert len(engine.generate(EngineRequest(prompt_of(9), 12, sampling))) == 12


def test_loading_shows_no_progress_bar(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shown = logging.is_progress_bar_enabled()
    load(checkpoint, max_rows=1, dtype="float32", device="cpu", max_total_tokens=None, kv_cache_memory=None)
    assert capfd.readouterr().err == ""
    assert logging.is_progress_bar_enabled() == shown
