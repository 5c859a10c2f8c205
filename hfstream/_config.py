"""A client's configuration, checked: model, token, headers, timeouts, retries.

Does not depend on the environment or the network; `_request_factory` makes requests of a configuration, and reads
`HF_TOKEN` if it has no token.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypedDict

from ._limiting import MaxConcurrency, validate_max_concurrency
from ._model_argument import validate_models
from .core.headers import HEADER_NAME, check_header
from .core.retry import RetryPolicy
from .core.timeouts import Timeouts, TimeoutTypes
from .core.urls import origin
from .version import __version__

if TYPE_CHECKING:
    from .core.observers import Call, CallObserver

__all__ = [
    "BILL_TO",
    "USER_AGENT",
    "ClientConfig",
    "ClientOptions",
    "check_http_client",
    "merge_headers",
    "validate_token",
]

USER_AGENT = f"hfstream/{__version__} python/{platform.python_version()}"

BILL_TO = "X-HF-Bill-To"


class ClientOptions(TypedDict, total=False):
    """The keyword parameters of `with_options`: those of a client."""

    model: str | Sequence[str] | None
    base_url: str | None
    """Another name for `model`."""
    token: str | bool | None
    api_key: str | None
    """Another name for `token`."""
    provider: str | None
    timeout: TimeoutTypes
    headers: Mapping[str, str | None] | None
    """Added to the client's; None takes one of them away."""
    default_headers: Mapping[str, str | None] | None
    """Another name for `headers`."""
    cookies: Mapping[str, str] | None
    bill_to: str | None
    retry: RetryPolicy | int | None
    max_retries: int
    """``max_retries=2`` is ``retry=3``."""
    resume: bool
    observers: Sequence[Callable[[Call], CallObserver]]
    max_concurrency: MaxConcurrency


@dataclass(frozen=True)
class ClientConfig:
    """The arguments of a client, checked. Its repr shows neither the token nor the headers nor the URL."""

    model: str | None = field(repr=False)
    token: str | bool | None = field(repr=False)
    timeouts: Timeouts
    retry: RetryPolicy
    headers: Mapping[str, str | None] = field(repr=False)
    """Sent with every request; None takes away a header that would be sent otherwise."""
    cookies: Mapping[str, str] = field(repr=False)
    provider: str | None = None
    resume: bool = False
    observers: tuple[Callable[[Call], CallObserver], ...] = field(default=(), repr=False)
    max_concurrency: MaxConcurrency = None
    endpoints: tuple[str, ...] = field(default=(), repr=False)
    """The URLs that requests are sent to, `model` the first of them; empty for a model id."""

    @classmethod
    def from_arguments(
        cls,
        model: str | Sequence[str] | None,
        *,
        token: str | bool | None,
        timeout: TimeoutTypes,
        headers: Mapping[str, str | None] | None,
        bill_to: str | None,
        base_url: str | None,
        api_key: str | None,
        retry: RetryPolicy | int | None,
        cookies: Mapping[str, str] | None = None,
        provider: str | None = None,
        resume: bool = False,
        observers: Sequence[Callable[[Call], CallObserver]] = (),
        default_headers: Mapping[str, str | None] | None = None,
        max_retries: int | None = None,
        max_concurrency: MaxConcurrency = None,
    ) -> ClientConfig:
        """The configuration for the arguments of `InferenceClient`.

        Raises:
            ValueError: an invalid value, or both names of one argument.
            TypeError: an argument is of another type.
        """
        if headers is not None and default_headers is not None:
            raise ValueError("`default_headers` is another name for `headers`: pass only one of them")
        headers = headers if headers is not None else default_headers
        if max_retries is not None:
            if retry != RetryPolicy():
                raise ValueError("`max_retries=2` is another way to write `retry=3`: pass only one of them")
            retry = _attempts(max_retries)
        if model is not None and base_url is not None:
            raise ValueError("`base_url` is another name for `model`: pass only one of them")
        if token is not None and api_key is not None:
            raise ValueError("`api_key` is another name for `token`: pass only one of them")
        token = validate_token(token if token is not None else api_key)
        headers = merge_headers(headers or {})
        _check_cookies(cookies or {})
        if bill_to:
            _warn_of_bill_to(bill_to, headers, token)
            headers = merge_headers(headers, {BILL_TO: bill_to})
        single, endpoints = validate_models(model if model is not None else base_url)
        return cls(
            model=single,
            endpoints=endpoints,
            token=token,
            timeouts=Timeouts.of(timeout),
            retry=RetryPolicy.of(retry),
            headers=headers,
            cookies=dict(cookies or {}),
            provider=None if provider == "auto" else provider,
            resume=resume,
            observers=_check_observers(observers),
            max_concurrency=validate_max_concurrency(max_concurrency),
        )

    def with_options(self, options: Mapping[str, Any]) -> ClientConfig:
        """This configuration with other values for some arguments of `InferenceClient`; headers are added to these.

        Raises:
            ValueError, TypeError: as `from_arguments`; an option that does not exist.
        """
        names = ClientOptions.__annotations__
        if unknown := [name for name in options if name not in names]:
            raise TypeError(f"with_options has no option `{unknown[0]}`; it has: {', '.join(names)}")
        arguments: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        if len(endpoints := arguments.pop("endpoints")) > 1:
            arguments["model"] = endpoints
        arguments |= {"timeout": arguments.pop("timeouts"), "bill_to": None, "base_url": None, "api_key": None}
        for alias, name in {"base_url": "model", "api_key": "token"}.items():
            if alias in options:
                arguments[name] = None
        if "max_retries" in options:
            arguments["retry"] = RetryPolicy()
        arguments.update(options)
        added = "default_headers" if options.get("headers") is None else "headers"
        arguments |= {"headers": options.get("headers"), added: merge_headers(self.headers, options.get(added) or {})}
        return ClientConfig.from_arguments(**arguments)

    @property
    def redacted_model(self) -> str | None:
        """The model as a repr may show it: a URL without its user, password, path and query."""
        return ", ".join(map(origin, self.endpoints)) if self.endpoints else self.model


