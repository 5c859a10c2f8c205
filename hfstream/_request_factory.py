"""Makes an `Exchange` from a client's configuration and the arguments of one call.

Decides where a request goes, which model it names and which token it carries. Reads `HF_TOKEN` from the environment;
does not depend on the network.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ._config import USER_AGENT, ClientConfig, merge_headers, validate_token
from ._limiting import ThreadSafeEndpointPool, make_limiter
from ._model_argument import check_hub_id, validate_model
from ._transport.forking import renew_in_child
from .core import completion_chunks, server_info
from .core.chat_completion import chat_completion
from .core.concurrency import RequestLimiter
from .core.dispatch import Dispatch
from .core.endpoints import EndpointPool
from .core.exchange import Exchange
from .core.observers import ObservedExchange
from .core.parameters import ChatCompletionOptions, TextGenerationOptions
from .core.request_spec import RequestSpec
from .core.retry import RetryPacer, RetryPolicy
from .core.text_generation import relocated, text_generation
from .core.timeouts import Timeouts, TimeoutTypes
from .core.urls import (
    HF_ROUTER_URL,
    Endpoint,
    chat_completion_url,
    is_huggingface,
    is_url,
    service_url,
    split_credentials,
    text_generation_endpoint,
)
from .types import Messages

__all__ = ["RequestFactory"]

_REQUEST_OPTIONS = ("model", "timeout", "extra_body", "extra_headers")
"""Options of a call that concern the request. All other options are parameters for the server."""


class ThreadSafeRetryPacer(RetryPacer):
    """A `RetryPacer` that calls in several threads can share."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        renew_in_child(self)

    def _after_fork(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def schedule(self, delay: float, now: float, *, overloaded: bool) -> float:
        with self._lock:
            return super().schedule(delay, now, overloaded=overloaded)

    def record_success(self) -> None:
        with self._lock:
            super().record_success()


class RequestFactory:
    """Makes the exchanges of one client. They share the client's `RetryPacer` and `RequestLimiter`."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._pacer = ThreadSafeRetryPacer()
        self.limiter: RequestLimiter | None = make_limiter(config.max_concurrency)
        """For `max_concurrency`; None if there is no limit."""
        self._pool = ThreadSafeEndpointPool(config.endpoints) if len(config.endpoints) > 1 else None

    def text_generation(
        self, prompt: str, *, stream: bool, details: bool, options: TextGenerationOptions
    ) -> Exchange[Any, Any]:
        """The exchange for one prompt.

        Raises:
            TypeError: an unknown option, or a value that is not JSON-serializable.
            ValueError: no model, or an invalid one.
        """
        spec = self.text_generation_spec(prompt, stream=stream, details=details, options=options)
        return self.exchange(spec, options.get("timeout"))

    def text_generation_spec(
        self, prompt: str, *, stream: bool, details: bool, options: TextGenerationOptions
    ) -> RequestSpec[Any, Any, Any]:
        """The request for one prompt; raises as `text_generation`."""
        params, model, extra_body, extra_headers = _split_options(options)

        def locate(base_url: str | None) -> tuple[Endpoint, dict[str, str]]:
            endpoint = self._text_generation_endpoint(model, base_url, stream=stream)
            url, headers = self._url_and_headers(endpoint.url, stream=stream, extra=extra_headers)
            return endpoint._replace(url=url), headers

        endpoint, headers = locate(self._config.model)
        if endpoint.url.startswith(HF_ROUTER_URL):
            self._check_provider("hf-inference")
        spec = text_generation(
            endpoint,
            prompt,
            params,
            stream=stream,
            details=details,
            headers=headers,
            extra_body=extra_body,
            resume=self._config.resume,
        )

        def relocate(base_url: str) -> RequestSpec[Any, Any, Any]:
            endpoint, headers = locate(base_url)
            return relocated(spec, endpoint.url, headers, relocate)

        return self._with_endpoints(spec, relocate)

    def chat_completion(
        self, messages: Messages, *, stream: bool, options: ChatCompletionOptions
    ) -> Exchange[Any, Any]:
        """The exchange for one turn of a conversation.

        Of the client's `model` and the call's, a URL is the server and an id the model's name there.

        Raises:
            TypeError: an unknown option, or a value that is not JSON-serializable.
            ValueError: no model, or an invalid one.
        """
        spec = self.chat_completion_spec(messages, stream=stream, options=options)
        return self.exchange(spec, options.get("timeout"))

    def chat_completion_spec(
        self, messages: Messages, *, stream: bool, options: ChatCompletionOptions
    ) -> RequestSpec[Any, Any, Any]:
        """The request for one turn of a conversation; raises as `chat_completion`."""
        params, model, extra_body, extra_headers = _split_options(options)

        def locate(base_url: str | None) -> tuple[str, dict[str, str]]:
            url, _ = self._chat_completion_target(model, base_url)
            return self._url_and_headers(url, stream=stream, extra=extra_headers)

        _, model_name = self._chat_completion_target(model, self._config.model)
        url, headers = locate(self._config.model)
        spec = chat_completion(
            url,
            model_name,
            messages,
            params,
            stream=stream,
            headers=headers,
            extra_body=extra_body,
            resume=self._config.resume,
        )

        def relocate(base_url: str) -> RequestSpec[Any, Any, Any]:
            return relocated(spec, *locate(base_url), relocate)

        return self._with_endpoints(spec, relocate)

    def _with_endpoints(
        self, spec: RequestSpec[Any, Any, Any], relocate: Callable[[str], RequestSpec[Any, Any, Any]]
    ) -> RequestSpec[Any, Any, Any]:
        """`spec` for all endpoints of the client, unless the call goes to another URL."""
        if self._pool is None or relocate(self._config.endpoints[1]).url == spec.url:
            return spec
        return replace(spec, relocate=relocate)

    def info(self, model: str | None, timeout: TimeoutTypes) -> Exchange[Any, Any]:
        """The exchange for ``GET /info``."""
        return self._exchange(server_info.info(*self._service_url(model, "/info")), timeout)

    def health(self, model: str | None, timeout: TimeoutTypes) -> Exchange[Any, Any]:
        """The exchange for ``GET /health``. Never retried, because the caller asks for the state now."""
        spec = server_info.health(*self._service_url(model, "/health"))
        return self._exchange(spec, timeout, retry=RetryPolicy.of(None))

    def completion_spec(self, body: Mapping[str, Any], *, stream: bool) -> RequestSpec[Any, Any, Any]:
        """The request for a body of OpenAI's `/v1/completions` that is sent as it is.

        Raises:
            TypeError: a value is not JSON-serializable.
        """
        url, headers = self._url_and_headers(service_url(self._model(None), "/v1/completions"), stream=stream)
        return completion_chunks.completion(url, body, stream=stream, headers=headers, resume=self._config.resume)

    def tokenize(self, text: str, model: str | None, timeout: TimeoutTypes) -> Exchange[Any, Any]:
        """The exchange for ``POST /tokenize``."""
        url, headers = self._service_url(model, "/tokenize")
        return self._exchange(server_info.tokenize(url, text, headers), timeout)

    def models(self, model: str | None, timeout: TimeoutTypes) -> Exchange[Any, Any]:
        """The exchange for ``GET /v1/models``; without a URL, of the Hugging Face router."""
        model = validate_model(model)
        if model:
            check_hub_id(model)
        url = service_url(model or self._config.model or "", "/v1/models")
        return self._exchange(server_info.models(*self._url_and_headers(url)), timeout)

    def exchange(
        self,
        spec: RequestSpec[Any, Any, Any],
        timeout: TimeoutTypes,
        *,
        limiter: RequestLimiter | None = None,
        pool: EndpointPool | None = None,
    ) -> Exchange[Any, Any]:
        """The exchange for a request that generates text.

        `limiter`, or that of the client, must grant it. It goes to the endpoints of `pool`, or to those of the client.
        """
        limiter = limiter or self.limiter
        slot = limiter.slot() if limiter is not None else None
        pool = pool or (self._pool if spec.relocate is not None else None)
        return self._exchange(spec, timeout, dispatch=Dispatch(slot, pool) if slot or pool else None, observed=True)

    def _exchange(
        self,
        spec: RequestSpec[Any, Any, Any],
        timeout: TimeoutTypes,
        *,
        retry: RetryPolicy | None = None,
        dispatch: Dispatch | None = None,
        observed: bool = False,
    ) -> Exchange[Any, Any]:
        timeouts = self._config.timeouts if timeout is None else Timeouts.of(timeout)
        retry = retry or self._config.retry
        observers = self._config.observers if observed else ()
        make_exchange = partial(ObservedExchange[Any, Any], observers=observers) if observers else Exchange[Any, Any]
        return make_exchange(spec, retry=retry, timeouts=timeouts, pacer=self._pacer, dispatch=dispatch)

    def _model(self, model: str | None) -> str:
        model_or_url = validate_model(model) or self._config.model
        if not model_or_url:
            raise ValueError("no model: pass model=, a URL (http://127.0.0.1:8080) or a model id (org/name)")
        return model_or_url

    def _text_generation_endpoint(self, model: str | None, client_model: str | None, *, stream: bool) -> Endpoint:
        """`client_model` is the client's model, or one of its endpoints."""
        model_or_url = validate_model(model) or client_model or self._model(None)
        if not is_url(model_or_url) and client_model and is_url(client_model):
            endpoint = text_generation_endpoint(client_model, stream=stream, model_name=model_or_url)
            if endpoint.openai:  # a server of several models: the id names one of them
                return endpoint
        check_hub_id(model_or_url)
        return text_generation_endpoint(model_or_url, stream=stream)

    def _chat_completion_target(self, model: str | None, client_model: str | None) -> tuple[str, str]:
        """The URL, and the value of the body's `model`. `client_model` as above."""
        self._model(model)
        names = [name for name in (model, client_model) if name]
        url = next((name for name in names if is_url(name)), None)
        model_name = next((name for name in names if not is_url(name)), "tgi")
        if url is None:
            check_hub_id(model_name)
            model_name = self._with_provider(model_name)
        return chat_completion_url(url or model_name), model_name

    def _service_url(self, model: str | None, route: str) -> tuple[str, dict[str, str]]:
        model_or_url = self._model(model)
        if not is_url(model_or_url):
            raise ValueError(f"a model id has no {route}: pass the URL of the server that runs the model")
        return self._url_and_headers(service_url(model_or_url, route))

    def _with_provider(self, model_id: str) -> str:
        if not self._config.provider:
            return model_id
        self._check_provider()
        if ":" in model_id:
            raise ValueError(f"{model_id!r} already names a provider: pass it there, or as provider=")
        return f"{model_id}:{self._config.provider}"

    def _check_provider(self, *served_by: str) -> None:
        provider, token = self._config.provider, self._config.token
        if served_by and provider not in (None, *served_by):
            raise ValueError(
                f"provider {provider!r} does not serve text generation through the Hugging Face router: use "
                "chat_completion, or pass the URL of the provider's own server as base_url="
            )
        if provider not in (None, "hf-inference") and isinstance(token, str) and token[:3] != "hf_":
            raise ValueError(
                f"with provider={provider!r} the request and the token go to huggingface.co, but the token is not one "
                "of Hugging Face's (hf_...): to use the provider's own key, pass the provider's URL as base_url="
            )

    def _url_and_headers(
        self, url: str, *, stream: bool = False, extra: Mapping[str, str | None] | None = None
    ) -> tuple[str, dict[str, str]]:
        """The URL to send a request to, without user and password, which whatever sees the URL might show; and headers.

        Raises:
            ValueError: both a token and a URL with user and password.
        """
        token = self._config.token
        if token in (None, True) and is_huggingface(url):
            token = validate_token(os.environ.get("HF_TOKEN"))
        headers = {
            "Accept": "text/event-stream" if stream else "application/json",
            "Accept-Encoding": "identity",  # servers that compress a stream buffer it
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
        }
        if self._config.cookies:
            # A header, not httpx's cookie jar: httpx removes the header when a redirect leads to another origin, and
            # would send the jar's cookies to any host.
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self._config.cookies.items())
        if stream and self._config.resume:
            headers["Prefer"] = "resumable"  # RFC 7240: a server that does not know a preference ignores it
        url, authorization = split_credentials(url)
        if isinstance(token, str) and authorization is not None:
            raise ValueError("both a token and a URL with user and password: a request can carry only one of them")
        if isinstance(token, str):
            authorization = f"Bearer {token}"
        if authorization is not None:
            headers["Authorization"] = authorization
        merged = merge_headers(headers, self._config.headers, extra or {})
        return url, {name: value for name, value in merged.items() if value is not None}


def _split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], Any, Any, Any]:
    """The server's parameters, and what concerns the request itself: `model`, `extra_body`, `extra_headers`."""
    params = {name: value for name, value in options.items() if name not in _REQUEST_OPTIONS}
    return params, validate_model(options.get("model")), options.get("extra_body"), options.get("extra_headers")
