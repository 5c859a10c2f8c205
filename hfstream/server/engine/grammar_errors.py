"""Says what is wrong with a grammar: llguidance's reason in one line, and the part of a JSON schema that it is about.

llguidance does not say where in a schema the error is. The parts are compiled by themselves, from the outside in, as
long as one of them has the same error. Does not depend on how grammars are followed.
"""

from __future__ import annotations

import json
import re

from llguidance import LLMatcher, LLTokenizer

from .grammar_source import json_schema
from .json_schemas import Schema, children, prepare
from .protocol import Grammar, InvalidGrammarError

_TOOL_SCHEMA = re.compile(r"failed to compile JSON schema: ([^\n]*)\n.*\| tool_(\d+): [^\n]*\n *\^", re.DOTALL)
"""In the grammar of tool calls (`text.tool_formats`): the schema of a function's arguments."""
MAX_TRIED = 200
"""Parts that are compiled to find the one that is wrong; the path ends where they are used up."""
MAX_TRIED_SIZE = 20_000
"""Characters of a schema whose parts are compiled."""
MAX_MESSAGE = 500
"""Characters of a message: llguidance repeats what is wrong."""


def describe_error(grammar: Grammar, error: str, tokenizer: LLTokenizer) -> str:
    """The path of the part that is wrong, a JSON pointer, and the reason."""
    path = ""
    if grammar.kind == "lark" and (tool := _TOOL_SCHEMA.search(error)):
        return f"at /{tool[2]}/function/parameters: {reason(tool[1])}"
    if grammar.kind == "json_schema" and len(grammar.source) <= MAX_TRIED_SIZE:
        schema: Schema = json.loads(grammar.source)
        prepare(schema)
        path = _path_of(error, schema, tokenizer)
    return f"at {path}: {reason(error)}" if path else reason(error)


def reason(error: str) -> str:
    """Llguidance's message without the lines in which it shows the source."""
    if pattern := re.search(r"regex parse error:.*?\nerror: ([^\n]*)", error, re.DOTALL):
        return f"regex parse error: {pattern[1]}"
    words = " ".join(error.replace("<non-verbose/>", "").split())
    if words in ("", "NoExtension", "NoExtensionBias"):
        return "no text fits it"
    return words if len(words) <= MAX_MESSAGE else words[:MAX_MESSAGE] + "..."


def _path_of(error: str, schema: Schema, tokenizer: LLTokenizer) -> str:
    definitions: Schema = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    path, tried = "", 0
    while True:
        for step, child in children(schema):
            tried += 1
            if tried > MAX_TRIED:
                return path
            if _error_of({**definitions, **child}, tokenizer) == error:
                schema, path = child, path + step
                break
        else:
            return path


def _error_of(schema: Schema, tokenizer: LLTokenizer) -> str:
    try:
        grammar = json_schema(schema)
    except InvalidGrammarError:
        return ""
    return LLMatcher.validate_grammar(grammar, tokenizer)
