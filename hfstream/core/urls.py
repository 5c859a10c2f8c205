"""The URL of a request, from a model, which is a URL or an id on the Hugging Face Hub.

A known route is recognised by the end of the path; the path before it and the query are kept. Does not depend on
request bodies.
"""

from __future__ import annotations

import base64
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit, urlunsplit

__all__ = [
    "HF_ROUTER_URL",
    "Endpoint",
    "chat_completion_url",
    "check_host",
    "explain_missing_route",
    "is_huggingface",
    "is_url",
    "origin",
    "service_url",
    "split_credentials",
    "text_generation_endpoint",
]

HF_ROUTER_URL = "https://router.huggingface.co"
"""Serves models by id: https://huggingface.co/docs/inference-providers"""


class Endpoint(NamedTuple):
    """The URL of text generation, and the API that the server has there."""

    url: str
    stream_in_body: bool
    """Whether the body has a field `stream`, because the path does not say whether to stream."""
    openai: bool = False
    """Whether it is OpenAI's `/v1/completions` instead of TGI's route."""
    model: str | None = None
    """The model's name, if it is known: the field `model` in the body of OpenAI's route, or the model id."""


def is_url(model: str) -> bool:
    """Whether `model` is a URL, rather than an id such as ``org/name``."""
    return model[:8].lower().startswith(("http://", "https://"))


def is_huggingface(url: str) -> bool:
    """Whether `url` is on huggingface.co: only there is the token of the environment sent."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    return parts.scheme == "https" and (host == "huggingface.co" or host.endswith(".huggingface.co"))


def origin(url: str) -> str:
    """Scheme, host and port of `url`, for messages and logs: user, password, path and query may be secret."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))


_ROUTES = (
    "/generate", "/generate_stream", "/v1/completions", "/v1/chat/completions", "/v1/models", "/info", "/tokenize",
)  # fmt: skip


def explain_missing_route(url: str) -> str:
    """What a request to `url` has asked for, in words that help to correct the client's URL.

    Only the end of the path that the client itself appends is shown: the rest may be secret.
    """
    path = urlsplit(url).path
    route = next((route for route in _ROUTES if path.endswith(route)), None)
    if route is None:
        return (
            "the request went to the client's URL as it is: routes are appended only to one without a path, or with /v1"
        )
    if route in ("/generate", "/generate_stream"):
        return f"the request went to {route}, as TGI has it: the URL of a server with OpenAI's API ends in /v1"
    return f"the request went to {route} behind the client's URL"


def check_host(url: str) -> None:
    """Raises ValueError, with the reason, for a URL whose host or port nothing can be sent to."""
    parts = urlsplit(url)
    host = (parts.hostname or "").removesuffix(".")
    if not host:
        raise ValueError("it has no host")
    if "\\" in host or " " in host:  # programs differ in where such a host ends
        raise ValueError("its host has a character that no host has")
    if ":" not in host and not all(0 < len(label) < 64 for label in host.split(".")):
        raise ValueError(f"its host {host[:100]!r} has a part between dots that is empty, or longer than 63 characters")
    try:
        parts.port  # noqa: B018
    except ValueError:
        raise ValueError("its port is not a number from 0 to 65535") from None


def split_credentials(url: str) -> tuple[str, str | None]:
    """`url` without its user and password, and the Authorization header that carries them; None if it has neither."""
    parts = urlsplit(url)
    if not (parts.username or parts.password):
        return url, None
    user_and_password = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    header = f"Basic {base64.b64encode(user_and_password.encode()).decode()}"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), header


def text_generation_endpoint(model: str, *, stream: bool, model_name: str | None = None) -> Endpoint:
    """The endpoint for text generation.

    - A URL without a path, or that ends with `/generate` or `/generate_stream`: TGI's `/generate_stream` if `stream`,
      else `/generate`.
    - One that ends with `/v1` or with one of OpenAI's routes: `/v1/completions`, with `model_name` in the body.
    - Any other path: the URL as it is, with `stream` in the body (hosted endpoints).
    - A model id: the Hugging Face router.
    """
    if not is_url(model):
        url = f"{HF_ROUTER_URL}/hf-inference/models/{quote(model, safe='/')}"
        return Endpoint(url, stream_in_body=True, model=model)
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
    """The URL for chat completion.

    A URL that ends with `/chat/completions` as it is; any other with `/v1/chat/completions`, which replaces a known
    route. For a model id, the Hugging Face router.
    """
    if not is_url(model):
        return f"{HF_ROUTER_URL}/v1/chat/completions"
    if urlsplit(model).path.rstrip("/").endswith("/chat/completions"):
        return _with_path(model, urlsplit(model).path)
    return service_url(model, "/v1/chat/completions")


def service_url(model: str, route: str) -> str:
    """The URL of `route` on the server of a URL, whose known route it replaces. For a model id, the router."""
    if not is_url(model):
        return HF_ROUTER_URL + route
    prefix, known = _split_route(model)
    return _with_path(model, (urlsplit(model).path.rstrip("/") if known is None else prefix) + route)


_OPENAI_ROUTES = ("/v1", "/v1/completions", "/v1/chat/completions")


def _split_route(url: str) -> tuple[str, str | None]:
    """The path before the known route that a URL ends with, and that route: "" without a path, None if unknown."""
    path = urlsplit(url).path.rstrip("/")
    if not path:
        return "", ""
    for route in ("/generate", "/generate_stream", *_OPENAI_ROUTES):
        if path.endswith(route):
            return path.removesuffix(route), route
    return path, None


def _with_path(url: str, path: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=path, fragment=""))
