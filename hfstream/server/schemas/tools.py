"""`tools`, `tool_choice` and `parallel_tool_calls` of a chat: which functions there are, and which must be called.

Does not depend on HTTP, on chat templates, or on how models write calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from hfstream.errors import ValidationError

from .grammar import exceeds

MAX_TOOLS = 128
"""OpenAI's limit."""
MAX_NAME = 64
"""OpenAI's limit of the characters of a function's name."""


@dataclass(frozen=True)
class ToolUse:
    """The functions of a chat."""

    tools: Sequence[Mapping[str, Any]]
    """As chat templates read them, which is as they were sent."""
    functions: Mapping[str, Mapping[str, Any]]
    """The schemas of the arguments of those that may be called, by their names."""
    required: bool
    """Whether the answer must be a call, or several."""
    parallel: bool
    """Whether it may be several."""


def parse_tools(tools: Sequence[object] | None, choice: object, *, parallel: bool | None) -> ToolUse | None:
    """The functions that a request offers; None if there are none, or none may be called.

    Raises:
        ValidationError: something is no tool, or no choice among them.
    """
    if not tools or choice == "none":
        _check_choice(choice, ())
        return None
    if len(tools) > MAX_TOOLS:
        raise _refused(f"`tools` must have at most {MAX_TOOLS} functions. Given: {len(tools)}")
    functions = dict(_function(number, tool) for number, tool in enumerate(tools))
    if len(functions) < len(tools):
        raise _refused("`tools` must have different names")
    name = _check_choice(choice, functions)
    return ToolUse(
        tools=[cast("Mapping[str, Any]", tool) for tool in tools],
        functions=functions if name is None else {name: functions[name]},
        required=name is not None or choice == "required",
        parallel=parallel is not False and name is None,
    )


def _function(number: int, tool: object) -> tuple[str, Mapping[str, Any]]:
    match tool:
        case {"type": "function", "function": {"name": str(name)}} if name and len(name) <= MAX_NAME:
            pass
        case {"type": str(kind)} if kind != "function":
            raise _refused(f"`tools` of type {kind[:100]!r} are not supported, only functions are")
        case _:
            raise _refused(
                f"`tools` must be functions with names of 1 to {MAX_NAME} characters. Number {number} is not"
            )
    parameters: object = cast("Any", tool)["function"].get("parameters")
    if not parameters:
        parameters = {"type": "object", "properties": {}}
    if not isinstance(parameters, dict):
        raise _refused(f"`tools` must have parameters that are a JSON schema. Those of {name!r} are not")
    if limit := exceeds(cast("object", parameters)):
        raise _refused(f"`tools` must have schemas of {limit}. That of {name!r} has more")
    return name, cast("dict[str, Any]", parameters)


def _check_choice(choice: object, names: Mapping[str, object] | Sequence[str]) -> str | None:
    """The name of the one function that must be called, if the choice is one."""
    match choice:
        case None | "auto" | "none":
            return None
        case "required":
            if names:
                return None
            raise _refused("`tool_choice` must be `auto` or `none` where there are no `tools`")
        case {"function": {"name": str(name)}} | str(name):  # TGI takes the name alone
            if name in names:
                return name
            raise ValidationError(f"Tool error: Tool with name {name[:100]} not found", error_type="tool_error")
        case _:
            raise _refused("`tool_choice` must be `auto`, `none`, `required`, or a function by its name")


def _refused(message: str) -> ValidationError:
    return ValidationError(f"Input validation error: {message}")