def merge_headers(*mappings: Mapping[str, str | None]) -> dict[str, str | None]:
    """The headers of all `mappings`. Names are compared without regard to case, and later mappings win.

    White space around a value, such as the line break of a file with a key, is not part of it.

    Raises:
        TypeError: a value is neither a string nor None. The message does not show it.
        ValueError: a name or value has characters that a header must not have, or the header is one of the transport.
    """
    merged: dict[str, tuple[str, str | None]] = {}
    value: Any  # annotations are not checked at run time
    for mapping in mappings:
        for name, value in mapping.items():
            if not isinstance(value, str | None):
                raise TypeError(f"the header {name!r} must be a string or None, not {type(value).__name__}")
            stripped = None if value is None else value.strip(" \t\r\n")
            check_header(name, stripped)
            merged[name.lower()] = (name, stripped)
    return dict(merged.values())


def check_http_client(http_client: Any, *, is_async: bool) -> None:
    """Checks by its methods that a user's client is one of httpx, which is not imported here, or one like it.

    Raises:
        TypeError: it is none, or a synchronous one where an asynchronous one is needed.
    """
    methods = ("build_request", "send", "aclose" if is_async else "close")
    if http_client is not None and not all(hasattr(http_client, name) for name in methods):
        kind = "httpx.AsyncClient" if is_async else "httpx.Client"
        given = f"{type(http_client).__module__}.{type(http_client).__qualname__}"
        raise TypeError(f"http_client= must be an {kind}, or an object with its methods, not one of type {given}")


def _attempts(max_retries: int) -> RetryPolicy:
    # As in RetryPolicy: annotations are not checked at run time.
    if type(max_retries) is not int or max_retries < 0:
        raise ValueError(f"`max_retries` counts the attempts after the first one, 0 or more, not {max_retries!r}")
    return RetryPolicy(attempts=max_retries + 1)


def _check_observers(observers: Any) -> tuple[Any, ...]:
    given: tuple[Any, ...] = (observers,) if callable(observers) else tuple(observers)
    for observer in given:
        if not callable(observer):
            raise TypeError(
                "observers= takes subclasses of CallObserver, or functions that make one for a call, not an object of "
                f"type {type(observer).__name__}"
            )
    return given


def _check_cookies(cookies: Mapping[str, str]) -> None:
    value: Any
    for name, value in cookies.items():
        if not isinstance(value, str):
            raise TypeError(f"the cookie {name!r} must be a string, not {type(value).__name__}")
        text = f"{name}{value}"
        if not HEADER_NAME.fullmatch(name) or ";" in value or not (text.isascii() and text.isprintable()):
            raise ValueError(
                f"the cookie {name!r} has a semicolon, a control character, or one outside ASCII in its name or value: "
                "encode it, for example with urllib.parse.quote"
            )


def _warn_of_bill_to(bill_to: str, headers: Mapping[str, str | None], token: str | bool | None) -> None:
    """Warns where huggingface_hub does."""
    given = next((value for name, value in headers.items() if name.lower() == BILL_TO.lower()), None)
    level = 4  # the call of the client's class
    if given not in (None, bill_to):
        warnings.warn(f"bill_to={bill_to!r} replaces {given!r}, the value in headers=", UserWarning, level)
    if isinstance(token, str) and not token.startswith("hf_"):
        warnings.warn(
            "the token is not one of Hugging Face's (hf_...): the provider bills its owner, and bill_to= has no effect",
            UserWarning,
            level,
        )


def validate_token(token: Any) -> str | bool | None:
    """The token without surrounding white space; False for an empty one.

    Raises:
        TypeError: the token is neither a string, True, False nor None.
        ValueError: the token has characters that are not allowed in a header. The message does not show it.
    """
    if token is None or isinstance(token, bool):
        return token
    if not isinstance(token, str):
        raise TypeError(
            f"the token must be a string, True, False or None, not an object of type {type(token).__name__}: pass the "
            "text itself, for example secret.get_secret_value()"
        )
    token = token.strip()
    if not (token.isascii() and token.isprintable()):
        raise ValueError(
            "the token has characters that are not allowed in a header: a line break, or one outside ASCII"
        )
    return token or False
