"""A model's tokenizer: ids, the bytes that tokens cover, special tokens, and settings that do not apply."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers

from hfstream.server.text import tokenizer as tokenizer_module
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


def test_the_bytes_of_tokens_make_characters(tokenizer: Tokenizer) -> None:
    assert b"".join(tokenizer.token_bytes(token, tokenizer.decode_token(token)) for token in ids(TEXT)) == TEXT.encode()
    assert [tokenizer.token_bytes(token, "") for token in ids("鿿")] == [b"\xe9", b"\xbf", b"\xbf"]
    assert tokenizer.token_bytes(ids("H")[0], " H") == b" H", "as it is written at its place"
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    assert sorted(alphabet) == sorted(tokenizer_module._BYTE_LEVEL)  # pyright: ignore[reportPrivateUsage]


def test_the_bytes_of_tokens_that_are_named_by_their_byte() -> None:
    model = tokenizers.models.BPE(vocab={"<0xC3>": 0, "\ufffd": 1}, merges=[], byte_fallback=True)
    fallback = tokenizers.Tokenizer(model)
    fallback.decoder = tokenizers.decoders.ByteFallback()
    assert Tokenizer(fallback).token_bytes(0, "") == b"\xc3"
    assert Tokenizer(fallback).token_bytes(1, "\ufffd") == "\ufffd".encode()


def test_truncation_and_padding_of_the_file_do_not_apply(tmp_path: Path) -> None:
    configured = tokenizers.Tokenizer.from_str(TOKENIZER.to_str())
    configured.enable_truncation(2)
    configured.enable_padding(length=50)
    configured.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.load(tmp_path).encode(TEXT) == ids(TEXT)
