"""The method `run_tools` for the synchronous client. Does not depend on how a conversation goes on (`tool_stream`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from .. import types
from .._signatures import with_parameters_of
from ..core.parameters import RunToolsOptions
from .mapping_client import MappingClient

if TYPE_CHECKING:
    from .tool_stream import ToolRunStream

__all__ = ["ToolsClient"]


class ToolsClient(MappingClient):
    """A client whose models call functions."""

    @overload
    def run_tools(
        self,
        messages: types.Messages,
        tools: Sequence[Callable[..., Any] | Mapping[str, Any]],
        *,
        stream: Literal[False] | None = None,
        max_rounds: int = 10,
        on_tool_error: Literal["return", "raise"] = "return",
        **options: Unpack[RunToolsOptions],
    ) -> types.ToolRunCompletion: ...

    @overload
    def run_tools(
        self,
        messages: types.Messages,
        tools: Sequence[Callable[..., Any] | Mapping[str, Any]],
        *,
        stream: Literal[True],
        max_rounds: int = 10,
        on_tool_error: Literal["return", "raise"] = "return",
        **options: Unpack[RunToolsOptions],
    ) -> ToolRunStream: ...

    @overload
    def run_tools(
        self,
        messages: types.Messages,
        tools: Sequence[Callable[..., Any] | Mapping[str, Any]],
        *,
        stream: bool | None = None,
        max_rounds: int = 10,
        on_tool_error: Literal["return", "raise"] = "return",
        **options: Unpack[RunToolsOptions],
    ) -> types.ToolRunCompletion | ToolRunStream: ...

    @with_parameters_of(RunToolsOptions)
    def run_tools(
        self,
        messages: types.Messages,
        tools: Sequence[Callable[..., Any] | Mapping[str, Any]],
        *,
        stream: bool | None = None,
        max_rounds: int = 10,
        on_tool_error: Literal["return", "raise"] = "return",
        **options: Unpack[RunToolsOptions],
    ) -> Any:
        """Asks the model, calls the functions that it asks for, and asks again until it has an answer.

        The calls of one message are made one after another, in the model's order. An client awaits async
        functions, and calls all others in a thread. The time limits are those of the requests: a function may take as
        long as it likes.

        Args:
            messages: the conversation so far. It is not changed: the result has one of its own. If it ends with calls
                without results, as that of a `ToolError` may, these are made first.
            tools: functions, and pydantic classes with a method ``__call__``. Arguments are validated by the
                annotations. Dictionaries are for tools that the server itself runs.
            stream: return a stream of the chunks of all rounds, instead of the last completion.
            max_rounds: how many requests are made at most.
            on_tool_error: what becomes of an error of a function, an unknown name, and arguments that are not valid:
                "return" tells the model, as the result of the call; "raise" ends the conversation.
            options: those of `chat_completion`. A `tool_choice` that forces a call is for the first request only.

        Returns:
            A `ToolRunCompletion`: the last completion, with the whole conversation as `messages`. With `stream` a
            stream of `ChatCompletionChunk`, whose `final()` returns it.

        Raises:
            ToolError: a call failed, with ``on_tool_error="raise"``, or `max_rounds` was not enough. It has the
                conversation so far.
            InferenceError: a request failed. The conversation so far is kept with ``stream=True`` only, as the
                `messages` of the stream.
            TypeError: a tool that cannot be called, or an unknown parameter.
            ValueError: an invalid `max_rounds` or `on_tool_error`, or no model.
        """
        # What is not needed to make a client is imported later.
        from ..core.tool_run import ToolRun  # noqa: PLC0415
        from .tool_stream import ToolRunStream  # noqa: PLC0415

        run = ToolRun(messages, tools, options, max_rounds=max_rounds, on_tool_error=on_tool_error, may_await=False)
        tool_stream = ToolRunStream(self._http, self._requests, run, streamed=bool(stream))
        return tool_stream.open() if stream else self._read_run(tool_stream)

    def _read_run(self, tool_stream: ToolRunStream) -> types.ToolRunCompletion:
        with tool_stream:
            return tool_stream.final()
