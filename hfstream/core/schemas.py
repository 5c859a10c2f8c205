"""JSON schemas of Python types, and tools made of classes and functions. pydantic's TypeAdapter does the work.

Does not depend on where in a request they stand.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, cast, get_origin

from pydantic import BaseModel, PydanticUserError, TypeAdapter

from .docstrings import split_docstring

__all__ = [
    "find_schema_type",
    "is_schema_type",
    "json_schema",
    "list_tools",
    "make_tool",
    "make_tool_choice",
    "make_tools",
    "schema_name",
]

_NAME = re.compile(r"[\w-]{1,64}", re.ASCII)
"""What OpenAI takes as a tool's name."""


def is_schema_type(value: Any) -> bool:
    """Whether `value` is a type, and so sent as its JSON schema: a class, ``list[X]``, a union, a Literal, ..."""
    return (
        isinstance(value, type | TypeAdapter)
        or get_origin(value) is not None
        or type(value).__module__ == "typing"  # NewType, `type X = ...`
    )


def find_schema_type(value: Any) -> Any:
    """The type in a `grammar` or `response_format`: the value itself, or in place of the schema in it; else None."""
    if is_schema_type(value):
        return value
    if not isinstance(value, Mapping):
        return None
    inner = cast("Mapping[str, Any]", value)
    keys = ("value", "schema", "json_schema")
    return next((found for key in keys if (found := find_schema_type(inner.get(key))) is not None), None)


def json_schema(value: Any) -> dict[str, Any]:
    """The JSON schema of a type, or of a function's arguments.

    Raises:
        TypeError: there is none.
    """
    try:
        given = isinstance(value, TypeAdapter)
        adapter: TypeAdapter[Any] = cast("TypeAdapter[Any]", value) if given else TypeAdapter(value)
        return adapter.json_schema()
    except (PydanticUserError, NameError) as error:  # NameError: an annotation is not defined
        why = str(error).partition("\n")[0]
        raise TypeError(f"there is no JSON schema for {value!r}: {why}") from error


def schema_name(value: Any) -> str:
    """A name for the schema of a type: OpenAI's format requires one."""
    return re.sub(r"[^\w-]+", "_", getattr(value, "__name__", "response"))[:64]  # a generic's has brackets


def make_tools(tools: Any) -> list[Any]:
    """The `tools` of a request: dictionaries as they are, classes and functions as their name, doc and schema.

    Raises:
        TypeError: not a list, or one of its members is neither of these.
    """
    return [make_tool(tool) for tool in list_tools(tools)]


def list_tools(tools: Any) -> list[Any]:
    """`tools` as a list.

    Raises:
        TypeError: not a list, but perhaps a single tool.
    """
    if isinstance(tools, str | Mapping | BaseModel) or callable(tools) or not isinstance(tools, Iterable):
        raise TypeError(f"`tools` is a list of tools, not {tools!r}")
    return list(cast("Iterable[Any]", tools))


def make_tool_choice(choice: Any) -> Any:
    """The `tool_choice` of a request: for a class or function, the tool of its name."""
    if isinstance(choice, str | Mapping | BaseModel) or not callable(choice):
        return cast("Any", choice)
    return {"type": "function", "function": {"name": _tool_name(choice)}}


def make_tool(tool: Any) -> Any:
    """One of the `tools` of a request.

    Raises:
        TypeError: neither a dictionary nor a class nor a function with a name and parameters.
    """
    if isinstance(tool, Mapping):
        return cast("Any", tool)
    if isinstance(tool, partial):
        raise TypeError(
            f"a tool needs a name and a docstring of its own, which {tool!r} has not: write a function with `def` that "
            "calls it, with the parameters that the model is to choose"
        )
    if isinstance(tool, BaseModel) or not callable(tool):
        raise TypeError(
            f"a tool is a dictionary ({{'type': 'function', 'function': {{...}}}}), a pydantic class or a function, "
            f"not {tool!r}"
        )
    function = {"name": _tool_name(tool)}
    is_plain = isinstance(tool, type) or inspect.isroutine(tool)
    schema = json_schema(tool if is_plain else tool.__call__)
    if schema.get("type") != "object" and "$ref" not in schema:
        raise TypeError(f"the tool {function['name']} needs parameters with names: a model calls it with a JSON object")
    schema.pop("description", None)  # of a class: it is the tool's
    description, parameters = split_docstring(_docstring(tool) or "")
    for parameter, meaning in parameters.items():
        if parameter in schema.get("properties", {}):
            schema["properties"][parameter].setdefault("description", meaning)
    return {
        "type": "function",
        "function": function | ({"description": description} if description else {}) | {"parameters": schema},
    }


def _tool_name(tool: Any) -> str:
    name = getattr(tool, "__name__", type(tool).__name__)
    if not _NAME.fullmatch(name):
        raise TypeError(f"a tool needs a name, and {tool!r} has none that can be sent: use a function made with `def`")
    return name


def _docstring(tool: Any) -> str | None:
    # A class inherits BaseModel's docstring, and that of a dataclass may be its signature: they say nothing of a tool.
    if isinstance(tool, type):
        doc = vars(tool).get("__doc__")
        return None if not doc or doc.startswith(f"{tool.__name__}(") else inspect.cleandoc(doc)
    return inspect.getdoc(tool)
