"""Following grammars: which tokens may come next, and which grammars are refused, where, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from hfstream.server.engine import guided
from hfstream.server.engine.guided import GrammarCompiler, Guide, compile_grammar
from hfstream.server.engine.protocol import Grammar, GrammarError, InvalidGrammarError
from tests.helpers.scripted_engine import EOS, TOKENIZER

VOCAB_SIZE = TOKENIZER.get_vocab_size()
TEXT = TOKENIZER.to_str()
DIGITS = Grammar("regex", "[0-9]{2}")


def schema(**keywords: Any) -> Grammar:
    return Grammar("json_schema", json.dumps(keywords))


@pytest.fixture(scope="module")
def tokenizer() -> LLTokenizer:
    return LLTokenizer(TEXT, eos_token=[EOS])


class Compiler:
    """A compiler and what it has delivered."""

    def __init__(self) -> None:
        self._results: SimpleQueue[tuple[int, Guide | Exception]] = SimpleQueue()
        self.compiler = GrammarCompiler(
            lambda number, result: self._results.put((number, result)), vocab_size=VOCAB_SIZE
        )

    def next(self) -> tuple[int, Guide | Exception]:
        return self._results.get(timeout=60)

    def guide(self, grammar: Grammar) -> Guide:
        self.compiler.compile(1, grammar)
        _, guide = self.next()
        assert isinstance(guide, Guide)
        return guide


@pytest.fixture
def compiler() -> Iterator[Compiler]:
    made = Compiler()
    made.compiler.set_tokenizer(TEXT, frozenset({EOS}))
    yield made
    made.compiler.close()


def ids_allowed(guide: Guide) -> list[int]:
    return [token for token, mark in enumerate(guide.allowed()) if mark]


def allowed_texts(guide: Guide) -> set[str]:
    return {TOKENIZER.decode([token], skip_special_tokens=False) for token in ids_allowed(guide)}


def test_a_guide_allows_what_fits_and_at_the_end_the_end(compiler: Compiler) -> None:
    guide = compiler.guide(DIGITS)
    for _ in range(2):
        assert allowed_texts(guide) == set("0123456789")
        guide.advance(TOKENIZER.encode("7").ids[0])
    assert allowed_texts(guide) == {"<eos>"}
    guide.advance(EOS)
    assert allowed_texts(guide) == {"<eos>"}


class CountingMatcher:
    """A matcher, and how often it has been asked what may follow."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self.asked = 0

    def compute_logit_bias(self) -> bytes:
        self.asked += 1
        return self._matcher.compute_logit_bias()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._matcher, name)


def test_a_text_that_must_follow_is_encoded_once(tokenizer: LLTokenizer) -> None:
    """Each step of a long one would take as long as all of it."""
    words = "Hello, world! " * 100
    compiled = compile_grammar(schema(enum=[f"A {words}", f"B {words}"]), tokenizer)
    counting: Any = CountingMatcher(compiled.deep_copy())
    guide, tokens = Guide(counting), list[int]()
    while EOS not in (allowed := ids_allowed(guide)):
        assert len(guide.allowed()) == VOCAB_SIZE
        tokens.append(allowed[-1])
        guide.advance(allowed[-1])
    assert TOKENIZER.decode(tokens) == f'"B {words}"'
    assert len(tokens) > 200
    assert counting.asked < 20
    stepped = compiled.deep_copy()  # the same tokens as step by step
    for token in tokens:
        assert stepped.compute_logit_bias()[token]
        stepped.consume_token(token)


def test_another_token_than_the_one_that_must_follow_is_an_error(compiler: Compiler) -> None:
    guide = compiler.guide(schema(const="Hello, world!"))
    assert len(ids_allowed(guide)) == 1
    guide.advance(TOKENIZER.encode("x").ids[0])
    with pytest.raises(GrammarError, match="the grammar cannot be followed any further: "):
        guide.allowed()


def test_guides_of_one_grammar_do_not_move_each_other(compiler: Compiler) -> None:
    first, second = compiler.guide(DIGITS), compiler.guide(DIGITS)
    first.advance(TOKENIZER.encode("7").ids[0])
    first.advance(TOKENIZER.encode("7").ids[0])
    assert allowed_texts(first) == {"<eos>"}
    assert allowed_texts(second) == set("0123456789")


def test_a_token_that_does_not_fit_is_an_error_of_the_next_step(compiler: Compiler) -> None:
    guide = compiler.guide(DIGITS)
    guide.advance(TOKENIZER.encode("a").ids[0])
    with pytest.raises(GrammarError, match="the grammar cannot be followed any further: "):
        guide.allowed()


def test_a_grammar_whose_limit_is_used_up_is_compiled_anew(compiler: Compiler) -> None:
    """All guides of a grammar share its limit: the next request must not fail because of an earlier one."""
    grammar = schema(type="string", pattern="^((a{1,1000}){1,1000}){1,1000}$")
    for _ in range(2):
        guide = compiler.guide(grammar)
        guide.advance(TOKENIZER.encode('"').ids[0])
        with pytest.raises(GrammarError, match="too many expressions"):
            for _ in range(1_000):
                assert "a" in allowed_texts(guide)
                guide.advance(TOKENIZER.encode("a").ids[0])


def test_grammars_wait_for_the_tokenizer() -> None:
    compiler = Compiler()
    compiler.compiler.compile(5, DIGITS)
    compiler.compiler.set_tokenizer(TEXT, frozenset({EOS}))
    number, guide = compiler.next()
    assert (number, type(guide)) == (5, Guide)
    compiler.compiler.close()


