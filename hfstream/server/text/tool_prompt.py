"""Tools for chat templates that do not know them: as text of the conversation's messages.

The functions are described in a system message, or in the user's last message if the template has no system role; calls
and their results are messages of the assistant and of the user. Does not depend on requests or HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .tool_formats import ToolCallFormat

Messages = list[dict[str, Any]]


def write_tools(
    source: str, messages: Sequence[dict[str, Any]], tools: Sequence[Mapping[str, Any]], call_format: ToolCallFormat
) -> Messages:
    """The messages for the template `source`, with what it does not know of tools written into them."""
    result = list(messages)
    if "tool_calls" not in source:
        result = [_with_calls(message, call_format) for message in result]
    if not _knows_role("tool", source):
        result = [_as_users(message) if message["role"] == "tool" else message for message in result]
    if tools and "tools" not in source:
        result = _with_description(result, _describe(tools, call_format), has_system=_knows_role("system", source))
    return result


def _knows_role(role: str, source: str) -> bool:
    return f"'{role}'" in source or f'"{role}"' in source


def _with_calls(message: dict[str, Any], call_format: ToolCallFormat) -> dict[str, Any]:
    """A message of the assistant with its calls as text."""
    calls: list[dict[str, Any]] = message.get("tool_calls") or []
    if not calls:
        return message
    functions = [call["function"] for call in calls]
    text = call_format.write([(function["name"], function["arguments"]) for function in functions])
    content = "\n".join(filter(None, (message["content"], text)))
    return {**{key: value for key, value in message.items() if key != "tool_calls"}, "content": content}


def _as_users(message: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}


def _describe(tools: Sequence[Mapping[str, Any]], call_format: ToolCallFormat) -> str:
    functions = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    example = json.dumps({"name": "...", call_format.arguments: {}})
    call = ("" if call_format.bare else call_format.begin) + example + call_format.end
    return f"You can call these functions:\n{functions}\nTo call one, answer with its name and arguments:\n{call}"


def _with_description(messages: Messages, description: str, *, has_system: bool) -> Messages:
    first = messages[0]
    if has_system and first["role"] not in ("system", "developer"):
        return [{"role": "system", "content": description}, *messages]
    users = [index for index, message in enumerate(messages) if message["role"] == "user"]
    place = 0 if has_system or not users else users[-1]
    content = f"{messages[place]['content']}\n\n{description}"
    return [*messages[:place], {**messages[place], "content": content}, *messages[place + 1 :]]
