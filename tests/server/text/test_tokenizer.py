"""A model's tokenizer: ids, the bytes that tokens cover, special tokens, and settings that do not apply."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers

from hfstream.server.text.tokenizer import Tokenizer
from tests.helpers.scripted_engine import EOS, TOKENIZER, ids, save_tokenizer

TEXT = "Grüße, 中文 🙂!"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return Tokenizer.load(save_tokenizer(tmp_path))


def test_a_model_without_a_tokenizer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_a_text_is_encoded_and_decoded(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(TEXT) == ids(TEXT)
    assert tokenizer.decode([*ids(TEXT), EOS]) == TEXT, "special tokens are left out"


def test_special_tokens_are_those_marked_so(tokenizer: Tokenizer) -> None:
    assert tokenizer.specials == {0: "<eos>", 1: "<turn>"}


def test_tokens_cover_the_bytes_of_the_text(tokenizer: Tokenizer) -> None:
    spans = tokenizer.tokenize(TEXT)
    assert [span.id for span in spans] == ids(TEXT)
    for span in spans:
        assert TEXT.encode()[span.start : span.stop].decode() == span.text
    covered = {byte for span in spans for byte in range(span.start, span.stop)}
    assert covered == set(range(len(TEXT.encode())))


def test_one_token_by_itself(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode_token(EOS) == "<eos>"
    assert [tokenizer.decode_token(token) for token in ids("鿿")] == ["\ufffd"] * 3
    assert tokenizer.decode_token(ids("H")[0]) == "H"


def test_truncation_and_padding_of_the_file_do_not_apply(tmp_path: Path) -> None:
    configured = tokenizers.Tokenizer.from_str(TOKENIZER.to_str())
    configured.enable_truncation(2)
    configured.enable_padding(length=50)
    configured.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.load(tmp_path).encode(TEXT) == ids(TEXT)
