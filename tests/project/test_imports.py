"""``import hfstream`` loads the client and what it needs: no server, no models, no test kit."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.helpers.modules import ROOT, within

NOT_LOADED = (
    "torch", "transformers", "tokenizers", "safetensors", "numpy", "starlette", "uvicorn", "jinja2",
    "huggingface_hub", "openai", "opentelemetry", "pytest", "ray",
    "hfstream.server", "hfstream.testing", "hfstream.cli",
)  # fmt: skip


def loaded_by(module: str) -> list[str]:
    """What a fresh interpreter has loaded after importing `module`."""
    code = f"import json, sys; import {module}; print(json.dumps(list(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    loaded: list[str] = json.loads(process.stdout)
    assert module in loaded
    return loaded


@pytest.mark.slow
def test_a_client_is_made_without_what_only_a_call_needs() -> None:
    code = """
import sys
from hfstream import AsyncInferenceClient, InferenceClient, RetryPolicy, Timeouts

InferenceClient("http://x", timeout=Timeouts(connect=1))
AsyncInferenceClient("http://x", retry=RetryPolicy(attempts=2))
print([name for name in ("httpx", "httpcore", "pydantic", "hfstream._request_factory") if name in sys.modules])
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    assert process.stdout == "[]\n"


@pytest.mark.slow
def test_the_import_is_light() -> None:
    found = [
        f"{module} loads {name}"
        for module in ("hfstream", "hfstream.sse", "hfstream.retry")
        for name in loaded_by(module)
        if within(name, *NOT_LOADED)
    ]
    assert found == []
