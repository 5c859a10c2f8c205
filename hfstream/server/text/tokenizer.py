"""Text to ids, and what a single id stands for: the model's own tokenizer.json, read by `tokenizers`.

Refuses to know how an answer's ids become text (`writer`), and transformers, whose tokenizers wrap the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import tokenizers


class TokenSpan(NamedTuple):
    """One token of a text, and the bytes of the text's UTF-8 that it covers."""

    id: int
    text: str
    start: int
    stop: int


class Tokenizer:
    """A tokenizer, and the two tables that every token is looked up in."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        # Both are settings for training that some tokenizer.json carry, and would alter prompts.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.specials: dict[int, str] = {token: entry.content for token, entry in added.items() if entry.special}
        """Tokens that are no text, such as ``</s>``, and how they are written."""
        self._token_texts: dict[int, str] = {}

    @classmethod
    def load(cls, model: str | PathLike[str]) -> Tokenizer:
        """The vocabulary of the checkpoint in the directory `model`."""
        file = Path(model, "tokenizer.json")
        if not file.is_file():
            raise FileNotFoundError(f"{model} has no tokenizer.json")
        return cls(tokenizers.Tokenizer.from_file(str(file)))

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """The ids of `text`, with what the model wants before and after it if `special`. May run on any thread.

        A batch of one, because only `encode_batch` lets other threads run meanwhile (1 s for 2 MB).
        """
        return self.tokenizer.encode_batch([text], add_special_tokens=special)[0].ids

    def tokenize(self, text: str, *, special: bool = True) -> list[TokenSpan]:
        """The tokens of `text` and where they stand. Tokens that the model wants added cover nothing."""
        encoding = self.tokenizer.encode_batch([text], add_special_tokens=special)[0]
        ends = [0]
        for character in text:  # tokenizers counts characters here, TGI's wire bytes
            ends.append(ends[-1] + len(character.encode()))
        return [
            TokenSpan(token, text[start:stop], ends[start], ends[stop])
            for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens left out."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def decode_token(self, token: int) -> str:
        """What one token says by itself: U+FFFD for a piece of a character."""
        if token not in self._token_texts:
            self._token_texts[token] = self.tokenizer.decode([token], skip_special_tokens=False)
        return self._token_texts[token]
