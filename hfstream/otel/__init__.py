"""OpenTelemetry: a span and metrics for each call of a client, by the semantic conventions for generative AI.

Needs OpenTelemetry's API (``pip install "hfstream[otel]"``); its SDK configures where spans and metrics go.
"""

try:
    from .spans import OpenTelemetry
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("opentelemetry"):
        raise
    raise ModuleNotFoundError(
        "hfstream.otel needs OpenTelemetry's API: pip install 'hfstream[otel]'", name=error.name
    ) from error

__all__ = ["OpenTelemetry"]

OpenTelemetry.__module__ = "hfstream.otel"  # where users import it from
