"""The LLM for LangChain: text in, text out, with the client's `text_generation`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, closing
from typing import Any, ClassVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.llms import LLM
from langchain_core.outputs import GenerationChunk
from pydantic import ConfigDict, Field

from .clients import ClientFields
from .stop_strings import StopStrings

__all__ = ["InferenceClientLLM"]


class InferenceClientLLM(ClientFields, LLM):
    """An LLM of LangChain that continues texts with an hfstream client.

        llm = InferenceClientLLM(client=InferenceClient("http://127.0.0.1:8080"), max_new_tokens=40)
        for text in llm.stream("How do you make cheese?"): ...

    Arguments are passed by name: the fields below, and LangChain's own, such as `callbacks`. Keyword arguments of
    `invoke` and `stream` take precedence; they are those of the client's `text_generation`. A stream that is not read
    to its end is closed, and the server stops generating.

    Raises, when it generates: `InferenceError`, see `hfstream.errors`.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")  # LangChain's own would ignore a mistyped name

    max_new_tokens: int | None = None
    """Maximum number of tokens to generate."""
    temperature: float | None = None
    """Above 0; None takes the most likely token each time, unless the server has another default."""
    top_k: int | None = None
    """Sample from the k most likely tokens only."""
    top_p: float | None = None
    """Sample from the most likely tokens that together have this probability, 0 to 1."""
    seed: int | None = None
    """Makes sampling repeatable."""
    stop: Sequence[str] | None = None
    """Generation ends before the first of these strings that would occur in the text."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Other parameters of `text_generation`."""

    @property
    def _llm_type(self) -> str:
        return "hfstream"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        names = ("base_url", "model", "max_new_tokens", "temperature", "top_k", "top_p", "seed", "model_kwargs")
        return {name: getattr(self, name) for name in names}

    def _call(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        options, strings = self._prepare(stop, kwargs)
        text = self._sync_client().text_generation(prompt, **options)
        return strings.feed(text) + strings.finish()

    async def _acall(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        options, strings = self._prepare(stop, kwargs)
        text = await self._asynchronous_client().text_generation(prompt, **options)
        return strings.feed(text) + strings.finish()

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        options, strings = self._prepare(stop, kwargs)
        with closing(self._sync_client().text_generation(prompt, stream=True, **options)) as stream:
            for text in filter(None, strings.cut(stream)):
                if run_manager is not None:
                    run_manager.on_llm_new_token(text)
                yield GenerationChunk(text=text)

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        options, strings = self._prepare(stop, kwargs)
        opened = await self._asynchronous_client().text_generation(prompt, stream=True, **options)
        async with aclosing(opened) as stream, aclosing(strings.cut_async(stream)) as texts:
            async for text in texts:
                if text:
                    if run_manager is not None:
                        await run_manager.on_llm_new_token(text)
                    yield GenerationChunk(text=text)

    def _prepare(self, stop: list[str] | None, kwargs: dict[str, Any]) -> tuple[dict[str, Any], StopStrings]:
        """The options of the call, and what cuts its text off."""
        names = ("max_new_tokens", "temperature", "top_k", "top_p", "seed")
        fields = {name: getattr(self, name) for name in names}
        strings = list(stop if stop is not None else self.stop or [])
        options = {**self._request_options(), **fields, **self.model_kwargs, "stop": strings or None, **kwargs}
        return options, StopStrings(strings)
