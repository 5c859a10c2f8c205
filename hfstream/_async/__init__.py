"""The client for async code; `_sync` is generated from this package by scripts/generate_sync.py."""

from .client import AsyncInferenceClient
from .map import AsyncMapResults
from .stream import AsyncTokenStream

__all__ = ["AsyncInferenceClient", "AsyncMapResults", "AsyncTokenStream"]
