"""Tokenizers for grammars: those of each kind of model keep their ids, and special tokens lose their texts."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models
from tokenizers.models import Model

from hfstream.server.engine.grammar_tokenizer import rename_special_tokens

VOCABULARY = {"<unk>": 0, "<eos>": 1, "a": 2, "<": 3, "e": 4}
MODELS: list[Model] = [
    models.BPE(vocab=VOCABULARY, merges=[], unk_token="<unk>"),
    models.WordLevel(vocab=VOCABULARY, unk_token="<unk>"),
    models.Unigram([(text, -1.0) for text in VOCABULARY], unk_id=0),
]


@pytest.mark.parametrize("model", MODELS, ids=["BPE", "WordLevel", "Unigram"])
def test_ids_stay_and_the_texts_of_special_tokens_are_text(model: Model) -> None:
    before = Tokenizer(model)
    before.add_special_tokens(["<eos>", "<turn>"])  # the second one is not in the model's vocabulary
    before.add_tokens(["<tool>"])
    after = Tokenizer.from_str(rename_special_tokens(before.to_str()))
    assert after.get_vocab_size() == before.get_vocab_size() == 7
    assert after.encode("a").ids == before.encode("a").ids == [2]
    assert after.encode("z").ids == before.encode("z").ids == [0]
    assert after.encode("<tool>").ids == before.encode("<tool>").ids == [6]
    for token, text in ((1, "<eos>"), (5, "<turn>")):
        assert before.encode(text).ids == [token]
        assert token not in after.encode(text).ids
        assert after.id_to_token(token) not in (None, text)
