"""Token ids to text, one at a time."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers.decoders import DecodeStream

from hfstream.server.text import detokenizer
from hfstream.server.text.detokenizer import IncrementalDetokenizer
from hfstream.server.text.tokenizer import Tokenizer
from tests.helpers.scripted_engine import TOKENIZER, ids

MODEL_TOKENIZER = Tokenizer(TOKENIZER)


def test_a_character_is_returned_with_its_last_token() -> None:
    decoder = IncrementalDetokenizer(MODEL_TOKENIZER, ids("Hi"))
    assert [decoder.decode(token) for token in [*ids("a鿿"), *ids("b")]] == ["a", "", "", "鿿", "b"]
    assert decoder.flush() == ""


def test_an_incomplete_character_is_not_flushed() -> None:
    decoder = IncrementalDetokenizer(MODEL_TOKENIZER, [])
    assert [decoder.decode(token) for token in ids("鿿")[:-1]] == ["", ""]
    assert decoder.flush() == ""


def test_invalid_bytes_become_text_once_they_cannot_be_completed() -> None:
    decoder = IncrementalDetokenizer(MODEL_TOKENIZER, ids("Hi"))
    texts = [decoder.decode(token) for token in [*ids("鿿")[:-1], *ids("ab")]]
    assert "".join(texts) == TOKENIZER.decode([*ids("鿿")[:-1], *ids("ab")])


def test_a_context_that_ends_in_a_replacement_character_is_not_repeated() -> None:
    decoder = IncrementalDetokenizer(MODEL_TOKENIZER, ids("x\ufffd"))
    assert decoder.decode(ids("y")[0]) == "y"


def test_a_stream_with_an_invalid_prefix_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class FailingStream:
        def __init__(self, **options: Any) -> None:
            made.append(self)
            self.stream = DecodeStream(**options)

        def step(self, tokenizer: Any, token: Any) -> Any:
            if len(made) == 1 and token == ids("c")[0]:
                raise Exception("Invalid prefix encountered while decoding stream.")
            return self.stream.step(tokenizer, token)

    monkeypatch.setattr(detokenizer, "DecodeStream", FailingStream)
    decoder = IncrementalDetokenizer(MODEL_TOKENIZER, [])
    assert [decoder.decode(ids(character)[0]) for character in "abcd"] == ["a", "b", "c", "d"]
    assert len(made) == 2
