"""The asynchronous ``client.chat.completions`` and ``client.models``, as in openai's client.

Does not depend on how a request is made: each method calls one of the client's.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Unpack, overload

from .. import types
from .._openai_names import unknown_attribute
from .._signatures import coroutine_function, with_parameters_of
from ..core.parameters import ChatCompletionOptions
from ..core.timeouts import TimeoutTypes

if TYPE_CHECKING:
    from .._stream_manager import AsyncStreamManager

__all__ = ["AsyncChat", "AsyncModels"]


class AsyncChatCompletions:
    """``client.chat.completions``, as in openai's client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @overload
    def create(
        self,
        messages: types.Messages,
        *,
        stream: Literal[False] | None = None,
        **options: Unpack[ChatCompletionOptions],
    ) -> Coroutine[Any, Any, types.ChatCompletion]: ...

    @overload
    def create(
        self,
        messages: types.Messages,
        *,
        stream: Literal[True],
        **options: Unpack[ChatCompletionOptions],
    ) -> AsyncStreamManager[types.ChatCompletionChunk]: ...

    @overload
    def create(
        self,
        messages: types.Messages,
        *,
        stream: bool | None = None,
        **options: Unpack[ChatCompletionOptions],
    ) -> Coroutine[Any, Any, types.ChatCompletion] | AsyncStreamManager[types.ChatCompletionChunk]: ...

    @coroutine_function
    @with_parameters_of(ChatCompletionOptions)
    def create(
        self,
        messages: types.Messages,
        *,
        stream: bool | None = None,
        **options: Unpack[ChatCompletionOptions],
    ) -> Any:
        """The client's `chat_completion`."""
        return self._client.chat_completion(messages, stream=stream, **options)

    @with_parameters_of(ChatCompletionOptions)
    async def parse(self, messages: types.Messages, **options: Unpack[ChatCompletionOptions]) -> types.ChatCompletion:
        """The client's `chat_completion`, whose content must validate as the type passed as `response_format`.

        The object is ``completion.parsed``, and the `parsed` of each message.

        Raises:
            UnexpectedResponseError: the content does not validate.
            InferenceError: what `chat_completion` raises.
        """
        completion: types.ChatCompletion = await self._client.chat_completion(messages, **options)
        for choice in completion.choices:
            choice.message.parse_as(choice.message.content, choice.finish_reason)
        return completion

    if not TYPE_CHECKING:  # type checkers report an unknown name by themselves

        def __getattr__(self, name: str) -> NoReturn:
            raise unknown_attribute(self, name, "chat.completions")


class AsyncChat:
    """``client.chat``."""

    def __init__(self, client: Any) -> None:
        self.completions: AsyncChatCompletions = AsyncChatCompletions(client)


class AsyncModels:
    """``client.models``, as in openai's client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def list(self, *, timeout: TimeoutTypes = None) -> types.ModelList:
        """The client's `list_models`; the result can be iterated over, and has it as `data` too."""
        return types.ModelList(await self._client.list_models(timeout=timeout))

    if not TYPE_CHECKING:  # as above

        def __getattr__(self, name: str) -> NoReturn:
            raise unknown_attribute(self, name, "models")
