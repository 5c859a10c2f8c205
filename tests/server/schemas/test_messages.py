"""Messages of a chat, and what a chat template gets to read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hfstream.errors import ValidationError
from hfstream.server.schemas.messages import Message


def to_template(**message: Any) -> dict[str, Any]:
    return Message.model_validate_json(json.dumps(message)).to_template()


def test_the_content_of_a_message_is_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert (
        to_template(role="user", content=parts)
        == to_template(role="user", content="ab")
        == {"role": "user", "content": "ab"}
    )
    assert to_template(role="user", content="") == {"role": "user", "content": ""}
    empty = {"role": "assistant", "content": ""}  # templates would print a null as "None"
    contents: list[dict[str, Any]] = [{}, {"content": None}, {"content": []}]
    for content in contents:
        assert to_template(role="assistant", **content) == empty


def test_templates_get_all_fields_but_empty_ones() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"role": "assistant", "content": None, "name": "bot"}
    read = to_template(**message, tool_calls=calls, refusal=None, function_call=None)
    assert read.pop("tool_calls")[0]["id"] == "1"
    assert read == {**message, "content": ""}
    assert to_template(role="tool", content="5", tool_call_id="1") == {
        "role": "tool",
        "content": "5",
        "tool_call_id": "1",
    }
    assert "tool_calls" not in to_template(role="assistant", content="a", tool_calls=[])


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        (None, {}),
        ("no JSON", "no JSON"),
        ('{"a": "\\ud800"}', '{"a": "\\ud800"}'),  # cannot be encoded
        ("[" * 985 + "]" * 985, "[" * 985 + "]" * 985),
        ('{"a": NaN}', '{"a": NaN}'),
    ],
    ids=repr,
)
def test_arguments_are_objects_unless_they_could_not_be_written_again(arguments: str | None, read: object) -> None:
    calls = [{"function": {"name": "f", "arguments": arguments}}]
    message = to_template(role="assistant", tool_calls=calls)
    assert message["tool_calls"][0]["function"]["arguments"] == read


@pytest.mark.parametrize("kind", ["image_url", "input_audio"])
def test_parts_that_are_not_text_are_refused(kind: str) -> None:
    with pytest.raises(ValidationError, match=f"Input validation error: .* type `{kind}` are not supported"):
        to_template(role="user", content=[{"type": "text", "text": "What is this?"}, {"type": kind, kind: {}}])
