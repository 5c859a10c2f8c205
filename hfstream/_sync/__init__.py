"""The plain face: the client, and the stream that is its driver."""

from .client import InferenceClient
from .stream import TokenStream

__all__ = ["InferenceClient", "TokenStream"]
