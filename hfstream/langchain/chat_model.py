"""The chat model for LangChain, with the client's `chat_completion`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, closing
from operator import itemgetter
from typing import Any, ClassVar, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import ConfigDict, Field

from ..types import ChatCompletion
from .chunks import ChunkConverter
from .clients import ClientFields
from .messages import from_choice, to_request_messages
from .stop_strings import StopStrings

__all__ = ["ChatInferenceClient"]


class ChatInferenceClient(ClientFields, BaseChatModel):
    """A chat model of LangChain that generates with an hfstream client.

        model = ChatInferenceClient(client=InferenceClient("http://127.0.0.1:8080"), temperature=0)
        for chunk in model.stream("How do you make cheese?"): ...

    Arguments are passed by name: the fields below, and LangChain's own, such as `callbacks` and `rate_limiter`. Keyword
    arguments of `invoke` and `stream` take precedence; they are those of the client's `chat_completion`. A stream that
    is not read to its end is closed, and the server stops generating.

    Raises, when it generates: `InferenceError`, see `hfstream.errors`.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")  # LangChain's own would ignore a mistyped name

    temperature: float | None = None
    """0 takes the most likely token each time."""
    max_tokens: int | None = None
    """Maximum number of tokens to generate."""
    top_p: float | None = None
    """Sample from the most likely tokens that together have this probability, 0 to 1."""
    seed: int | None = None
    """Makes sampling repeatable."""
    stop: Sequence[str] | str | None = None
    """Generation ends before the first of these strings that would occur in the content."""
    streaming: bool = False
    """Whether `invoke` streams too, so that callbacks get each token."""
    stream_usage: bool = True
    """Whether a stream asks for its token counts. A server that does not know `stream_options` may refuse it."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Other parameters of `chat_completion`."""

    @property
    def _llm_type(self) -> str:
        return "hfstream-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"base_url": self.base_url, "model": self.model, **self._generation_fields(), **self.model_kwargs}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        client = self.client or self.async_client
        params["ls_provider"] = "hfstream"
        params.setdefault("ls_model_name", (client.model if client is not None else None) or self.base_url or "")
        return params

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        options, strings = self._prepare(stop, kwargs)
        completion = self._sync_client().chat_completion(to_request_messages(messages), **options)
        return _to_result(completion, strings)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        options, strings = self._prepare(stop, kwargs)
        completion = await self._asynchronous_client().chat_completion(to_request_messages(messages), **options)
        return _to_result(completion, strings)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        options, strings = self._prepare_stream(stop, kwargs)
        converter = ChunkConverter(StopStrings(strings))
        with closing(self._sync_client().chat_completion(to_request_messages(messages), **options)) as stream:
            for chunk in stream:
                yield from converter.feed(chunk)
            yield converter.finish(stream)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        options, strings = self._prepare_stream(stop, kwargs)
        converter = ChunkConverter(StopStrings(strings))
        client = self._asynchronous_client()
        async with aclosing(await client.chat_completion(to_request_messages(messages), **options)) as stream:
            async for chunk in stream:
                for converted in converter.feed(chunk):
                    yield converted
            yield converter.finish(stream)

    def _generation_fields(self) -> dict[str, Any]:
        names = ("temperature", "max_tokens", "top_p", "seed")
        return {name: getattr(self, name) for name in names}

    def _prepare(self, stop: list[str] | None, kwargs: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The options of the call, and its stop strings."""
        given = self.stop if stop is None else stop
        strings = [given] if isinstance(given, str) else list(given or [])
        fields = {**self._request_options(), **self._generation_fields(), "stop": strings or None}
        options = {**fields, **self.model_kwargs, **kwargs}
        options.pop("stream", None)  # LangChain's own: whether `invoke` streams
        return options, strings

    def _prepare_stream(self, stop: list[str] | None, kwargs: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        usage = kwargs.pop("stream_usage", self.stream_usage)
        options, strings = self._prepare(stop, kwargs)
        if options.get("n") not in (None, 1):
            raise ValueError("a stream has one answer: use invoke or generate for several (n=)")
        if usage:
            options.setdefault("stream_options", {"include_usage": True})
        return {**options, "stream": True}, strings

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """A model that may call these tools.

        Args:
            tools: functions, pydantic classes, LangChain's tools, or dictionaries in OpenAI's format.
            tool_choice: "any", "required" or True: it must call one; the name of a tool: it must call this one; "auto",
                "none", or a dictionary in OpenAI's format. None: the server decides.
            strict: whether the server must keep to the schemas of the arguments, if it has such a mode.
            kwargs: other parameters of each call, such as `parallel_tool_calls`.
        """
        if tool_choice:
            kwargs["tool_choice"] = "required" if tool_choice in ("any", True) else tool_choice
        return self.bind(tools=[convert_to_openai_tool(tool, strict=strict) for tool in tools], **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: Literal["json_schema", "function_calling", "json_mode"] = "json_schema",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """A model whose answers are objects.

        Args:
            schema: a pydantic class, of which the answers are instances; or a TypedDict, a JSON schema or a tool in
                OpenAI's format, for dictionaries.
            include_raw: the result is ``{"raw": message, "parsed": ..., "parsing_error": ...}``, and an answer that
                does not fit does not raise.
            method: `json_schema` and `json_mode` set `response_format`; `json_mode` asks for any JSON object, and the
                prompt must describe it. `function_calling` makes the schema a tool that must be called.
            strict: as in `bind_tools`.
            kwargs: none.

        Raises:
            ValueError: an unknown method or argument.
        """
        if method == "function_calling":
            return super().with_structured_output(schema, include_raw=include_raw, strict=strict, **kwargs)
        if kwargs or method not in ("json_schema", "json_mode"):
            raise ValueError(f"with_structured_output does not take {kwargs or method}")
        response_format: dict[str, Any] = {"type": "json_object"}
        if method == "json_schema":
            json_schema = convert_to_json_schema(schema)
            described: dict[str, Any] = {"name": json_schema.get("title", "answer"), "schema": json_schema}
            response_format = {
                "type": "json_schema",
                "json_schema": described if strict is None else {**described, "strict": strict},
            }
        model = self.bind(
            response_format=response_format,
            ls_structured_output_format={"kwargs": {"method": method}, "schema": schema},
        )
        is_class = isinstance(schema, type) and is_basemodel_subclass(schema)
        parser: Any = PydanticOutputParser(pydantic_object=schema) if is_class else JsonOutputParser()
        if not include_raw:
            parsed_model: Runnable[LanguageModelInput, Any] = model | parser
            return parsed_model
        parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        structured: Runnable[LanguageModelInput, Any] = RunnableMap(raw=model) | parsed.with_fallbacks(
            [failed], exception_key="parsing_error"
        )
        return structured


def _to_result(completion: ChatCompletion, stop: list[str]) -> ChatResult:
    generations: list[ChatGeneration] = []
    for choice in completion.choices:
        strings = StopStrings(stop)
        content = strings.feed(choice.message.content or "") + strings.finish()
        generations.append(ChatGeneration(message=from_choice(completion, choice, content)))
    return ChatResult(generations=generations, llm_output={"model_name": completion.model, "id": completion.id})
