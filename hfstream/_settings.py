"""What both clients are told when they are made, and what they make of it: headers, token, model, limits.

Reads the environment (`HF_TOKEN`), and nothing else of the outside.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .core.calls import TextGenerationOptions, text_generation
from .core.exchange import Exchange
from .core.retry import RetryPolicy
from .core.routes import is_huggingface, is_url, origin, text_generation_target
from .core.timeouts import Timeouts
from .version import __version__

__all__ = ["Settings"]

_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(/|$)")

USER_AGENT = f"hfstream/{__version__} python/{platform.python_version()}"


@dataclass(frozen=True)
class Settings:
    """One client's settings, checked."""

    model: str | None = field(repr=False)
    token: str | bool | None = field(repr=False)
    timeouts: Timeouts
    retry: RetryPolicy
    headers: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(
        cls,
        model: str | None,
        *,
        token: str | bool | None,
        timeout: Timeouts | float | None,
        headers: Mapping[str, str] | None,
        bill_to: str | None,
        base_url: str | None,
        api_key: str | None,
        retry: RetryPolicy | int | None,
        cookies: Mapping[str, str] | None = None,
    ) -> Settings:
        """The settings that a client's arguments stand for.

        Raises:
            ValueError: both names of one thing were given, or a value that cannot be.
        """
        if model is not None and base_url is not None:
            raise ValueError("`base_url` is another name for `model`: pass only one of them")
        if token is not None and api_key is not None:
            raise ValueError("`api_key` is another name for `token`: pass only one of them")
        own = {"X-HF-Bill-To": bill_to} if bill_to else {}
        if cookies:
            # As a header: httpx takes it off when a redirect leads elsewhere. Its jar would send them along, to anyone.
            own["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        return cls(
            model=_checked(model if model is not None else base_url),
            token=_clean(token if token is not None else api_key),
            timeouts=Timeouts.of(timeout),
            retry=RetryPolicy.of(retry),
            headers=_merged({"User-Agent": USER_AGENT}, own, headers or {}),
        )

    def text_generation(
        self, prompt: str, *, stream: bool, details: bool, options: TextGenerationOptions
    ) -> Exchange[Any, Any]:
        """The exchange about one prompt.

        Raises:
            TypeError: an option that does not exist, or a value that JSON cannot say.
            ValueError: there is no model to ask.
        """
        given: dict[str, Any] = dict(options)
        model, timeout, extra_body, extra_headers = (
            given.pop(name, None) for name in ("model", "timeout", "extra_body", "extra_headers")
        )
        target = text_generation_target(self._model(model), stream=stream)
        headers = self._headers(target.url, stream=stream, extra=extra_headers)
        call = text_generation(
            target, prompt, given, stream=stream, details=details, headers=headers, extra_body=extra_body
        )
        timeouts = self.timeouts if timeout is None else Timeouts.of(timeout)
        return Exchange(call, retry=self.retry, timeouts=timeouts)

    @property
    def shown_model(self) -> str | None:
        """The model as a repr may show it: a URL without user, password and query."""
        return origin(self.model) if self.model and is_url(self.model) else self.model

    def _model(self, model: str | None) -> str:
        chosen = _checked(model) or self.model
        if not chosen:
            raise ValueError("no model: pass model=, a URL (http://127.0.0.1:8080) or a model id (org/name)")
        return chosen

    def _headers(self, url: str, *, stream: bool, extra: Mapping[str, str] | None) -> dict[str, str]:
        token = self.token
        if token in (None, True) and is_huggingface(url):
            token = _clean(os.environ.get("HF_TOKEN"))
        headers = {
            "Accept": "text/event-stream" if stream else "application/json",
            "Accept-Encoding": "identity",  # a compressed stream is a buffered one
            "Content-Type": "application/json",
        }
        if isinstance(token, str):
            headers["Authorization"] = f"Bearer {token}"
        return _merged(headers, self.headers, extra or {})


def _merged(*layers: Mapping[str, str]) -> dict[str, str]:
    """Headers of all `layers`; a later one wins, whatever the case of its name."""
    found = {name.lower(): (name, value) for layer in layers for name, value in layer.items()}
    return dict(found.values())


def _clean(token: str | bool | None) -> str | bool | None:
    if not isinstance(token, str):
        return token
    token = token.strip()
    if not (token.isascii() and token.isprintable()):
        raise ValueError("the token has characters that no header can carry: a line end, or one that is not ASCII")
    return token or False


def _checked(model: str | None) -> str | None:
    if model is not None and "://" in model and not is_url(model):
        raise ValueError(f"a model's URL starts with http:// or https://, not as {origin(model)!r} does")
    if model is not None and is_url(model):
        origin(model)  # raises ValueError if it is none
    elif model is not None and _HOST_AND_PORT.match(model):
        # As a model id it would go to the hub, with the prompt and the token.
        raise ValueError(f"{model!r} is neither a URL nor a model id: did you mean 'http://{model}'?")
    return model
