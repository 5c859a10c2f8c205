"""The argument `model`, checked: a URL, several URLs, or the id of a model on the Hugging Face Hub.

Does not depend on what is sent there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from .core.urls import check_host, is_url, origin, text_generation_endpoint

__all__ = ["check_hub_id", "validate_model", "validate_models"]

_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(/|$)")

_HUB_ID = re.compile(
    r"(?!(https?|localhost|\d+(\.\d+){3})([/:]|$))"  # what a URL without its "://" begins with
    r"\b[\w.-]+\b(/(?!v1$)\b[\w.-]+\b)?(:[\w.-]+)?",  # `:` is before a provider
    re.ASCII | re.IGNORECASE,
)


def validate_models(given: Any) -> tuple[str | None, tuple[str, ...]]:
    """The `model` of a client, and the URLs that requests are sent to: none for a model id.

    Raises:
        ValueError, TypeError: as `validate_model`, `check_hub_id`, or an invalid list of URLs.
    """
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        endpoints = _validate_endpoints([*given])  # pyright: ignore[reportUnknownArgumentType]
        return endpoints[0], endpoints
    model = validate_model(given)
    if model:
        check_hub_id(model)
    return model, (model,) if model and is_url(model) else ()


def validate_model(model: Any) -> str | None:
    """A URL or the name of a model, as it was given; an object that is a URL, such as pydantic's or httpx's, as text.

    Raises:
        ValueError: an invalid URL, or a host and port without ``http://``. The message shows at most host and port.
        TypeError: neither a string nor a URL.
    """
    if model is None:
        return None
    text = str(model)
    if not isinstance(model, str) and not is_url(text):
        raise TypeError(f"model= is a string, a URL or the id of a model, not an object of type {type(model).__name__}")
    if "://" in text:
        shown = _checked_origin(text)
        if not is_url(text):
            raise ValueError(f"a model's URL starts with http:// or https://, but this one is {shown!r}")
    elif text == "localhost" or _HOST_AND_PORT.match(text):
        host = text.partition("/")[0]
        raise ValueError(f"{host!r} is neither a URL nor a model id: did you mean 'http://{host}'?")
    return text


def check_hub_id(model: str) -> None:
    """Checks what is not a URL, before it is sent to huggingface.co as the id of a model.

    It may be a mistyped URL or a path, and the prompt and the token would go there with it.

    Raises:
        ValueError: it cannot be an id. The message does not show it, for it may have a password in it.
    """
    if not is_url(model) and not _HUB_ID.fullmatch(model):
        raise ValueError(
            "model= is neither a URL (http://127.0.0.1:8080) nor a model id of the Hugging Face Hub (org/name, or "
            "org/name:provider): a URL starts with http:// or https://"
        )


def _validate_endpoints(given: Sequence[Any]) -> tuple[str, ...]:
    """Several URLs, of servers that can stand for each other.

    Raises:
        ValueError: there is none, one is no URL or there twice, or they are of several kinds.
        TypeError: one is neither a string nor a URL.
    """
    if None in given:
        raise TypeError("the URLs in model= must be strings, not NoneType")
    urls = [validate_model(each) or "" for each in given]
    for url in urls:
        if not is_url(url):
            raise ValueError(f"a list in model= has URLs of servers; {url!r} is not a URL")
    if not urls or len(set(urls)) < len(urls):
        raise ValueError("a list in model= has at least one URL, and none of them twice")
    if len({text_generation_endpoint(url, stream=True)[1:3] for url in urls}) > 1:
        raise ValueError(
            "the URLs in model= are of several kinds: pass either origins (TGI), or URLs that end in /v1 (OpenAI's "
            "API), or URLs with another path (hosted endpoints)"
        )
    return tuple(urls)


def _checked_origin(url: str) -> str:
    try:
        urlsplit(url).port  # noqa: B018  raises ValueError for one that is no number
        shown = origin(url)
    except ValueError:  # its message quotes parts of the URL
        raise ValueError(
            "the model's URL has an invalid host or port. Characters such as / ? # @ in a password must be "
            "percent-encoded: urllib.parse.quote(password, safe='')"
        ) from None
    try:
        if is_url(url):
            check_host(url)
    except ValueError as error:
        raise ValueError(f"the model's URL is invalid: {error}") from None
    return shown
