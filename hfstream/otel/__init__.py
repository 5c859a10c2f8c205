"""OpenTelemetry: a span and metrics for each call of a client, by the semantic conventions for generative AI.

Needs OpenTelemetry's API (``pip install "hfstream[otel]"``); its SDK configures where spans and metrics go.
"""

from .spans import OpenTelemetry

__all__ = ["OpenTelemetry"]

OpenTelemetry.__module__ = "hfstream.otel"  # where users import it from
