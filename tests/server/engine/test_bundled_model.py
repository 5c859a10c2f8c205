"""The bundled model, which is loaded without transformers: it is what transformers loads from the same files."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from hfstream.server.engine.bundled_model import load_bundled
from hfstream.server.engine.kv_cache import KVCache
from hfstream.server.engine.llama import LlamaForward
from hfstream.server.engine.loaded_model import LoadedModel
from hfstream.server.engine.loader import load
from hfstream.server.engine.model_runner import ModelRunner
from hfstream.server.engine.self_check import find_deviation
from hfstream.server.engine.transformers_model import load_with_transformers
from hfstream.server.model_files import BUNDLED


@pytest.fixture(scope="module")
def ours() -> LoadedModel:
    return load_bundled(BUNDLED, None)


@pytest.fixture(scope="module")
def theirs() -> LoadedModel:
    return load_with_transformers(BUNDLED, dtype=torch.float32, device="cpu", max_total_tokens=None)


def test_it_is_what_transformers_loads(ours: LoadedModel, theirs: LoadedModel) -> None:
    for field in ("architecture", "parameters", "vocab_size", "eos_ids", "context", "dtype", "device", "shapes"):
        assert getattr(ours, field) == getattr(theirs, field), field
    [forward], expected = list(ours.forwards), next(iter(theirs.forwards))
    assert isinstance(forward, LlamaForward)
    assert isinstance(expected, LlamaForward)
    for name, value in vars(expected).items():
        torch.testing.assert_close(vars(forward)[name], value, rtol=0, atol=0, msg=name)


def test_its_logits_are_those_of_generate(ours: LoadedModel, theirs: LoadedModel) -> None:
    assert theirs.reference is not None
    cache = KVCache(ours.shapes, dtype=ours.dtype, device=ours.device, max_rows=2, max_tokens=256, budget_tokens=512)
    runner = ModelRunner(next(iter(ours.forwards)), cache, dtype=ours.dtype, device=ours.device)
    assert find_deviation(runner, theirs.reference) is None


@pytest.mark.parametrize("context", [7, 2049])
def test_a_context_out_of_range_is_an_error(context: int) -> None:
    with pytest.raises(ValueError, match="between 8 and 2048"):
        load_bundled(BUNDLED, context)


def test_in_half_precision_transformers_loads_it() -> None:
    runner, info = load(
        BUNDLED, max_rows=1, dtype="bfloat16", device="cpu", max_total_tokens=None, kv_cache_memory=None
    )
    assert (info.dtype, info.max_total_tokens) == ("bfloat16", 2048)
    assert isinstance(runner._compute, LlamaForward)


@pytest.mark.slow
def test_transformers_is_not_imported() -> None:
    code = """
import sys
from hfstream.server.engine import child, guided, scheduler
from hfstream.server.engine.loader import load
from hfstream.server.model_files import BUNDLED
load(BUNDLED, max_rows=1, dtype="float32", device="cpu", max_total_tokens=None, kv_cache_memory=None)
print("transformers" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
