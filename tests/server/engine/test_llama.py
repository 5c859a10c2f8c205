"""The Llama family's own forward pass: which models it computes, and that its logits are transformers'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hfstream.server.engine import llama
from hfstream.server.engine.llama import LlamaForward, is_supported
from hfstream.server.engine.model_runner import ModelRunner
from hfstream.server.engine.protocol import EngineRequest
from hfstream.server.engine.transformers_forward import TransformersForward
from tests.helpers.tiny_models import CONFIGS, RunningEngine, make_model, prompt_of, reference, save_model

FAMILY = {"llama", "mistral", "qwen2"}
SCALED: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def forward_of(runner: ModelRunner) -> object:
    return runner._compute


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_the_family(architecture: str) -> None:
    assert is_supported(make_model(architecture)) == (architecture in FAMILY)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}},
    ],
    ids=["activation", "rope"],
)
def test_what_is_computed_in_another_way_is_left_to_transformers(changes: dict[str, Any]) -> None:
    assert not is_supported(make_model(**changes))


def test_layers_that_were_replaced_are_left_to_transformers() -> None:
    class Other(torch.nn.Linear):
        pass

    model = make_model()
    model.model.layers[1].mlp.up_proj = Other(32, 64)
    assert not is_supported(model)


@pytest.mark.parametrize("large", [llama.LARGE, 0], ids=["small", "large"])
@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("llama", {}),
        ("llama", {"rope_parameters": SCALED}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
        ("llama", {"head_dim": 16, "num_key_value_heads": 4}),
        ("mistral", {}),
        ("qwen2", {}),
    ],
    ids=["llama", "llama3-rope", "biases", "head-dim", "mistral", "qwen2"],
)
def test_its_tokens_are_those_of_generate(
    architecture: str,
    changes: dict[str, Any],
    large: int,
    tmp_path: Path,
    runners: list[ModelRunner],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(llama, "LARGE", large)
    model = make_model(architecture, **changes)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # they are 0 at first
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(len(name)))
    model.save_pretrained(tmp_path)
    requests = [EngineRequest(prompt_of(length, length), 12) for length in (3, 40, 300)]
    with RunningEngine(tmp_path) as engine:
        assert isinstance(forward_of(runners[-1]), LlamaForward)
        engine.submit(*requests)
        tokens = [engine.tokens(request) for request in requests]
    assert tokens == [reference(model, list(request.prompt), 12) for request in requests]


def test_transformers_forward_takes_over_if_the_logits_differ(
    tmp_path: Path, runners: list[ModelRunner], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compute = LlamaForward.__call__
    monkeypatch.setattr(LlamaForward, "__call__", lambda *args: compute(*args) * 1.01)
    with RunningEngine(save_model(tmp_path)) as engine:
        assert isinstance(forward_of(runners[-1]), TransformersForward)
        assert engine.generate(EngineRequest(prompt_of(9), 12)) == reference(make_model(), prompt_of(9), 12)
    assert "LlamaForward is not used: in the start-up self-check" in caplog.text
