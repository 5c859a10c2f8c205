"""Tool calls in a text that arrives in pieces, in the formats of the model families."""

from __future__ import annotations

import pytest

from hfstream.server.text.tool_call_parser import ArgumentsPart, CallStart, Part, TextPart, ToolCallParser
from hfstream.server.text.tool_formats import HERMES, LLAMA3, MISTRAL, ToolCallFormat

NAMES = {"f", "get weather"}


def parse(call_format: ToolCallFormat, text: str, size: int, max_calls: int | None = None) -> list[Part]:
    """The parts of a text in pieces of so many characters; those of one kind that follow each other are joined."""
    parser = ToolCallParser(call_format, NAMES, max_calls=max_calls)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    parts: list[Part] = []
    for part in [part for piece in pieces for part in parser.push(piece)] + parser.push("", last=True):
        before = parts[-1] if parts else None
        if isinstance(part, TextPart) and isinstance(before, TextPart):
            parts[-1] = TextPart(before.text + part.text)
        elif isinstance(part, ArgumentsPart) and isinstance(before, ArgumentsPart):
            parts[-1] = ArgumentsPart(before.text + part.text)
        else:
            parts.append(part)
    return parts


F, WEATHER = CallStart("f"), CallStart("get weather")
A1 = ArgumentsPart('{"a": 1}')
NESTED = '{"a": "}\\"{", "b": [1, {}], "ü": "\\\\"}'
CASES: list[tuple[ToolCallFormat, str, list[Part]]] = [
    (HERMES, '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>', [F, A1]),
    (HERMES, f'Let me see.\n\n<tool_call>\n{{"name": "f", "arguments": {NESTED}}}\n</tool_call>',
     [TextPart("Let me see."), F, ArgumentsPart(NESTED)]),
    (HERMES, HERMES.write([("f", {}), ("get weather", {"a": 1})]) + " Done.",
     [F, ArgumentsPart("{}"), WEATHER, A1, TextPart("Done.")]),
    (HERMES, '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', [F, A1]),
    (HERMES, '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', [F, A1]),
    (HERMES, '<tool_call>{"name": "f", "arguments": null}</tool_call>', [F, ArgumentsPart("{}")]),
    (HERMES, '<tool_call>{"name": "f"}</tool_call>', [F, ArgumentsPart("{}")]),
    (HERMES, '<tool_call>{"name": "g", "arguments": {}}</tool_call>',
     [TextPart('<tool_call>{"name": "g", "arguments": {}}</tool_call>')]),
    (HERMES, "<tool_call>no JSON</tool_call>", [TextPart("<tool_call>no JSON</tool_call>")]),
    (HERMES, '<tool_call>{"nam": 1}', [TextPart('<tool_call>{"nam": 1}')]),
    (HERMES, '<tool_call>\n{"name": "f", "arguments": {"a": [', [F, ArgumentsPart('{"a": [')]),
    (HERMES, '<tool_call>\n{"name": "f', []),
    (HERMES, "Text, <tool or not <tool_", [TextPart("Text, <tool or not <tool_")]),
    (HERMES, "  spaces \n", [TextPart("  spaces \n")]),
    (HERMES, "", []),
    (LLAMA3, '{"name": "f", "parameters": {"a": 1}}', [F, A1]),
    (LLAMA3, '\n{"name": "f", "parameters": {}}; {"name": "get weather", "parameters": {"a": 1}}',
     [F, ArgumentsPart("{}"), WEATHER, A1]),
    (LLAMA3, '<|python_tag|>{"type": "function", "name": "f", "parameters": {"a": 1}}', [F, A1]),
    (LLAMA3, '{"a": 1}', [TextPart('{"a": 1}')]),
    (LLAMA3, 'The answer: {"name": "f"}', [TextPart('The answer: {"name": "f"}')]),
    (LLAMA3, '{"name": "f", "param', [F]),
    (MISTRAL, '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}, {"name": "get weather", "arguments": {}}]',
     [F, A1, WEATHER, ArgumentsPart("{}")]),
    (MISTRAL, '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]', [F, A1]),
    (MISTRAL, "Hi [TOOL] [", [TextPart("Hi [TOOL] [")]),
]  # fmt: skip


@pytest.mark.parametrize(("call_format", "text", "parts"), CASES)
def test_calls_are_found_wherever_the_text_is_cut(call_format: ToolCallFormat, text: str, parts: list[Part]) -> None:
    for size in (1, 2, 3, 5, 8, 1_000):
        assert parse(call_format, text, size) == parts


def test_after_the_last_call_that_is_wanted_nothing_follows() -> None:
    text = HERMES.write([("f", {"a": 1}), ("f", {"a": 2})]) + "\nMore"
    for size in (1, 4, 1_000):
        assert parse(HERMES, text, size, max_calls=1) == [F, A1]


@pytest.mark.parametrize("text", ["<tool_", " <", "<tool_call", '<tool_call>\n{"na'])
def test_half_the_beginning_of_a_required_call_is_no_text(text: str) -> None:
    parser = ToolCallParser(HERMES, NAMES, required=True)
    assert parser.push(text, last=True) == []


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("Text", True),
        ('<tool_call>{"name": "f", "arguments": {"a": 1}}', True),
        ('<tool_call>{"name": "f", "arguments": {"a": 1}</tool_call>', False),
        ('<tool_call>{"name": "f", "arguments": {"', False),
        ('<tool_call>{"name": "f"}</tool_call><tool_call>{"name": "f", "arguments": {', False),
        ('<tool_call>{"name": "f"}</tool_call><tool_call>{"na', True),
    ],
)
def test_calls_without_an_end_are_not_complete(text: str, complete: bool) -> None:
    parser = ToolCallParser(HERMES, NAMES)
    parser.push(text, last=True)
    assert parser.all_complete == complete


def test_arguments_come_while_they_are_written() -> None:
    parser = ToolCallParser(HERMES, NAMES)
    assert parser.push('<tool_call>\n{"name": "f"') == []
    assert parser.push(', "arguments": {"a"') == [F, ArgumentsPart('{"a"')]
    assert parser.push(": [1") == [ArgumentsPart(": [1")]
    assert parser.push("]}}") == [ArgumentsPart("]}")]


def test_text_is_held_back_only_while_it_may_become_a_call() -> None:
    parser = ToolCallParser(HERMES, NAMES)
    assert parser.push("One") == [TextPart("One")]
    assert parser.push(" < two") == [TextPart(" < two")]
    assert parser.push(" <tool") == []
    assert parser.push("s") == [TextPart(" <tools")]


@pytest.mark.parametrize("call_format", [HERMES, LLAMA3, MISTRAL])
def test_what_a_format_writes_is_read(call_format: ToolCallFormat) -> None:
    text = call_format.write([("f", {"a": 1}), ("get weather", {"a": 1}), ("f", {})])
    assert parse(call_format, text, 3) == [F, A1, WEATHER, A1, F, ArgumentsPart("{}")]
