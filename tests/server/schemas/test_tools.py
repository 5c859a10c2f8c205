"""`tools`, `tool_choice` and `parallel_tool_calls`: what they mean, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from hfstream.errors import ValidationError
from hfstream.server.schemas.messages import Message
from hfstream.server.schemas.tools import parse_tools

CITY = {"type": "object", "properties": {"city": {}}}
F: dict[str, Any] = {"type": "function", "function": {"name": "f", "description": "Does.", "parameters": CITY}}
G: dict[str, Any] = {"type": "function", "function": {"name": "g"}}
NOTHING = {"type": "object", "properties": {}}


def test_none_may_be_called() -> None:
    assert parse_tools(None, None, parallel=None) is None
    assert parse_tools([], "auto", parallel=True) is None
    assert parse_tools([F, {}], "none", parallel=None) is None


def test_what_may_be_called() -> None:
    use = parse_tools([F, G], None, parallel=None)
    assert use is not None
    assert (use.tools, use.functions) == ([F, G], {"f": CITY, "g": NOTHING})
    assert (use.required, use.parallel) == (False, True)
    assert parse_tools([F, G], "auto", parallel=True) == use


def test_what_must_be_called() -> None:
    use = parse_tools([F, G], "required", parallel=False)
    assert use is not None
    assert (len(use.functions), use.required, use.parallel) == (2, True, False)
    for choice in ({"type": "function", "function": {"name": "g"}}, {"function": {"name": "g"}}, "g"):
        use = parse_tools([F, G], choice, parallel=True)
        assert use is not None
        assert (use.tools, use.functions) == ([F, G], {"g": NOTHING})
        assert (use.required, use.parallel) == (True, False)


NAMES = "`tools` must be functions with names of 1 to 64 characters. Number 0 is not"
REFUSED: list[tuple[Any, Any, str]] = [
    ([{}], None, NAMES),
    ([5], None, NAMES),
    ([{"type": "function", "function": {"name": ""}}], None, NAMES),
    ([{"type": "function", "function": {"name": "f" * 65}}], None, NAMES),
    ([{"type": "web_search"}], None, "`tools` of type 'web_search' are not supported, only functions are"),
    ([F, F], None, "`tools` must have different names"),
    ([F] * 129, None, "`tools` must have at most 128 functions. Given: 129"),
    ([{"type": "function", "function": {"name": "f", "parameters": "{}"}}], None,
     "`tools` must have parameters that are a JSON schema. Those of 'f' are not"),
    ([{"type": "function", "function": {"name": "f", "parameters": {"enum": ["a" * 100_000]}}}], None,
     "`tools` must have schemas of at most 100000 characters. That of 'f' has more"),
    ([F], 5, "`tool_choice` must be `auto`, `none`, `required`, or a function by its name"),
    ([F], {"type": "allowed_tools"}, "`tool_choice` must be `auto`, `none`, `required`, or a function by its name"),
    (None, "required", "`tool_choice` must be `auto` or `none` where there are no `tools`"),
]  # fmt: skip


@pytest.mark.parametrize(("tools", "choice", "message"), REFUSED)
def test_refused(tools: Any, choice: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_tools(tools, choice, parallel=None)
    assert str(caught.value) == f"Input validation error: {message}"


@pytest.mark.parametrize("tools", [None, [F]])
def test_an_unknown_function_is_refused_as_tgi_does(tools: Any) -> None:
    with pytest.raises(ValidationError, match="Tool error: Tool with name h not found") as caught:
        parse_tools(tools, {"function": {"name": "h"}}, parallel=None)
    assert caught.value.error_type == "tool_error"


@pytest.mark.parametrize(
    ("arguments", "read"),
    [('{"a": 1}', {"a": 1}), ({"a": 1}, {"a": 1}), ("", {}), (None, {}), ("{", "{"), ("[" * 9_999, "[" * 9_999)],
)
def test_templates_read_the_arguments_of_calls_as_objects(arguments: Any, read: Any) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    message = Message.model_validate({"role": "assistant", "content": None, "tool_calls": [call]}).to_template()
    assert message["content"] == ""
    assert message["tool_calls"] == [{**call, "function": {"name": "f", "arguments": read}}]


@pytest.mark.parametrize("calls", [5, [5], [{}], [{"function": {"arguments": "{}"}}]])
def test_what_is_no_call_is_refused(calls: Any) -> None:
    message = Message.model_validate({"role": "assistant", "content": "", "tool_calls": calls})
    with pytest.raises(ValidationError, match="`messages` must have `tool_calls` that are functions with a name"):
        message.to_template()
