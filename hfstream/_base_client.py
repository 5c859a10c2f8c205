"""The part of both clients that does not call a server: what they were made with, copying and pickling.

Does not depend on how requests are sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, Unpack

from ._config import ClientConfig, ClientOptions
from ._openai_names import unknown_attribute
from .core.timeouts import Timeouts

if TYPE_CHECKING:
    from ._request_factory import RequestFactory

__all__ = ["BaseClient"]


class BaseClient:
    """What a client was made with. Read-only: a client with other settings is another client."""

    _config: ClientConfig
    _http_client: Any

    _made_requests: RequestFactory

    @property
    def _requests(self) -> RequestFactory:
        """Made on its first use, because most modules of hfstream are imported for it."""
        try:
            return self._made_requests
        except AttributeError:  # two threads may be here at once: both get what one of them has made
            from ._request_factory import RequestFactory  # noqa: PLC0415

            made: RequestFactory = self.__dict__.setdefault("_made_requests", RequestFactory(self._config))
            return made

    @property
    def _http(self) -> Any:
        raise NotImplementedError

    def with_options(self, **options: Unpack[ClientOptions]) -> Self:
        """A client with other settings, and otherwise those of this one: ``client.with_options(timeout=5)``.

        Headers are added to the client's; of the other options each replaces the client's. The two clients share their
        connections, so that closing one of them closes both, and `max_concurrency` unless it is among the options.

        Raises:
            TypeError, ValueError: as for a new client.
        """
        changed = self.__copy__()
        changed._config = self._config.with_options(options)
        changed.__dict__["_made_http"] = self._http
        if "max_concurrency" not in options:
            changed._requests.limiter = self._requests.limiter
        return changed

    @property
    def model(self) -> str | None:
        """The URL or model id for calls without a `model` of their own."""
        return self._config.model

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The URLs of the servers that requests are sent to, `model` the first of them; empty for a model id."""
        return self._config.endpoints

    @property
    def base_url(self) -> str | None:
        """Another name for `model`."""
        return self._config.model

    @property
    def token(self) -> str | bool | None:
        """The token as it was given; None if it comes from the environment, False for none."""
        return self._config.token

    @property
    def api_key(self) -> str | bool | None:
        """Another name for `token`."""
        return self._config.token

    @property
    def headers(self) -> Mapping[str, str | None]:
        """The headers that were given, with the one of `bill_to`. The values do not show when they are printed."""
        return _Redacted(self._config.headers)

    @property
    def cookies(self) -> Mapping[str, str]:
        """The cookies that were given. The values do not show when they are printed."""
        return _Redacted(self._config.cookies)

    @property
    def timeout(self) -> Timeouts:
        """The time limits for calls without a `timeout` of their own."""
        return self._config.timeouts

    @property
    def provider(self) -> str | None:
        """The provider behind the Hugging Face router; None if the router chooses."""
        return self._config.provider

    @property
    def max_concurrency(self) -> int | Literal["adaptive"] | None:
        """How many requests may run at once; None for no limit."""
        return self._config.max_concurrency

    @classmethod
    def _with_configuration_of(cls, client: BaseClient) -> Self:
        """A client of this class with the configuration of one that may be of the other, and its own connections.

        Raises:
            ValueError: `client` has an `http_client`, which this class may not be able to use.
        """
        if client._http_client is not None:
            raise ValueError(
                f"the client has an http_client= of its own, with which no {cls.__name__} can be made: pass that too"
            )
        made = cls.__new__(cls)
        made._config, made._http_client = client._config, None
        return made

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self._settings())
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()  # the settings are immutable, and an http_client is shared as its user shares it

    def __getstate__(self) -> dict[str, Any]:
        if self._http_client is not None:
            raise TypeError(
                "a client with an http_client= of yours cannot be pickled, because its connections belong to this "
                "process: make the client in the process that uses it"
            )
        return self._settings()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def _settings(self) -> dict[str, Any]:
        """All but what a copy does not share with the original: connections, and the state of retries."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_made_requests", "_made_http")}

    if not TYPE_CHECKING:  # type checkers report an unknown name by themselves

        def __getattr__(self, name: str) -> NoReturn:
            raise unknown_attribute(self, name, "client")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self._config.redacted_model!r})"


class _Redacted(Mapping[str, Any]):
    """A read-only view of a mapping whose repr shows the names only."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self._values, "[redacted]"))
