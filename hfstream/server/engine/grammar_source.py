"""Grammars in the format that llguidance compiles. Does not depend on tokenizers."""

from __future__ import annotations

import json
from typing import Any, cast

from llguidance import LLMatcher

from .json_schemas import JSON_OPTIONS, Schema, prepare
from .protocol import Grammar, InvalidGrammarError


def to_llguidance(grammar: Grammar) -> str:
    """The source as llguidance reads it.

    Raises:
        InvalidGrammarError: a JSON schema that is no object.
    """
    match grammar.kind:
        case "json_schema":
            schema: Schema = json.loads(grammar.source)
            prepare(schema)
            return json_schema(schema)
        case "regex":
            return LLMatcher.grammar_from_regex(grammar.source)
        case "lark":
            return LLMatcher.grammar_from_lark(grammar.source)


def json_schema(schema: Schema) -> str:
    """A JSON schema as llguidance reads it, with options of ours, whatever the schema says itself."""
    try:
        return LLMatcher.grammar_from_json_schema(schema, overrides=cast("Any", JSON_OPTIONS))
    except ValueError as error:
        raise InvalidGrammarError(str(error)) from None
