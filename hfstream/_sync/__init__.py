"""The client for plain code; This package is generated from `_async` by scripts/generate_sync.py."""

from .client import InferenceClient
from .map import MapResults
from .stream import TokenStream

__all__ = ["InferenceClient", "MapResults", "TokenStream"]
