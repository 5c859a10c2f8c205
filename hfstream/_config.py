"""What both clients are told when they are made, and what they make of it: headers, token, model, limits.

Reads the environment (`HF_TOKEN`), and nothing else of the outside.
"""

from __future__ import annotations

import os
import platform
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .core import server_info
from .core.chat_completion import chat_completion
from .core.exchange import Exchange
from .core.parameters import ChatCompletionOptions, Messages, TextGenerationOptions
from .core.request_spec import RequestSpec
from .core.retry import RetryPacer, RetryPolicy
from .core.text_generation import text_generation
from .core.timeouts import Timeouts
from .core.urls import (
    HF_ROUTER_URL,
    chat_completion_url,
    is_huggingface,
    is_url,
    origin,
    service_url,
    text_generation_endpoint,
)
from .version import __version__

__all__ = ["ClientConfig"]

_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(/|$)")

USER_AGENT = f"hfstream/{__version__} python/{platform.python_version()}"


class ThreadSafeRetryPacer(RetryPacer):
    """A budget for the calls of many threads."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def schedule(self, delay: float, now: float, *, overloaded: bool) -> float:
        with self._lock:
            return super().schedule(delay, now, overloaded=overloaded)

    def record_success(self) -> None:
        with self._lock:
            super().record_success()


@dataclass(frozen=True)
class ClientConfig:
    """One client's settings, checked."""

    model: str | None = field(repr=False)
    token: str | bool | None = field(repr=False)
    timeouts: Timeouts
    retry: RetryPolicy
    headers: Mapping[str, str] = field(repr=False)
    provider: str | None = None
    resume: bool = False
    pacer: RetryPacer = field(default_factory=ThreadSafeRetryPacer, repr=False, compare=False)

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
        provider: str | None = None,
        resume: bool = False,
    ) -> ClientConfig:
        """The settings that a client's arguments stand for.

        Raises:
            ValueError: both names of one thing were given, or a value that cannot be.
        """
        if model is not None and base_url is not None:
            raise ValueError("`base_url` is another name for `model`: pass only one of them")
        if token is not None and api_key is not None:
            raise ValueError("`api_key` is another name for `token`: pass only one of them")
        account_headers = {"X-HF-Bill-To": bill_to} if bill_to else {}
        if cookies:
            # As a header: httpx takes it off when a redirect leads elsewhere. Its jar would send them along, to anyone.
            account_headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        return cls(
            model=_validate_model(model if model is not None else base_url),
            token=_validate_token(token if token is not None else api_key),
            timeouts=Timeouts.of(timeout),
            retry=RetryPolicy.of(retry),
            headers=_merge_headers({"User-Agent": USER_AGENT}, account_headers, headers or {}),
            provider=None if provider == "auto" else provider,
            resume=resume,
        )

    def text_generation(
        self, prompt: str, *, stream: bool, details: bool, options: TextGenerationOptions
    ) -> Exchange[Any, Any]:
        """The exchange about one prompt.

        Raises:
            TypeError: an option that does not exist, or a value that JSON cannot say.
            ValueError: there is no model to ask.
        """
        params, model, timeout, extra_body, extra_headers = _split(options)
        model_or_url = self._model(model)
        target = text_generation_endpoint(model_or_url, stream=stream)
        if not is_url(model_or_url) and self.model and is_url(self.model):
            ours = text_generation_endpoint(self.model, stream=stream, model_name=model_or_url)
            target = ours if ours.openai else target  # there an id is the name of one of our server's models
        if target.url.startswith(HF_ROUTER_URL):
            self._check_provider("hf-inference")
        headers = self._headers(target.url, stream=stream, extra=extra_headers)
        call = text_generation(
            target,
            prompt,
            params,
            stream=stream,
            details=details,
            headers=headers,
            extra_body=extra_body,
            resume=self.resume,
        )
        return self._exchange(call, timeout)

    def chat_completion(
        self, messages: Messages, *, stream: bool, options: ChatCompletionOptions
    ) -> Exchange[Any, Any]:
        """The exchange about one turn of a conversation. A URL says where, and an id which of the models there.

        Raises:
            TypeError: an option that does not exist, or a value that JSON cannot say.
            ValueError: there is no model to ask.
        """
        params, model, timeout, extra_body, extra_headers = _split(options)
        self._model(model)
        names = [name for name in (model, self.model) if name]
        url_given = next((name for name in names if is_url(name)), None)
        model_name = next((name for name in names if not is_url(name)), "tgi")
        if url_given is None and self.provider:
            self._check_provider()
            if ":" in model_name:
                raise ValueError(f"{model_name!r} names a provider already: pass it there, or as provider=")
            model_name = f"{model_name}:{self.provider}"
        url = chat_completion_url(url_given or model_name)
        headers = self._headers(url, stream=stream, extra=extra_headers)
        call = chat_completion(
            url, model_name, messages, params, stream=stream, headers=headers, extra_body=extra_body, resume=self.resume
        )
        return self._exchange(call, timeout)

    def info(self, model: str | None, timeout: Timeouts | float | None) -> Exchange[Any, Any]:
        """The exchange about what a server is."""
        url = self._service(model, "/info")
        return self._exchange(server_info.info(url, self._headers(url, stream=False)), timeout)

    def health(self, model: str | None, timeout: Timeouts | float | None) -> Exchange[Any, Any]:
        """The exchange about how a server is. Asked once: who wants to know wants to know how it is now."""
        url = self._service(model, "/health")
        return self._exchange(
            server_info.health(url, self._headers(url, stream=False)), timeout, retry=RetryPolicy.of(None)
        )

    def tokenize(self, text: str, model: str | None, timeout: Timeouts | float | None) -> Exchange[Any, Any]:
        """The exchange about the tokens of a text."""
        url = self._service(model, "/tokenize")
        return self._exchange(server_info.tokenize(url, text, self._headers(url, stream=False)), timeout)

    def models(self, model: str | None, timeout: Timeouts | float | None) -> Exchange[Any, Any]:
        """The exchange about which models there are."""
        url = service_url(_validate_model(model) or self.model or "", "/v1/models")
        return self._exchange(server_info.models(url, self._headers(url, stream=False)), timeout)

    def _exchange(
        self, call: RequestSpec[Any, Any, Any], timeout: Timeouts | float | None, *, retry: RetryPolicy | None = None
    ) -> Exchange[Any, Any]:
        timeouts = self.timeouts if timeout is None else Timeouts.of(timeout)
        return Exchange(call, retry=retry or self.retry, timeouts=timeouts, pacer=self.pacer)

    @property
    def redacted_model(self) -> str | None:
        """The model as a repr may show it: a URL without user, password and query."""
        return origin(self.model) if self.model and is_url(self.model) else self.model

    def _model(self, model: str | None) -> str:
        model_or_url = _validate_model(model) or self.model
        if not model_or_url:
            raise ValueError("no model: pass model=, a URL (http://127.0.0.1:8080) or a model id (org/name)")
        return model_or_url

    def _service(self, model: str | None, route: str) -> str:
        model_or_url = self._model(model)
        if not is_url(model_or_url):
            raise ValueError(f"a model id has no {route}: pass the URL of the server that runs the model")
        return service_url(model_or_url, route)

    def _check_provider(self, *served_by: str) -> None:
        if served_by and self.provider not in (None, *served_by):
            raise ValueError(
                f"provider {self.provider!r} does not serve text generation through the Hugging Face router: use "
                "chat_completion, or pass the URL of the provider's own server as base_url="
            )
        if self.provider not in (None, "hf-inference") and isinstance(self.token, str) and self.token[:3] != "hf_":
            raise ValueError(
                f"with provider={self.provider!r} the request goes to huggingface.co, and so would this token, which "
                "is none of theirs (hf_...): to use the provider's own key, pass its URL as base_url="
            )

    def _headers(self, url: str, *, stream: bool, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        token = self.token
        if token in (None, True) and is_huggingface(url):
            token = _validate_token(os.environ.get("HF_TOKEN"))
        headers = {
            "Accept": "text/event-stream" if stream else "application/json",
            "Accept-Encoding": "identity",  # a compressed stream is a buffered one
            "Content-Type": "application/json",
        }
        if stream and self.resume:
            headers["Prefer"] = "resumable"  # RFC 7240; a server that does not know it passes over it
        if isinstance(token, str) and urlsplit(url).username is not None:
            raise ValueError("the URL has a user and a password, and there is a token: a request can carry only one")
        if isinstance(token, str):
            headers["Authorization"] = f"Bearer {token}"
        return _merge_headers(headers, self.headers, extra or {})


def _split(options: Mapping[str, Any]) -> tuple[dict[str, Any], Any, Any, Any, Any]:
    """The server's parameters, and what concerns the request: model, timeout, extra_body, extra_headers."""
    params = dict(options)
    model, timeout, body, headers = (params.pop(name, None) for name in _REQUEST)
    return params, model, timeout, body, headers


_REQUEST = ("model", "timeout", "extra_body", "extra_headers")


def _merge_headers(*layers: Mapping[str, str]) -> dict[str, str]:
    """Headers of all `layers`; a later one wins, whatever the case of its name."""
    merged = {name.lower(): (name, value) for layer in layers for name, value in layer.items()}
    return dict(merged.values())


def _validate_token(token: str | bool | None) -> str | bool | None:
    if not isinstance(token, str):
        return token
    token = token.strip()
    if not (token.isascii() and token.isprintable()):
        raise ValueError("the token has characters that no header can carry: a line end, or one that is not ASCII")
    return token or False


def _validate_model(model: str | None) -> str | None:
    if model is not None and "://" in model and not is_url(model):
        raise ValueError(f"a model's URL starts with http:// or https://, not as {origin(model)!r} does")
    if model is not None and is_url(model):
        origin(model)  # raises ValueError if it is none
    elif model is not None and (model == "localhost" or _HOST_AND_PORT.match(model)):
        # As a model id it would go to the hub, with the prompt and the token.
        raise ValueError(f"{model!r} is neither a URL nor a model id: did you mean 'http://{model}'?")
    return model
