"""Observers of a client's calls: each attempt, the first token, the end. For logs, metrics and traces of your own.

`hfstream.otel` is one, for OpenTelemetry.
"""

from .core.observers import Call, CallObserver

__all__ = ["Call", "CallObserver"]
