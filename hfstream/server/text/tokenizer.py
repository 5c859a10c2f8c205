"""Text to token ids, and the text of single tokens: the model's own tokenizer.json, read by `tokenizers`.

Does not depend on transformers, whose tokenizers wrap the same file, nor on how generated ids become text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import tokenizers


class TokenSpan(NamedTuple):
    """One token of a text, and the range of the text's UTF-8 bytes that it covers."""

    id: int
    text: str
    start: int
    stop: int


class Tokenizer:
    """A model's tokenizer, its special tokens, and a cache of the texts of single tokens."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        # Both are training settings that some tokenizer.json files contain; they would change prompts.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.specials: dict[int, str] = {token: entry.content for token, entry in added.items() if entry.special}
        """Ids of the special tokens, and how each is written, such as ``</s>``."""
        self._token_texts: dict[int, str] = {}

    @classmethod
    def load(cls, model: str | PathLike[str]) -> Tokenizer:
        """The tokenizer of the checkpoint in the directory `model`.

        Raises:
            FileNotFoundError: it has no tokenizer.json.
        """
        file = Path(model, "tokenizer.json")
        if not file.is_file():
            raise FileNotFoundError(f"{model} has no tokenizer.json")
        return cls(tokenizers.Tokenizer.from_file(str(file)))

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """The ids of `text`; if `special`, with the special tokens that the model expects around it. Thread-safe.

        A batch of one, because only `encode_batch` releases the GIL (2 MB of text take 1 s).
        """
        return self.tokenizer.encode_batch([text], add_special_tokens=special)[0].ids

    def tokenize(self, text: str, *, special: bool = True) -> list[TokenSpan]:
        """The tokens of `text` and their positions. Special tokens that were added have an empty range."""
        encoding = self.tokenizer.encode_batch([text], add_special_tokens=special)[0]
        ends = [0]
        for character in text:  # tokenizers counts characters, TGI's API bytes
            ends.append(ends[-1] + len(character.encode()))
        return [
            TokenSpan(token, text[start:stop], ends[start], ends[stop])
            for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)
        ]

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of `ids`; unless `skip_special`, with the special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=skip_special)

    def decode_token(self, token: int) -> str:
        """The text of one token by itself: U+FFFD where it is part of a character."""
        if token not in self._token_texts:
            self._token_texts[token] = self.tokenizer.decode([token], skip_special_tokens=False)
        return self._token_texts[token]

    def token_bytes(self, token: int, text: str) -> bytes:
        """The bytes of one token, whose text at its place is `text`; also of one that is only a part of a character."""
        if "\ufffd" in self.decode_token(token):
            name = self.tokenizer.id_to_token(token) or ""
            if byte := _BYTE_FALLBACK.fullmatch(name):
                return bytes.fromhex(byte[1])
            if _BYTE_LEVEL.keys() >= set(name):
                return bytes(_BYTE_LEVEL[character] for character in name)
        return text.encode()


def _byte_level_alphabet() -> dict[str, int]:
    """How byte-level tokenizers write bytes: printable ones of Latin-1 as they are, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted({*range(0x100)}.difference(printable))
    return {chr(byte): byte for byte in printable} | {chr(0x100 + at): byte for at, byte in enumerate(others)}


_BYTE_LEVEL = _byte_level_alphabet()
_BYTE_FALLBACK = re.compile("<0x([0-9A-F]{2})>")
"""How other tokenizers write a byte of a character that they do not have."""
