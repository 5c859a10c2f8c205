"""The client for plain code; This package is generated from `_async` by scripts/generate_sync.py."""

from .client import InferenceClient

__all__ = ["InferenceClient"]
