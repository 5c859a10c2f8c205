"""How models write tool calls: the formats of the model families, and the grammars of texts that are calls.

Which format a model has been trained for is in its chat template. Does not depend on requests or HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from ..engine.json_schemas import JSON_OPTIONS, prepare
from ..engine.protocol import Grammar

MAX_PARALLEL = 8
"""Calls of one answer whose number is not the model's choice alone."""


@dataclass(frozen=True, kw_only=True)
class ToolCallFormat:
    """One way to write calls: objects with a name and arguments, and what stands around them."""

    name: str
    begin: str
    """What the first call begins with, before its object. Some models have a special token for it."""
    end: str = ""
    """What stands behind the last object."""
    between: str
    """What stands between two objects."""
    arguments: str = "arguments"
    """The key of the arguments."""
    bare: bool = False
    """Whether an answer may also begin with the object itself, without `begin`."""
    id_length: int = 24

    def new_id(self) -> str:
        """An id for a call."""
        unique = uuid4().hex[: self.id_length]
        return unique if self.id_length < 24 else f"call_{unique}"  # Mistral's templates want nine characters

    def write(self, calls: Sequence[tuple[str, object]]) -> str:
        """A text that calls functions, each with its name and its arguments."""
        objects = [_dumps({"name": name, self.arguments: arguments}) for name, arguments in calls]
        return ("" if self.bare else self.begin) + self.between.join(objects) + self.end

    def grammar(
        self, functions: Sequence[tuple[str, Mapping[str, Any]]], *, parallel: bool, specials: Mapping[int, str]
    ) -> Grammar:
        """The grammar of answers that call one or more of `functions`, which are names with schemas of arguments.

        `specials`: the tokenizer's special tokens, which stand for their texts.
        """
        begin, between, end = (_literal(text, specials) for text in (self.begin, self.between, self.end))
        first = "" if self.bare else begin
        more = f" ({between} call){{0,{MAX_PARALLEL - 1}}}" if parallel else ""
        rules = [
            f"start: {first} call{more} {end}",
            "call: " + " | ".join(f"call_{number}" for number in range(len(functions))),
        ]
        for number, (name, schema) in enumerate(functions):
            head = f'{{"name": {_dumps(name)}, "{self.arguments}": '
            rules.append(f'call_{number}: {json.dumps(head)} tool_{number} "}}"')
            prepared = json.loads(json.dumps(schema))
            prepare(prepared)
            rules.append(f"tool_{number}: %json {json.dumps({**prepared, 'x-guidance': JSON_OPTIONS})}")
        return Grammar("lark", "\n".join(rules) + "\n")


HERMES = ToolCallFormat(
    name="hermes",
    begin="<tool_call>\n",
    between="\n</tool_call>\n<tool_call>\n",
    end="\n</tool_call>",
)
LLAMA3 = ToolCallFormat(name="llama3", begin="<|python_tag|>", between="; ", arguments="parameters", bare=True)
MISTRAL = ToolCallFormat(name="mistral", begin="[TOOL_CALLS] [", between=", ", end="]", id_length=9)

FORMATS: dict[str, ToolCallFormat] = {each.name: each for each in (HERMES, LLAMA3, MISTRAL)}
_SIGNS = {"[TOOL_CALLS]": MISTRAL, "<tool_call>": HERMES, "<|python_tag|>": LLAMA3, "<|eom_id|>": LLAMA3}
"""What a template of each family has in it."""


def find_format(template: str) -> ToolCallFormat:
    """The format that a chat template has the model write; Hermes' if it has none."""
    return next((each for sign, each in _SIGNS.items() if sign in template), HERMES)


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _literal(text: str, specials: Mapping[int, str]) -> str:
    """A text in a grammar. A special token in it is that token: its characters are tokens that mean something else."""
    for token, special in specials.items():
        if special and special in text:
            before, _, after = text.partition(special)
            return " ".join(filter(None, (_literal(before, specials), f"<[{token}]>", _literal(after, specials))))
    return json.dumps(text) if text else ""
