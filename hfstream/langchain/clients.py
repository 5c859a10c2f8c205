"""The fields that name a client, common to the chat model and the LLM. Does not depend on what is generated."""

from __future__ import annotations

from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from .. import AsyncInferenceClient, InferenceClient

__all__ = ["ClientFields"]

ClientT = TypeVar("ClientT", InferenceClient, AsyncInferenceClient)


class ClientFields(BaseModel):
    """The clients, or what to make them of."""

    model_config: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    client: InferenceClient | None = Field(default=None, exclude=True)
    """For `invoke`, `stream` and `batch`. None: one like `async_client`."""
    async_client: AsyncInferenceClient | None = Field(default=None, exclude=True)
    """For `ainvoke`, `astream` and `abatch`. None: one like `client`."""
    base_url: str | None = None
    """The server's URL, if neither client is passed."""
    api_key: SecretStr | None = None
    """The token, if neither client is passed."""
    model: str | None = None
    """The name of the model at that server, or an id on the Hugging Face Hub. None: the client's."""
    timeout: Any = None
    """The time limits of a request, as in the client's calls. None: the client's."""
    max_retries: int | None = None
    """The number of attempts without the first. None: the client's."""

    @model_validator(mode="after")
    def _check_clients(self) -> Self:
        has_client = self.client is not None or self.async_client is not None
        if has_client and (self.base_url is not None or self.api_key is not None):
            raise ValueError("`base_url` and `api_key` are for a model without a client: pass them to the client")
        if not has_client and self.base_url is None and self.model is None:
            raise ValueError("pass client=, async_client= or base_url=")
        return self

    def _sync_client(self) -> InferenceClient:
        if self.client is None:
            self.client = self._make(InferenceClient, self.async_client)
        return self._with_retries(self.client)

    def _asynchronous_client(self) -> AsyncInferenceClient:
        if self.async_client is None:
            self.async_client = self._make(AsyncInferenceClient, self.client)
        return self._with_retries(self.async_client)

    def _make(self, kind: type[ClientT], other: InferenceClient | AsyncInferenceClient | None) -> ClientT:
        if other is not None:
            return kind._with_configuration_of(other)
        key = None if self.api_key is None else self.api_key.get_secret_value()
        return kind(base_url=self.base_url, api_key=key)

    def _with_retries(self, client: ClientT) -> ClientT:
        return client if self.max_retries is None else client.with_options(max_retries=self.max_retries)

    def _request_options(self) -> dict[str, Any]:
        return {"model": self.model, "timeout": self.timeout}
