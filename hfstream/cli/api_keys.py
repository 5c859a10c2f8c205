"""Which API key a command sends. Does not depend on what the command does."""

from __future__ import annotations

import argparse
import os
from urllib.parse import urlsplit

from ..core.urls import is_huggingface

__all__ = ["api_key", "key_of_environment"]


def api_key(arguments: argparse.Namespace, url: str) -> str | None:
    """`--api-key`, or that of the environment. For huggingface.co the client itself looks for HF_TOKEN."""
    given: str | None = arguments.api_key
    return given or (None if is_huggingface(url) else key_of_environment(url)[1])


def key_of_environment(url: str) -> tuple[str, str | None]:
    """A variable of the environment and the API key in it, for a URL that has no user and password of its own."""
    parts = urlsplit(url)
    names = [] if parts.username or parts.password else ["HF_TOKEN"] * is_huggingface(url) + ["HFSTREAM_API_KEY"]
    return next(((name, key) for name in names if (key := os.environ.get(name))), ("", None))
