"""A request to a model in the terms of rules: its route, the last message, the tools it offers.

Reads TGI's and OpenAI's formats as far as rules need it. Does not depend on rules or answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from ..request import Request
from .json_values import is_array, is_object

__all__ = ["MAX_LIKELIEST", "InvalidModelRequestError", "ModelRequest", "Route", "read_model_request", "route_of"]


MAX_LIKELIEST = 20
"""Tokens that a request may ask for at each place, as with OpenAI."""


class Route(Enum):
    """A route that generates; the value is the end of its path."""

    GENERATE = "/generate"
    GENERATE_STREAM = "/generate_stream"
    COMPAT = "/"
    CHAT = "/chat/completions"
    COMPLETIONS = "/completions"
    RESPONSES = "/responses"

    @property
    def is_openai(self) -> bool:
        """Whether it has OpenAI's format."""
        return self in (Route.CHAT, Route.COMPLETIONS, Route.RESPONSES)

    @property
    def is_chat(self) -> bool:
        """Whether it can carry calls of tools."""
        return self in (Route.CHAT, Route.RESPONSES)


class InvalidModelRequestError(ValueError):
    """A request that a real server would refuse."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class ModelRequest:
    """What a request asks of a model."""

    route: Route
    path: str
    body: Mapping[str, Any]
    text: str
    """The last message's text, or the prompt."""
    role: str
    """The last message's role; ``"user"`` for a prompt."""
    prompt: str
    """All that the model would read: the texts of all messages, or the prompt."""
    model: str | None = None
    tools: Sequence[str] = ()
    """The names of the tools that are offered."""
    stream: bool = False

    @cached_property
    def folded_text(self) -> str:
        """The last message's text without upper and lower case."""
        return self.text.casefold()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The parameters of TGI's own routes."""
        parameters = self.body.get("parameters")
        return parameters if is_object(parameters) else {}


def route_of(path: str) -> Route | None:
    """The route of a path, whatever it has in front; None for a path that is no route of a model."""
    path = path.partition("?")[0].rstrip("/") or "/"
    if path == "/":
        return Route.COMPAT
    ends = [route for route in Route if route is not Route.COMPAT and path.endswith(route.value)]
    return max(ends, key=lambda route: len(route.value), default=None)


def read_model_request(request: Request, route: Route) -> ModelRequest:
    """Reads the body.

    Raises:
        InvalidModelRequestError: It is not JSON, or lacks what the route needs.
    """
    try:
        body = request.json()
    except (ValueError, RecursionError) as error:
        raise InvalidModelRequestError(f"Failed to parse the request body as JSON: {error}", 400) from error
    if not is_object(body):
        raise InvalidModelRequestError("the request body must be a JSON object")
    fields: dict[str, Any] = body
    path = request.path.partition("?")[0]
    if not route.is_openai:
        return _read_native(route, path, fields)
    model = _optional(fields, "model", str)
    stream = bool(_optional(fields, "stream", bool))
    if fields.get("n") not in (None, 1):
        raise InvalidModelRequestError("`n` must be 1: the mock has one answer for a request")
    if route is Route.COMPLETIONS:
        _check_count(fields, "logprobs")
        prompt = _prompt(fields)
        return ModelRequest(route, path, fields, prompt, "user", prompt, model, stream=stream)
    _optional(fields, "logprobs", bool)
    _check_count(fields, "top_logprobs")
    messages = _messages(fields) if route is Route.CHAT else _items(fields)
    role, text = messages[-1]
    prompt = "\n".join(text for _, text in messages)
    return ModelRequest(route, path, fields, text, role, prompt, model, _tools(fields), stream)


def _read_native(route: Route, path: str, body: Mapping[str, Any]) -> ModelRequest:
    inputs = body.get("inputs")
    if not isinstance(inputs, str):
        raise InvalidModelRequestError("`inputs` must be a string")
    if not inputs:
        raise InvalidModelRequestError("Input validation error: `inputs` cannot be empty")
    _check_count(_optional(body, "parameters", dict) or {}, "top_n_tokens")
    stream = route is Route.GENERATE_STREAM or (route is Route.COMPAT and bool(_optional(body, "stream", bool)))
    return ModelRequest(route, path, body, inputs, "user", inputs, stream=stream)


def _optional(body: Mapping[str, Any], name: str, kind: type) -> Any:
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise InvalidModelRequestError(f"`{name}` must be a {kind.__name__}")
    return value


def _check_count(body: Mapping[str, Any], name: str) -> None:
    """Checks how many of the likeliest tokens are asked for."""
    value = body.get(name)
    if value is not None and not (isinstance(value, int) and 0 <= value <= MAX_LIKELIEST):
        raise InvalidModelRequestError(f"`{name}` must be a number from 0 to {MAX_LIKELIEST}")


def _prompt(body: Mapping[str, Any]) -> str:
    prompt = body.get("prompt")
    if is_array(prompt) and len(prompt) == 1:
        [prompt] = prompt
    if is_array(prompt):
        raise InvalidModelRequestError("`prompt` must be one text: the mock has one answer for a request")
    if not isinstance(prompt, str):
        raise InvalidModelRequestError("`prompt` must be a string")
    return prompt


def _messages(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Role and text of each message of a chat."""
    messages = body.get("messages")
    if not is_array(messages) or not messages:
        raise InvalidModelRequestError("`messages` must be a list of at least one message")
    if not all(is_object(message) for message in messages):
        raise InvalidModelRequestError("each of `messages` must be an object")
    return [(str(message.get("role", "user")), _text(message.get("content"))) for message in messages]


def _items(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Role and text of each item of a request to /v1/responses. A tool's output has the role ``"tool"``."""
    items: Any = body.get("input")
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    if not is_array(items) or not items or not all(is_object(item) for item in items):
        raise InvalidModelRequestError("`input` must be a string or a list of items")
    instructions = body.get("instructions")
    read = [("system", instructions)] if isinstance(instructions, str) else []
    for item in items:
        if item.get("type") == "function_call_output":
            read.append(("tool", _text(item.get("output"))))
        else:
            read.append((str(item.get("role", "assistant")), _text(item.get("content", item.get("arguments")))))
    return read


def _text(content: Any) -> str:
    """The text of a message's content, which may be a list of parts."""
    if isinstance(content, str):
        return content
    if is_array(content):
        parts: list[Any] = content
        texts = [part.get("text") for part in parts if is_object(part)]
        return "".join(text for text in texts if isinstance(text, str))
    return "" if content is None else json.dumps(content, ensure_ascii=False)


def _tools(body: Mapping[str, Any]) -> list[str]:
    """The names of the tools: OpenAI's chats have them within `function`, its responses beside `type`."""
    tools = body.get("tools")
    entries: list[Any] = tools if is_array(tools) else []
    functions = [tool.get("function", tool) for tool in entries if is_object(tool)]
    names = [function.get("name") for function in functions if is_object(function)]
    return [name for name in names if isinstance(name, str)]
