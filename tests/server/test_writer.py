"""The writer: three texts are one, whatever the ids are."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
import tokenizers
from tokenizers.decoders import DecodeStream

from hfstream.server.engine.protocol import EngineRequest, SamplingParams, TokenOutput
from hfstream.server.schemas.validation import ValidRequest
from hfstream.server.text import output_builder as writing
from hfstream.server.text.output_builder import OutputBuilder, whole
from hfstream.server.text.tokenizer import Tokenizer
from hfstream.types import FinishReason, StreamResponse
from tests.helpers.scripted_engine import EOS, TOKENIZER, ids

VOCABULARY = Tokenizer(TOKENIZER)
TURN = 1
SIZE = TOKENIZER.get_vocab_size()


def write(
    tokens: Sequence[int], *, limit: int | None = None, eos: bool = True, **question: Any
) -> list[StreamResponse]:
    """What is written of `tokens`, by an engine that ends after the last of them."""
    asked = ValidRequest(prompt=ids("Hi"), max_new_tokens=limit or len(tokens), sampling=SamplingParams(), **question)
    writer = OutputBuilder(VOCABULARY, asked, {EOS} if eos else ())
    job = EngineRequest(asked.prompt, asked.max_new_tokens, asked.sampling)
    events: list[StreamResponse] = []
    for place, token in enumerate(tokens):
        last = place + 1 == min(len(tokens), asked.max_new_tokens)
        events.append(writer.write(TokenOutput(job, token, -0.5, (), last)))
        if last or events[-1].generated_text is not None:
            break
    return events


def joined(events: list[StreamResponse]) -> str:
    return "".join(event.token.text for event in events if not event.token.special)


def same_text(events: list[StreamResponse]) -> str:
    assert [event.generated_text is None for event in events] == [True] * (len(events) - 1) + [False]
    assert [event.index for event in events] == list(range(1, len(events) + 1))
    assert joined(events) == events[-1].generated_text == whole(events).generated_text
    return joined(events)


@pytest.mark.parametrize(
    "text", ["Hello, world!", "Grüße", "中文字符", "🙂🙃", "e\u0301", "a\u2028b", " leading", "\n\n"]
)
def test_text_comes_out_as_it_went_in_and_never_half_a_character(text: str) -> None:
    events = write(ids(text))
    assert same_text(events) == text
    assert not any("\ufffd" in event.token.text for event in events)


def test_a_character_comes_whole_with_its_last_token() -> None:
    tokens = ids("鿿")
    assert len(tokens) == 3
    assert [event.token.text for event in write(tokens)] == ["", "", "鿿"]


def test_an_unfinished_character_is_left_out_of_all_three_texts() -> None:
    tokens = ids("Hi 鿿")
    for cut in (1, 2):
        events = write(tokens[:-cut])
        assert same_text(events) == "Hi "
        assert "\ufffd" not in joined(events)


def test_what_is_complete_in_an_unfinished_token_is_kept() -> None:
    """Merges can glue a finished character to the first byte of the next."""
    state = json.loads(TOKENIZER.to_str())
    blank, first = (TOKENIZER.id_to_token(ids(text)[0]) for text in " 鿿")
    state["model"]["vocab"][f"{blank}{first}"] = 1000
    vocabulary = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(state)))
    asked = ValidRequest(prompt=ids("Hi"), max_new_tokens=1, sampling=SamplingParams())
    event = OutputBuilder(vocabulary, asked).write(TokenOutput(EngineRequest([1], 1), 1000, None, (), last=True))
    assert (event.token.text, event.generated_text) == (" ", " ")


def test_any_ids_at_all() -> None:
    """Random ids: pieces of characters, garbage, special tokens. The oracle is one decoding of everything."""
    chance = random.Random(7)
    for _ in range(1500):
        tokens = [chance.randrange(SIZE) for _ in range(chance.randrange(1, 24))]
        text = same_text(write(tokens, eos=False))
        everything = TOKENIZER.decode(tokens, skip_special_tokens=True)
        if tokens[-1] in VOCABULARY.specials:
            assert everything.startswith(text)  # it ends where the last complete text did
        else:
            assert text == everything.rstrip("\ufffd")


def test_any_ids_with_any_stop_string() -> None:
    chance = random.Random(8)
    alphabet = [*ids("ab中 é🙂"), TURN]
    for _ in range(1500):
        tokens = [chance.choice(alphabet) for _ in range(chance.randrange(1, 30))]
        stop = "".join(chance.choice("ab中 é🙂") for _ in range(chance.randrange(1, 4)))
        events = write(tokens, eos=False, stop=(stop,), details=True)
        text, details = same_text(events), events[-1].details
        assert details
        unstopped = TOKENIZER.decode([token for token in tokens if token != TURN]).rstrip("\ufffd")
        if TURN not in tokens:
            end = unstopped.find(stop) + len(stop)
            assert text == (unstopped[:end] if stop in unstopped else unstopped)
        if details.finish_reason == FinishReason.StopSequence:
            assert text.endswith(stop)


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (("world",), "Hello, world"),
        (("o",), "Hello"),
        (("lo, w",), "Hello, w"),
        (("!", "wor"), "Hello, wor"),
        (("ell", "llo"), "Hell"),
        (("nowhere",), "Hello, world! "),
    ],
)
def test_a_stop_string_ends_the_answer_where_it_ends(stop: tuple[str, ...], text: str) -> None:
    events = write([*ids("Hello, world! "), TURN, EOS], stop=stop, details=True)
    assert same_text(events) == text
    assert events[-1].details
    assert events[-1].details.finish_reason == ("length" if stop == ("nowhere",) else "stop_sequence")


def test_a_special_token_has_its_text_but_is_no_part_of_the_answer() -> None:
    events = write([*ids("Hi"), TURN, *ids("ya"), EOS], limit=50)
    special = [event.token.text for event in events if event.token.special]
    assert special == ["<turn>", "<eos>"]
    assert same_text(events) == "Hiya"


def test_a_special_token_can_be_a_stop_string() -> None:
    events = write([*ids("Hi"), TURN, *ids("ya")], stop=("<turn>",), details=True)
    assert same_text(events) == "Hi"
    assert events[-1].details
    assert events[-1].details.finish_reason == "stop_sequence"


@pytest.mark.parametrize(
    ("limit", "stop", "reason"),
    [(50, (), "eos_token"), (3, (), "length"), (50, ("i",), "stop_sequence"), (2, ("i",), "length")],
)
def test_reasons_in_order(limit: int, stop: tuple[str, ...], reason: str) -> None:
    events = write([*map(ids_of, "Hi"), EOS], limit=limit, stop=stop, details=True)
    assert events[-1].details
    assert events[-1].details.finish_reason == reason
    assert events[-1].details.generated_tokens == len(events)
    assert events[-1].details.input_length == len(ids("Hi"))


def ids_of(character: str) -> int:
    return ids(character)[0]


def test_the_prompt_opens_the_whole_text_only() -> None:
    events = write(ids("ya"), echoed_prompt="Hi")
    assert (joined(events), events[-1].generated_text) == ("ya", "Hiya")


def test_a_prompt_that_ends_in_a_replacement_character_is_not_repeated() -> None:
    asked = ValidRequest(prompt=ids("x\ufffd"), max_new_tokens=1, sampling=SamplingParams())
    event = OutputBuilder(VOCABULARY, asked).write(TokenOutput(EngineRequest([1], 1), ids_of("y"), None, (), last=True))
    assert event.token.text == "y"


def test_a_decoder_that_loses_its_prefix_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Fragile:
        def __init__(self, **options: Any) -> None:
            made.append(self)
            self.stream = DecodeStream(**options)

        def step(self, tokenizer: Any, token: Any) -> Any:
            if len(made) == 1 and token == ids_of("c"):
                raise Exception("Invalid prefix encountered while decoding stream.")
            return self.stream.step(tokenizer, token)

    monkeypatch.setattr(writing, "DecodeStream", Fragile)
    assert same_text(write([ids_of(character) for character in "abcd"])) == "abcd"
    assert len(made) == 2


@pytest.mark.parametrize(
    ("logprob", "text"),
    [
        (-0.007358551025390625, "-0.007358551"),
        (-0.5, "-0.5"),
        (0.0, "0.0"),
        (-1.0728841743912199e-06, "-1.0728842e-6"),
        (float("nan"), "null"),
        (float("-inf"), "null"),
        (None, "null"),
    ],
)
def test_logprobs_are_written_as_short_as_float32_allows(logprob: float | None, text: str) -> None:
    asked = ValidRequest(prompt=[5], max_new_tokens=9, sampling=SamplingParams())
    event = OutputBuilder(VOCABULARY, asked).write(
        TokenOutput(EngineRequest([5], 9), 40, logprob, ((41, logprob),), last=False)
    )
    assert f'"logprob":{text},' in event.token.model_dump_json()
    assert event.top_tokens
    assert f'"logprob":{text},' in event.top_tokens[0].model_dump_json()
