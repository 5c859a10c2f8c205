"""Grammars in the format that llguidance compiles. Does not depend on tokenizers."""

from __future__ import annotations

import json
from typing import Any, cast

from llguidance import LLMatcher

from .json_schemas import Schema, close_objects
from .protocol import Grammar, InvalidGrammarError

JSON_OPTIONS: dict[str, Any] = {
    "whitespace_flexible": False,  # a model could go on with spaces and line feeds for ever
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": False,  # what is not known is an error
    "coerce_one_of": False,
}
"""How JSON is written: on one line, as Python's `json.dumps` does, and as models have read most of it."""


def to_llguidance(grammar: Grammar) -> str:
    """The source as llguidance reads it.

    Raises:
        InvalidGrammarError: a JSON schema that is no object.
    """
    match grammar.kind:
        case "json_schema":
            schema: Schema = json.loads(grammar.source)
            close_objects(schema)
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
