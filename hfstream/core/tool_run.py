"""A conversation in which the model calls tools: what is asked next, and which calls are due. No I/O.

A driver (`AsyncToolRunStream`, `ToolRunStream`) sends the requests and calls the functions; it decides nothing::

    while run.completion is None:
        for call in run.take_calls():
            try:
                run.add_result(call, run.prepare(call)())
            except Exception as error:
                run.add_error(call, error)
        run.receive(send(run.messages, run.next_options()))
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Literal

from ..errors import ToolError
from ..types import ChatCompletion, ChatCompletionToolCall, Messages, ToolRunCompletion
from .chat_completion import check_messages
from .parameters import ChatCompletionOptions, RunToolsOptions
from .tool_functions import InvalidToolCallError, ToolFunctions, result_text

__all__ = ["OnToolError", "ToolRun"]

logger: logging.Logger = logging.getLogger("hfstream")

_CUT_OFF = "; the message was cut off at its token limit"

OnToolError = Literal["return", "raise"]


class ToolRun:
    """The rounds of one conversation. A round is a request, its response, and the calls in it.

    Raises:
        TypeError: `messages` or `tools` of another type, or a tool that cannot be called.
        ValueError: an invalid `max_rounds`, `on_tool_error` or `n`.
    """

    def __init__(
        self,
        messages: Messages,
        tools: Any,
        options: RunToolsOptions,
        *,
        max_rounds: int,
        on_tool_error: OnToolError,
        may_await: bool,
    ) -> None:
        check_messages(messages)
        if max_rounds < 1:
            raise ValueError(f"`max_rounds` is at least 1, not {max_rounds}")
        if on_tool_error not in ("return", "raise"):
            raise ValueError(f'`on_tool_error` is "return" or "raise", not {on_tool_error!r}')
        if options.get("n") not in (None, 1):
            raise ValueError("run_tools continues one conversation: leave `n` out")
        self.messages: list[Any] = list(messages)
        self.rounds: int = 0
        self.completion: ToolRunCompletion | None = None
        """The last one; None as long as the model calls tools."""
        self._functions = ToolFunctions(tools, may_await=may_await)
        self._options = options
        self._max_rounds = max_rounds
        self._on_tool_error = on_tool_error
        self._calls = _calls_without_result(self.messages)
        self._cut_off = False  # whether the latest message ended at its token limit

    def take_calls(self) -> list[ChatCompletionToolCall]:
        """The calls that are due, in the model's order."""
        calls, self._calls = self._calls, []
        return calls

    def prepare(self, call: ChatCompletionToolCall) -> Callable[[], Any]:
        """The function of a call, with its arguments.

        Raises:
            InvalidToolCallError: no tool has this name, or the arguments do not fit.
        """
        return self._functions.prepare(call)

    def add_result(self, call: ChatCompletionToolCall, result: Any) -> None:
        """Appends what the function of a call returned.

        Raises:
            ValueError: it cannot be written as JSON.
        """
        self.messages.append({"role": "tool", "tool_call_id": call.id, "content": result_text(result)})

    def add_error(self, call: ChatCompletionToolCall, error: Exception) -> None:
        """Appends, or raises, what went wrong with a call.

        Raises:
            ToolError: with ``on_tool_error="raise"``.
        """
        name = call.function.name
        if isinstance(error, InvalidToolCallError):
            text = f"{error}{_CUT_OFF if self._cut_off else ''}"
        else:
            text = f"{type(error).__name__}: {error}"
        if self._on_tool_error == "raise":
            message = f"the call of the tool {name!r} failed: {text}"
            raise ToolError(message, messages=tuple(self.messages), tool_call=call) from error
        logger.warning("the call of the tool %r failed, the model is told: %s", name, type(error).__name__)
        self.add_result(call, f"Error: {text}")

    def next_options(self) -> ChatCompletionOptions:
        """The options of the next request."""
        self.rounds += 1
        options: ChatCompletionOptions = {**self._options, "tools": self._functions.definitions or None}
        if self.rounds > 1 and options.get("tool_choice") not in ("auto", "none"):
            options.pop("tool_choice", None)  # a tool that must be called would be called in every round
        return options

    def receive(self, completion: ChatCompletion) -> None:
        """Takes the response: the last one, or calls that are due.

        Raises:
            ToolError: there are calls, but no further round is allowed.
        """
        message = completion.choices[0].message
        self._cut_off = completion.choices[0].finish_reason == "length"
        self._calls = _with_own_ids(message.tool_calls or (), self.rounds)
        self.messages.append(message.model_copy(update={"tool_calls": self._calls}) if self._calls else message)
        if not self._calls:
            self.completion = ToolRunCompletion.of(completion, self.messages)
        elif self.rounds >= self._max_rounds:
            names = ", ".join(call.function.name for call in self._calls)
            raise ToolError(
                f"the model still calls tools ({names}) after max_rounds={self._max_rounds}: allow more, or see in "
                "`messages` of this error why it does not come to an end",
                messages=tuple(self.messages),
            )


def _with_own_ids(calls: Iterable[ChatCompletionToolCall], round_number: int) -> list[ChatCompletionToolCall]:
    """The calls of a message, with ids made up for those that have none, or that of another: results refer to them."""
    found: dict[str, ChatCompletionToolCall] = {}
    for number, call in enumerate(calls):
        is_own = call.id and call.id not in found
        own_id = call.id if is_own else f"call{round_number:02}{number:03}"  # Mistral's template takes 9 characters
        found[own_id] = call if is_own else call.model_copy(update={"id": own_id})
    return list(found.values())


def _calls_without_result(messages: list[Any]) -> list[ChatCompletionToolCall]:
    """The calls in the last message of the model, if what follows it are only results, and not of all calls."""
    answered: set[Any] = set()
    for message in reversed(messages):
        fields: dict[str, Any] = dict(message)
        if fields.get("role") != "tool":
            calls = fields.get("tool_calls") if fields.get("role") == "assistant" else None
            found = [ChatCompletionToolCall.model_validate(call) for call in calls or ()]
            return [call for call in found if call.id not in answered]
        answered.add(fields.get("tool_call_id"))
    return []
