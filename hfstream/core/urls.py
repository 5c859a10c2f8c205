"""Where a call goes: from a model (a URL, or an id on the Hugging Face hub) to the URL of a route.

Routes are known by the end of the path; whatever stands before it, and the query, is kept. It refuses to know bodies.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

__all__ = [
    "HF_ROUTER_URL",
    "Endpoint",
    "chat_completion_url",
    "is_huggingface",
    "is_url",
    "origin",
    "service_url",
    "text_generation_endpoint",
]

HF_ROUTER_URL = "https://router.huggingface.co"
"""Serves models by their id: https://huggingface.co/docs/inference-providers"""


class Endpoint(NamedTuple):
    """Where text generation is asked for, and how."""

    url: str
    stream_in_body: bool
    """Whether the route learns from the body that it shall stream."""
    openai: bool = False
    """Whether it is OpenAI's `/v1/completions`, and not TGI's own."""
    model: str | None = None
    """What OpenAI's route is told is the model's name."""


def is_url(model: str) -> bool:
    """Whether `model` is a URL, and not an id such as ``org/name``."""
    return model[:8].lower().startswith(("http://", "https://"))


def is_huggingface(url: str) -> bool:
    """Whether `url` is on huggingface.co, where the token in a user's environment belongs."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    return parts.scheme == "https" and (host == "huggingface.co" or host.endswith(".huggingface.co"))


def origin(url: str) -> str:
    """Scheme, host and port of `url`: what an error message may show, without user, password, path and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))


def text_generation_endpoint(model: str, *, stream: bool, model_name: str | None = None) -> Endpoint:
    """The route for text generation.

    An origin gets TGI's `/generate_stream` or `/generate`, and a URL that ends in one of these the one that is meant;
    one that ends in `/v1`, or in a route of OpenAI's, gets `/v1/completions`, where `model_name` names the model; any
    other path is used as it is, with `stream` in the body (TGI's own `/`, hosted endpoints). A model id goes to the
    Hugging Face router.
    """
    if not is_url(model):
        return Endpoint(f"{HF_ROUTER_URL}/hf-inference/models/{quote(model, safe='/')}", stream_in_body=True)
    prefix, route = _split_route(model)
    if route in _OPENAI_ROUTES:
        return Endpoint(
            _with_path(model, f"{prefix}/v1/completions"), stream_in_body=True, openai=True, model=model_name
        )
    if route is not None:
        path = f"{prefix}/{'generate_stream' if stream else 'generate'}"
        return Endpoint(_with_path(model, path), stream_in_body=False)
    return Endpoint(_with_path(model, urlsplit(model).path), stream_in_body=True)


def chat_completion_url(model: str) -> str:
    """The route for chat: a URL that ends in `/chat/completions` as it is, `/v1/chat/completions` below any other.

    A model id goes to the Hugging Face router.
    """
    if not is_url(model):
        return f"{HF_ROUTER_URL}/v1/chat/completions"
    if urlsplit(model).path.rstrip("/").endswith("/chat/completions"):
        return _with_path(model, urlsplit(model).path)
    return service_url(model, "/v1/chat/completions")


def service_url(model: str, route: str) -> str:
    """`route` at the server of a URL, beside whatever route of its the URL may name. A model id means the router."""
    if not is_url(model):
        return HF_ROUTER_URL + route
    prefix, known = _split_route(model)
    return _with_path(model, (urlsplit(model).path.rstrip("/") if known is None else prefix) + route)


_OPENAI_ROUTES = ("/v1", "/v1/completions", "/v1/chat/completions")


def _split_route(url: str) -> tuple[str, str | None]:
    """What stands before the route that a URL ends in, and that route: "" for an origin, None for none we know."""
    path = urlsplit(url).path.rstrip("/")
    if not path:
        return "", ""
    for route in ("/generate", "/generate_stream", *_OPENAI_ROUTES):
        if path.endswith(route):
            return path.removesuffix(route), route
    return path, None


def _with_path(url: str, path: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=path, fragment=""))
