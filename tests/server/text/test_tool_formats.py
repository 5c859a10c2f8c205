"""The formats of the model families: found in their templates, and as grammars."""

from __future__ import annotations

from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from hfstream.server.engine.grammar_source import to_llguidance
from hfstream.server.engine.guided import compile_grammar
from hfstream.server.engine.protocol import Grammar, InvalidGrammarError
from hfstream.server.text.tool_formats import (
    FORMATS,
    HERMES,
    LLAMA3,
    MAX_PARALLEL,
    MISTRAL,
    ToolCallFormat,
    find_format,
)
from tests.helpers.scripted_engine import EOS, TOKENIZER

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTIONS: list[tuple[str, dict[str, Any]]] = [("weather", CITY), ('a "b"', {"type": "object", "properties": {}})]


@pytest.fixture(scope="module")
def tokenizer() -> LLTokenizer:
    return LLTokenizer(TOKENIZER.to_str(), eos_token=[EOS])


def accepts(grammar: Grammar, text: str, tokenizer: LLTokenizer) -> bool:
    matcher = LLMatcher(tokenizer, to_llguidance(grammar))
    return matcher.consume_tokens(tokenizer.tokenize_str(text)) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("template", "call_format"),
    [
        ("{{ '<tool_call>\\n' }}", HERMES),
        ("{{ '[TOOL_CALLS] [' }}", MISTRAL),
        ("{{ '<|python_tag|>' }}", LLAMA3),
        ("{{ message.content }}", HERMES),
    ],
)
def test_the_template_says_which(template: str, call_format: ToolCallFormat) -> None:
    assert find_format(template) is call_format


@pytest.mark.parametrize("call_format", FORMATS.values())
def test_the_grammar_is_of_calls_in_this_format(call_format: ToolCallFormat, tokenizer: LLTokenizer) -> None:
    single, several = (call_format.grammar(FUNCTIONS, parallel=parallel, specials={}) for parallel in (False, True))
    call: tuple[str, object] = ("weather", {"city": "Köln"})
    for right in (call, ('a "b"', {})):
        assert accepts(single, call_format.write([right]), tokenizer)
        assert accepts(several, call_format.write([right]), tokenizer)
    assert accepts(several, call_format.write([call] * MAX_PARALLEL), tokenizer)
    assert not accepts(several, call_format.write([call] * (MAX_PARALLEL + 1)), tokenizer)
    assert not accepts(single, call_format.write([call, call]), tokenizer)
    wrong: list[tuple[str, object]] = [
        ("time", {}), ("weather", {}), ("weather", {"city": 5}), ("weather", {"city": "a", "b": 1}),
    ]  # fmt: skip
    for each in wrong:
        assert not accepts(single, call_format.write([each]), tokenizer)


def test_special_tokens_are_one_token(tokenizer: LLTokenizer) -> None:
    turn = TOKENIZER.encode("<turn>").ids[0]
    grammar = ToolCallFormat(name="x", begin="<turn> [", between=", ", end="]").grammar(
        FUNCTIONS, parallel=False, specials={turn: "<turn>"}
    )
    matcher = compile_grammar(grammar, tokenizer)
    allowed = [token for token, mark in enumerate(matcher.compute_logit_bias()) if mark]
    assert allowed == [turn]


def test_a_schema_that_cannot_be_followed_is_named(tokenizer: LLTokenizer) -> None:
    grammar = HERMES.grammar([*FUNCTIONS, ("x", {"properties": {"a": {"not": {}}}})], parallel=True, specials={})
    with pytest.raises(InvalidGrammarError) as caught:
        compile_grammar(grammar, tokenizer)
    assert str(caught.value) == 'at /2/function/parameters: Unimplemented keys: ["not"]'


def test_ids() -> None:
    assert len({HERMES.new_id() for _ in range(100)}) == 100
    assert HERMES.new_id().startswith("call_")
    assert len(MISTRAL.new_id()) == 9  # what Mistral's templates accept
    assert MISTRAL.new_id().isalnum()
