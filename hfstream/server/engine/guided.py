"""Guided decoding: which tokens may follow, so that the output fits a grammar. llguidance compiles and follows it.

Grammars come from clients, so all of it is bounded: the size of the source, what compiling and each step may cost, and
how many grammars are compiled at once. They are compiled on threads of their own, and llguidance holds no lock
meanwhile: other requests run on. A grammar that was used lately is not compiled again.

Does not depend on models, sampling or schedulers.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from .grammar_errors import describe_error, reason
from .grammar_source import to_llguidance
from .grammar_tokenizer import make_tokenizer
from .protocol import Grammar, GrammarError, InvalidGrammarError

KEPT_GRAMMARS = 64
"""Compiled grammars that are kept for later requests."""
AT_ONCE = 2
"""Grammars that are compiled at the same time."""
TRIED_STEPS = 4
"""Tokens that are tried with a new grammar: those that are too complex to be followed fail with the first ones."""

ALLOWED = 200
"""What llguidance writes for a token that may follow; 0 for the others."""

LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,  # 20 ms
    step_lexer_fuel=200_000,  # 14 ms, which no usual grammar needs for a step
    step_max_items=50_000,  # 3 ms
    max_lexer_states=25_000,  # 50 MB
    max_grammar_size=12_000,  # 0.2 s: an object with 1,000 members
    verbose_errors=False,
)
"""The costs are those of llguidance's documentation."""


class Guide:
    """A position in a grammar."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self._forced: list[int] = []
        """The tokens of the text that must follow, if only one can, the next one last."""
        self._size = 0
        """Bytes of a mask."""

    def allowed(self) -> bytes:
        """Which tokens may follow: a byte for each or more, 0 if not. At the end of the grammar those that end a text.

        Raises:
            GrammarError: the grammar is too complex to be followed here.
        """
        if self._forced:
            return self._forced_mask()
        mask = self._matcher.compute_logit_bias()
        if self._matcher.is_error():  # then it allows the end, wherever it is
            raise GrammarError(f"the grammar cannot be followed any further: {reason(self._matcher.get_error())}")
        if mask.count(ALLOWED) == 1:  # llguidance would encode the whole text again at each step
            self._size, self._forced = len(mask), self._matcher.compute_ff_tokens()[::-1]
        return mask

    def advance(self, token: int) -> None:
        """Go on to what follows `token`. If that cannot be done, a later `allowed` raises."""
        self._matcher.consume_token(token)
        if self._forced and self._forced.pop() != token:
            self._forced = []

    def _forced_mask(self) -> bytes:
        mask = bytearray(self._size)
        mask[self._forced[-1]] = ALLOWED
        return bytes(mask)


OnCompiled = Callable[[int, "Guide | Exception"], None]


class GrammarCompiler:
    """Compiles grammars on threads of its own. Its methods belong to one thread."""

    def __init__(self, on_compiled: OnCompiled, *, vocab_size: int) -> None:
        """`on_compiled` gets the number of a request and its guide, or the error; on some other thread."""
        self._on_compiled, self._vocab_size = on_compiled, vocab_size
        self._executor = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="hfstream-grammar")
        self._tokenizer: Future[LLTokenizer] | None = None
        self._source: tuple[str, frozenset[int]] | None = None
        self._waiting: list[tuple[int, Grammar]] = []
        self._kept: OrderedDict[Grammar, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()  # guards `_kept`

    def set_tokenizer(self, tokenizer: str, eos_ids: frozenset[int]) -> None:
        """What grammars are compiled with from now on; those that came before have waited for it."""
        self._source, self._tokenizer = (tokenizer, eos_ids), None
        self._kept.clear()
        waiting, self._waiting = self._waiting, []
        for number, grammar in waiting:
            self.compile(number, grammar)

    def compile(self, number: int, grammar: Grammar) -> None:
        """Compile the grammar of the request with this number."""
        if self._source is None:
            self._waiting.append((number, grammar))
            return
        if self._tokenizer is None:  # only now: it takes a second for a large vocabulary
            self._tokenizer = self._executor.submit(make_tokenizer, *self._source, self._vocab_size)
        self._executor.submit(partial(self._compile, number, grammar, self._tokenizer))

    def close(self) -> None:
        """End the threads, once each has compiled what it is at."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _compile(self, number: int, grammar: Grammar, tokenizer: Future[LLTokenizer]) -> None:
        result: Guide | Exception
        try:
            result = Guide(self._matcher(grammar, tokenizer.result()))
        except Exception as error:  # noqa: BLE001 - the request's error
            result = error.with_traceback(None)
        self._on_compiled(number, result)

    def _matcher(self, grammar: Grammar, tokenizer: LLTokenizer) -> LLMatcher:
        with self._lock:
            kept = self._kept.pop(grammar, None)
        # All copies share what has been computed of the grammar, and its limit. If that is used up, it begins anew.
        if kept is None or _has_failed(kept.deep_copy()):
            kept = compile_grammar(grammar, tokenizer)
        with self._lock:
            self._kept[grammar] = kept
            if len(self._kept) > KEPT_GRAMMARS:
                self._kept.popitem(last=False)
        return kept.deep_copy()


def _has_failed(matcher: LLMatcher) -> bool:
    matcher.compute_logit_bias()
    return matcher.is_error()


def compile_grammar(grammar: Grammar, tokenizer: LLTokenizer) -> LLMatcher:
    """The grammar, at its beginning.

    Raises:
        InvalidGrammarError: no text fits it, or it has what llguidance cannot follow.
    """
    matcher = LLMatcher(tokenizer, to_llguidance(grammar), log_level=0, limits=LIMITS)
    if not matcher.is_error():
        trial = matcher.deep_copy()
        for _ in range(TRIED_STEPS):
            token = trial.compute_logit_bias().find(ALLOWED)
            if token < 0 or not trial.consume_token(token) or trial.is_stopped():
                break
        if not trial.is_error():
            return matcher
        matcher = trial
    raise InvalidGrammarError(describe_error(grammar, matcher.get_error(), tokenizer))
