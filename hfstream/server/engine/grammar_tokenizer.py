"""The tokenizer with which grammars are compiled: the model's own, but that no text stands for a special token.

Does not depend on grammars.
"""

from __future__ import annotations

import json
from typing import Any, cast

from llguidance import LLTokenizer

from .protocol import InvalidGrammarError


def make_tokenizer(tokenizer: str, eos_ids: frozenset[int], vocab_size: int) -> LLTokenizer:
    """`tokenizer`: the text of a `tokenizer.json`; `eos_ids`: tokens that end a text; `vocab_size`: the model's logits.

    Raises:
        InvalidGrammarError: grammars cannot be followed with it.
    """
    if not eos_ids:
        raise InvalidGrammarError("this model has no token that ends a text, so no grammar can end")
    try:
        source = rename_special_tokens(tokenizer)
        try:
            return LLTokenizer(source, n_vocab=vocab_size, eos_token=sorted(eos_ids))
        except ValueError:  # a tokenizer with more tokens than the model
            return LLTokenizer(source, eos_token=sorted(eos_ids))
    except Exception as error:  # noqa: BLE001 - llguidance has no class for it
        raise InvalidGrammarError(f"the tokenizer of this model cannot be used with grammars: {error}") from None


def rename_special_tokens(tokenizer: str) -> str:
    """The tokenizer with special tokens of the same ids, but with texts that no grammar has.

    Where only one text fits, llguidance encodes it as a whole. If it contains the text of a special token, such as
    `<|end|>`, that would become the token: which is no text, and may end the output. So it becomes ordinary tokens.
    """
    fields: dict[str, Any] = json.loads(tokenizer)
    specials = [token for token in fields.get("added_tokens", []) if token["special"]]
    names: dict[str, str] = {token["content"]: f"\0special token {token['id']}\0" for token in specials}
    for token in specials:
        token["content"] = names[token["content"]]
    model = fields["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        tokens = cast("dict[str, int]", vocabulary)
        model["vocab"] = {names.get(text, text): token for text, token in tokens.items()}
    else:  # of a Unigram model: pairs of a text and a score
        pairs = cast("list[list[Any]]", vocabulary)
        model["vocab"] = [[names.get(text, text), score] for text, score in pairs]
    if "unk_token" in model:
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    return json.dumps(fields)
