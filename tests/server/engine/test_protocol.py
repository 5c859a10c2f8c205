"""The engine's interface: importing it is cheap, and requests are compared by identity."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hfstream.server.engine.protocol import EngineRequest, SamplingParams


@pytest.mark.slow
def test_importing_the_engine_imports_no_torch() -> None:
    code = (
        "import sys, hfstream.server.engine.engine, hfstream.server.engine.protocol as p; p.SamplingParams(seed=1); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_any_penalty_needs_the_tokens_so_far() -> None:
    assert not SamplingParams(do_sample=True, seed=1, top_k=3).has_penalties
    assert SamplingParams(repetition_penalty=0.5).has_penalties
    assert SamplingParams(frequency_penalty=0.5).has_penalties
    assert SamplingParams(presence_penalty=0.5).has_penalties


def test_requests_are_compared_by_identity() -> None:
    first, second = EngineRequest([1], 5), EngineRequest([1], 5)
    assert first == first
    assert first != second
    assert len({first, second}) == 2