@pytest.mark.parametrize(
    ("text", "eos_ids", "reason"),
    [
        (TEXT, frozenset[int](), "this model has no token that ends a text"),
        ("{}", frozenset({EOS}), "the tokenizer of this model cannot be used with grammars"),
    ],
)
def test_a_model_without_what_is_needed_refuses_grammars(text: str, eos_ids: frozenset[int], reason: str) -> None:
    compiler = Compiler()
    compiler.compiler.set_tokenizer(text, eos_ids)
    for number in range(2):
        compiler.compiler.compile(number, DIGITS)
        _, error = compiler.next()
        assert isinstance(error, InvalidGrammarError)
        assert reason in str(error)
    compiler.compiler.close()


@pytest.mark.parametrize(
    ("bounds", "outside"),
    [
        ({"exclusiveMinimum": 0, "maximum": 0.5}, ("0", "0.0", "-0", "0.51")),
        ({"exclusiveMinimum": 1, "exclusiveMaximum": 1.5}, ("1", "1.0", "1.5")),
        ({"minimum": -0.5, "exclusiveMaximum": 0}, ("0", "-0", "-0.0")),
    ],
)
def test_exclusive_bounds_are_no_values(tokenizer: LLTokenizer, bounds: dict[str, Any], outside: tuple[str]) -> None:
    matcher = compile_grammar(schema(type="number", **bounds), tokenizer)

    def fits(text: str) -> bool:
        copy = matcher.deep_copy()
        return copy.consume_tokens(tokenizer.tokenize_str(text)) and copy.is_accepting()

    assert not any(map(fits, outside))
    low, high = sorted(bounds.values())
    assert fits(f"{(low + high) / 2}")
    assert fits(f"{low + (high - low) / 1000:.6f}")


SPECIAL_TEXTS: list[tuple[Grammar, str]] = [
    (schema(const="a<eos>b"), '"a<eos>b"'),
    (schema(type="object", properties={"<turn>": {"const": "<eos>"}}, required=["<turn>"]), '{"<turn>": "<eos>"}'),
    (schema(type="string", pattern="^<[e]os>$"), '"<eos>"'),
    (Grammar("regex", "<turn[>]{1,2}"), "<turn>"),
    (Grammar("lark", 'start: "a<eos>" <[1]> "b"'), "a<eos><turn>b"),
]


@pytest.mark.parametrize(("grammar", "text"), SPECIAL_TEXTS)
def test_the_text_of_a_special_token_is_text(compiler: Compiler, grammar: Grammar, text: str) -> None:
    guide, tokens = compiler.guide(grammar), list[int]()
    while EOS not in (allowed := ids_allowed(guide)) and len(tokens) < 50:
        tokens.append(allowed[0])
        guide.advance(allowed[0])
    assert TOKENIZER.decode(tokens, skip_special_tokens=False) == text
    assert tokens.count(1) == (grammar.kind == "lark")


def test_a_model_with_more_logits_than_tokens_forbids_those_without_text() -> None:
    results: SimpleQueue[Any] = SimpleQueue()
    compiler = GrammarCompiler(lambda number, result: results.put(result), vocab_size=VOCAB_SIZE + 30)
    compiler.set_tokenizer(TEXT, frozenset({EOS}))
    compiler.compile(1, Grammar("regex", "(?s:.*)"))
    allowed = results.get(timeout=60).allowed()
    assert len(allowed) == VOCAB_SIZE + 30
    assert not any(allowed[VOCAB_SIZE:])
    compiler.close()


def test_only_some_grammars_are_kept(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guided, "KEPT_GRAMMARS", 2)
    for pattern in ("a", "b", "a", "c"):
        compiler.guide(Grammar("regex", pattern))
    assert [grammar.source for grammar in compiler.compiler._kept] == ["a", "c"]


ONE_OF = "oneOf constraints are not supported. Enable 'coerce_one_of' option to approximate oneOf with anyOf"
NOT, UNIQUE = 'Unimplemented keys: ["not"]', 'Unimplemented keys: ["uniqueItems"]'
LOOK_AROUND = "look-around, including look-ahead and look-behind, is not supported"


def test_a_format_of_ones_own_is_no_error(tokenizer: LLTokenizer) -> None:
    assert not compile_grammar(schema(type="string", format="path"), tokenizer).is_error()


REFUSED: list[tuple[Grammar, str]] = [
    (schema(type="object", properties={"a": {"items": {"not": {}}}}), "at /properties/a/items: " + NOT),
    (schema(properties={"a": {"uniqueItems": False, "not": {}}}), "at /properties/a: " + NOT),
    (schema(anyOf=[{"type": "null"}, {"type": "strin"}]), "at /anyOf/1: Invalid type: strin"),
    (schema(items={"properties": {"a/b~": {"oneOf": [{}, {}]}}}), "at /items/properties/a~1b~0: " + ONE_OF),
    (schema(properties={"a": {"$ref": "#/$defs/x"}}), "at /properties/a: Pointer '/$defs/x' does not exist"),
    (schema(**{"$ref": "#/$defs/x", "$defs": {"x": {"uniqueItems": True}}}), "at /$defs/x: " + UNIQUE),
    (schema(type="string", pattern="(a"), "regex parse error: unclosed group"),
    (schema(**{"$ref": "#"}), "no text fits it"),
    (Grammar("regex", "(?=a)b"), "regex parse error: " + LOOK_AROUND),
    (Grammar("regex", "a[]"), "regex parse error: unclosed character class"),
    (Grammar("lark", "start: /a/ other"), "unknown name"),
]  # fmt: skip


@pytest.mark.parametrize(("grammar", "reason"), REFUSED)
def test_refused_with_path_and_reason(grammar: Grammar, reason: str, tokenizer: LLTokenizer) -> None:
    with pytest.raises(InvalidGrammarError) as caught:
        compile_grammar(grammar, tokenizer)
    message = str(caught.value)
    assert message == reason or (grammar.kind == "lark" and reason in message)
