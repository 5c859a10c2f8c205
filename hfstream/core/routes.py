"""Where a call goes: from a model (a URL, or an id on the Hugging Face hub) to the URL of a route.

Routes are known by the end of the path; whatever stands before it, and the query, is kept. It refuses to know bodies.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

__all__ = ["ROUTER", "Target", "is_huggingface", "is_url", "origin", "text_generation_target"]

ROUTER = "https://router.huggingface.co"
"""Serves models by their id: https://huggingface.co/docs/inference-providers"""


class Target(NamedTuple):
    """A URL to post to, and whether its route learns from the body that it shall stream."""

    url: str
    stream_in_body: bool


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


def text_generation_target(model: str, *, stream: bool) -> Target:
    """The route for text generation.

    An origin gets TGI's `/generate_stream` or `/generate`, and a URL that ends in one of these the one that is meant;
    any other path is posted to as it is, with `stream` in the body (TGI's own `/`, hosted endpoints). A model id goes
    to the Hugging Face router.
    """
    if not is_url(model):
        return Target(f"{ROUTER}/hf-inference/models/{quote(model, safe='/')}", stream_in_body=True)
    parts = urlsplit(model)
    head, _, tail = parts.path.rstrip("/").rpartition("/")
    if tail in ("", "generate", "generate_stream"):
        path = f"{head}/{'generate_stream' if stream else 'generate'}"
        return Target(urlunsplit(parts._replace(path=path, fragment="")), stream_in_body=False)
    return Target(urlunsplit(parts._replace(fragment="")), stream_in_body=True)
