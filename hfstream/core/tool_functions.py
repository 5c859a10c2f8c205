"""The functions that a model may call: found by name, with arguments that are validated before the call.

Does not depend on the conversation, nor on how a function is called.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import pydantic
from pydantic import TypeAdapter
from pydantic_core import to_json

from ..types import ChatCompletionToolCall
from .schemas import list_tools, make_tool

__all__ = ["InvalidToolCallError", "ToolFunctions", "result_text"]


class InvalidToolCallError(ValueError):
    """A call that names no tool, or whose arguments do not fit; the message is for the model."""


class ToolFunctions:
    """The `tools` of `run_tools`. `definitions` are what is sent of them.

    `may_await` is whether functions may be async.

    Raises:
        TypeError: a tool that cannot be sent, or cannot be called here.
    """

    def __init__(self, tools: Any, *, may_await: bool) -> None:
        self.definitions: list[Any] = []
        self._prepare: dict[str, Callable[[str], Callable[[], Any]]] = {}
        for tool in list_tools(tools):
            definition = make_tool(tool)
            self.definitions.append(definition)
            if isinstance(tool, Mapping):
                _check_is_run_by_the_server(cast("Mapping[str, Any]", tool))
                continue
            name = definition["function"]["name"]
            if name in self._prepare:
                raise TypeError(f"two tools have the name {name!r}: the model could not tell them apart")
            self._prepare[name] = _preparation(name, tool, may_await=may_await)

    def prepare(self, call: ChatCompletionToolCall) -> Callable[[], Any]:
        """The function for a call, with its arguments.

        Raises:
            InvalidToolCallError: no tool has this name, or the arguments do not fit.
        """
        name, arguments = call.function.name, call.function.arguments
        prepare = self._prepare.get(name)
        if prepare is None:
            names = ", ".join(self._prepare) or "none"
            raise InvalidToolCallError(f"there is no tool {name!r}; the tools are: {names}")
        try:
            # Some servers, and some models, write nothing or null for no arguments.
            return prepare("{}" if arguments.strip() in ("", "null") else arguments)
        except pydantic.ValidationError as error:
            reasons = "; ".join(_reasons(error))
            raise InvalidToolCallError(f"the arguments of {name} are not valid: {reasons}") from error


def result_text(result: Any) -> str:
    """What a tool returned, as the content of a message: a string as it is, anything else as JSON.

    Lone surrogates, which Python has for what is no UTF-8 in a file's name, become U+FFFD: they cannot be sent.

    Raises:
        ValueError: it cannot be written as JSON.
    """
    if not isinstance(result, str):
        return to_json(result).decode()
    return result.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _check_is_run_by_the_server(tool: Mapping[str, Any]) -> None:
    if tool.get("type", "function") == "function":
        raise TypeError(
            f"run_tools needs functions that it can call, not only their description: {json.dumps(tool, default=str)}"
        )


def _preparation(name: str, tool: Any, *, may_await: bool) -> Callable[[str], Callable[[], Any]]:
    """What makes a call of `tool` out of JSON arguments."""
    is_class = isinstance(tool, type)
    if is_class:  # not getattr(): a class itself has a __call__, which makes its objects
        function = next((vars(base)["__call__"] for base in tool.__mro__ if "__call__" in vars(base)), None)
        if function is None:
            raise TypeError(f"run_tools calls the objects of the class {name}: give it a method __call__")
    else:
        function = tool if inspect.isroutine(tool) else tool.__call__
    if inspect.iscoroutinefunction(function) and not may_await:
        raise TypeError(f"the tool {name} is async: use AsyncInferenceClient, or a function made with plain `def`")
    if is_class:
        objects: TypeAdapter[Any] = TypeAdapter(tool)
        return lambda arguments: cast("Callable[[], Any]", objects.validate_json(arguments).__call__)

    # pydantic calls a function with the arguments that it has validated. This one has the same parameters, and returns
    # them, so that what the tool itself raises is not taken for invalid arguments.
    @functools.wraps(function)
    def bind(*args: Any, **kwargs: Any) -> Callable[[], Any]:
        return functools.partial(function, *args, **kwargs)

    arguments: TypeAdapter[Any] = TypeAdapter(cast("Any", bind))
    return arguments.validate_json


def _reasons(error: pydantic.ValidationError) -> Iterator[str]:
    for found in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(map(str, found["loc"]))
        yield f"{place}: {found['msg']}" if place else found["msg"]
