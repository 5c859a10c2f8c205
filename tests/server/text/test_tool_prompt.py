"""Tools in the words of templates that do not know them."""

from __future__ import annotations

from typing import Any

from hfstream.server.text.tool_formats import HERMES, LLAMA3
from hfstream.server.text.tool_prompt import write_tools

TOOLS = [{"type": "function", "function": {"name": "f", "description": "Größe"}}]
USER = {"role": "user", "content": "Hi"}
CALL: dict[str, Any] = {
    "role": "assistant",
    "content": "Let me see.",
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}],
}
RESULT = {"role": "tool", "content": "5", "tool_call_id": "1"}
DESCRIPTION = (
    'You can call these functions:\n{"name": "f", "description": "Größe"}\n'
    "To call one, answer with its name and arguments:\n"
    '<tool_call>\n{"name": "...", "arguments": {}}\n</tool_call>'
)


def test_a_template_that_knows_tools_gets_them_as_they_are() -> None:
    source = "{{ tools }} {{ message.tool_calls }} {% if message.role == 'tool' %}"
    messages = [USER, CALL, RESULT]
    assert write_tools(source, messages, TOOLS, HERMES) == messages


def test_functions_are_described_in_a_system_message() -> None:
    source = "{% if message.role == 'system' %}"
    assert write_tools(source, [USER], TOOLS, HERMES) == [{"role": "system", "content": DESCRIPTION}, USER]
    system = {"role": "system", "content": "Be kind."}
    assert write_tools(source, [system, USER], TOOLS, HERMES) == [
        {"role": "system", "content": f"Be kind.\n\n{DESCRIPTION}"},
        USER,
    ]


def test_functions_are_described_by_the_user_where_there_is_no_system_role() -> None:
    assistant = {"role": "assistant", "content": "Yes?"}
    written = write_tools("{{ message.content }}", [USER, assistant, USER, assistant], TOOLS, LLAMA3)
    assert [message["role"] for message in written] == ["user", "assistant", "user", "assistant"]
    assert written[2]["content"].startswith("Hi\n\nYou can call these functions:")
    assert written[2]["content"].endswith('\n{"name": "...", "parameters": {}}')


def test_calls_and_results_are_text() -> None:
    assert write_tools("{{ message.content }}", [USER, CALL, RESULT], (), HERMES) == [
        USER,
        {
            "role": "assistant",
            "content": 'Let me see.\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>',
        },
        {"role": "user", "content": "<tool_response>\n5\n</tool_response>"},
    ]
