"""The asynchronous face: the client, and the stream that is its driver."""

from .client import AsyncInferenceClient
from .stream import AsyncTokenStream

__all__ = ["AsyncInferenceClient", "AsyncTokenStream"]
