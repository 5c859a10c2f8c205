"""The attributes of spans and metrics: what OpenTelemetry's semantic conventions for generative AI call things.

The names are those of version 1.41 of the semantic conventions, the last with these conventions in it. Does not depend
on OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from ..core.observers import Call
from ..core.urls import is_huggingface

__all__ = [
    "identity",
    "request_attributes",
    "response_attributes",
    "response_identity",
    "span_name",
    "token_counts",
]

AttributeValue = str | bool | int | float | list[str]

_OPERATIONS = {"text_generation": "text_completion", "chat_completion": "chat"}

_PROVIDERS = {
    "api.anthropic.com": "anthropic",
    "api.cohere.ai": "cohere",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
}
"""Hosts of providers that the conventions name."""

_PARAMETERS: Mapping[str, tuple[type, tuple[str, ...]]] = {
    "gen_ai.request.frequency_penalty": (float, ("frequency_penalty",)),
    "gen_ai.request.max_tokens": (int, ("max_completion_tokens", "max_tokens", "max_new_tokens")),
    "gen_ai.request.presence_penalty": (float, ("presence_penalty",)),
    "gen_ai.request.seed": (int, ("seed",)),
    "gen_ai.request.temperature": (float, ("temperature",)),
    "gen_ai.request.top_k": (int, ("top_k",)),
    "gen_ai.request.top_p": (float, ("top_p",)),
}
"""Type, and the names in OpenAI's and TGI's requests."""

_MAX_INT = 2**63 - 1
"""OpenTelemetry's integers are signed; a seed may be larger."""


def span_name(call: Call) -> str:
    """Operation and model."""
    operation = _OPERATIONS[call.operation]
    return f"{operation} {call.model}" if call.model else operation


def identity(call: Call, provider_name: str | None) -> dict[str, AttributeValue]:
    """What tells calls apart in a metric: operation, provider, model, server."""
    parts = urlsplit(call.url)
    host = parts.hostname or ""
    found: dict[str, AttributeValue] = {
        "gen_ai.operation.name": _OPERATIONS[call.operation],
        "gen_ai.provider.name": provider_name or _provider(call, host),
        "server.address": host,
        "server.port": parts.port or (443 if parts.scheme == "https" else 80),
    }
    if call.model:
        found["gen_ai.request.model"] = call.model
    return found


def _provider(call: Call, host: str) -> str:
    if host.endswith(".openai.azure.com"):
        return "azure.ai.openai"
    if is_huggingface(call.url):
        return "huggingface"
    by_api = "tgi" if _is_tgi(call) else "openai"
    return _PROVIDERS.get(host, by_api)


def _is_tgi(call: Call) -> bool:
    """Whether the request is of TGI's own API, where each event of a stream is a token."""
    return call.operation == "text_generation" and not urlsplit(call.url).path.endswith("/v1/completions")


def request_attributes(call: Call) -> dict[str, AttributeValue]:
    """The parameters of a request."""
    body = call.body
    params: Mapping[str, Any] = {**body, **_mapping(body.get("parameters"))}
    found: dict[str, AttributeValue] = {}
    for attribute, (kind, names) in _PARAMETERS.items():
        for name in names:
            value = params.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MAX_INT:
                found.setdefault(attribute, kind(value))
    stop = params.get("stop")
    if stop:
        stops = cast("list[Any]", stop) if isinstance(stop, list) else [stop]
        found["gen_ai.request.stop_sequences"] = [str(each) for each in stops]
    if call.streamed:
        found["gen_ai.request.stream"] = True
    count = params.get("n")
    if isinstance(count, int) and count != 1:
        found["gen_ai.request.choice.count"] = count
    constraint = _mapping(params.get("response_format") or params.get("grammar"))
    if str(constraint.get("type", "")).startswith("json"):
        found["gen_ai.output.type"] = "json"
    return found


def response_identity(call: Call) -> dict[str, AttributeValue]:
    """The model that a server says to be; nothing at TGI's API."""
    model = call.metadata.get("model")
    return {"gen_ai.response.model": str(model)} if model else {}


def response_attributes(call: Call) -> dict[str, AttributeValue]:
    """What has come of a response, complete or not."""
    found = response_identity(call)
    if response_id := call.metadata.get("id"):
        found["gen_ai.response.id"] = str(response_id)
    if call.finish_reasons:
        found["gen_ai.response.finish_reasons"] = [str(reason) for reason in call.finish_reasons]
    found |= {f"gen_ai.usage.{token_type}_tokens": count for token_type, count in token_counts(call).items()}
    found["hfstream.attempts"] = len(call.attempts)
    if call.metrics.resumed:
        found["hfstream.resumed"] = call.metrics.resumed
    if not call.complete:
        found["hfstream.incomplete"] = True
    return found


def token_counts(call: Call) -> dict[str, int]:
    """Tokens by `gen_ai.token.type`, as the server counts them; a token of TGI's streams is an event."""
    usage = call.usage
    if usage is not None:
        counts = {"input": usage.prompt_tokens, "output": usage.completion_tokens}
        return {token_type: count for token_type, count in counts.items() if count}
    if call.streamed and call.metrics.tokens and _is_tgi(call):
        return {"output": call.metrics.tokens}
    return {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
