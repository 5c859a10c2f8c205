"""The client for async code; `_sync` is generated from this package by scripts/generate_sync.py."""

from .client import AsyncInferenceClient

__all__ = ["AsyncInferenceClient"]
