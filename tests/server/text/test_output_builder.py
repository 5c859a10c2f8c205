"""Events built from token ids: the three texts are equal whatever the ids are; stop strings and finish reasons."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
import tokenizers

from hfstream.server.engine.protocol import EngineRequest, PromptLogprob, SamplingParams, TokenOutput
from hfstream.server.schemas.validation import ValidRequest
from hfstream.server.text.output_builder import OutputBuilder, build_response
from hfstream.server.text.tokenizer import Tokenizer
from hfstream.types import FinishReason, StreamResponse
from tests.helpers.scripted_engine import EOS, TOKENIZER, ids

MODEL_TOKENIZER = Tokenizer(TOKENIZER)
TURN = 1
SIZE = TOKENIZER.get_vocab_size()


def build(tokens: Sequence[int], *, limit: int | None = None, eos: bool = True, **options: Any) -> list[StreamResponse]:
    """The events of `tokens`, from an engine that ends after the last of them."""
    request = ValidRequest(prompt=ids("Hi"), max_new_tokens=limit or len(tokens), sampling=SamplingParams(), **options)
    builder = OutputBuilder(MODEL_TOKENIZER, request, {EOS} if eos else ())
    engine_request = EngineRequest(request.prompt, request.max_new_tokens, request.sampling)
    events: list[StreamResponse] = []
    for i, token in enumerate(tokens):
        last = i + 1 == min(len(tokens), request.max_new_tokens)
        events.append(builder.append(TokenOutput(engine_request, token, -0.5, (), last)))
        if last or events[-1].generated_text is not None:
            break
    return events


def test_the_prompts_tokens_are_events_whose_texts_are_the_prompt() -> None:
    prompt = [TURN, *ids("Grüße 🙂!")]
    request = ValidRequest(prompt=prompt, max_new_tokens=1, sampling=SamplingParams())
    builder = OutputBuilder(MODEL_TOKENIZER, request)
    assert builder.prompt is None
    logprobs = (PromptLogprob(None), *(PromptLogprob(-0.5, ((7, -0.25),)) for _ in prompt[1:]))
    builder.append(TokenOutput(EngineRequest(prompt, 1), ids("a")[0], -0.5, (), last=True, prompt=logprobs))
    assert builder.prompt is not None
    assert len(builder.prompt) == 2 * len(prompt) - 1
    events = builder.prompt.events()
    assert [each.token.id for each in events] == prompt
    assert joined_text(events) == "Grüße 🙂!"
    first, second = events[:2]
    assert (first.token.text, first.token.special, first.token.logprob) == ("<turn>", True, None)
    assert (second.token.logprob, [each.id for each in second.top_tokens or ()]) == (-0.5, [7])


def joined_text(events: list[StreamResponse]) -> str:
    return "".join(event.token.text for event in events if not event.token.special)


def same_text(events: list[StreamResponse]) -> str:
    """The text of a response, once it is checked that the three texts are equal."""
    assert [event.generated_text is None for event in events] == [True] * (len(events) - 1) + [False]
    assert [event.index for event in events] == list(range(1, len(events) + 1))
    assert joined_text(events) == events[-1].generated_text == build_response(events).generated_text
    return joined_text(events)


@pytest.mark.parametrize(
    "text", ["Hello, world!", "Grüße", "中文字符", "🙂🙃", "e\u0301", "a\u2028b", " leading", "\n\n"]
)
def test_text_is_as_it_was_encoded_and_never_part_of_a_character(text: str) -> None:
    events = build(ids(text))
    assert same_text(events) == text
    assert not any("\ufffd" in event.token.text for event in events)


def test_a_character_belongs_to_the_last_of_its_tokens() -> None:
    tokens = ids("鿿")
    assert len(tokens) == 3
    assert [event.token.text for event in build(tokens)] == ["", "", "鿿"]


def test_an_incomplete_character_is_left_out_of_all_three_texts() -> None:
    tokens = ids("Hi 鿿")
    for cut in (1, 2):
        events = build(tokens[:-cut])
        assert same_text(events) == "Hi "
        assert "\ufffd" not in joined_text(events)


def test_a_complete_character_before_an_incomplete_one_is_kept() -> None:
    """One token can contain a character and the first byte of the next."""
    state = json.loads(TOKENIZER.to_str())
    blank, first = (TOKENIZER.id_to_token(ids(text)[0]) for text in " 鿿")
    state["model"]["vocab"][f"{blank}{first}"] = 1000
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(state)))
    request = ValidRequest(prompt=ids("Hi"), max_new_tokens=1, sampling=SamplingParams())
    event = OutputBuilder(tokenizer, request).append(TokenOutput(EngineRequest([1], 1), 1000, None, (), last=True))
    assert (event.token.text, event.generated_text) == (" ", " ")


def test_random_ids() -> None:
    """Parts of characters, invalid bytes, special tokens; compared with decoding all ids at once."""
    rng = random.Random(7)
    for _ in range(1500):
        tokens = [rng.randrange(SIZE) for _ in range(rng.randrange(1, 24))]
        text = same_text(build(tokens, eos=False))
        everything = TOKENIZER.decode(tokens, skip_special_tokens=True)
        if tokens[-1] in MODEL_TOKENIZER.specials:
            assert everything.startswith(text)  # without what was incomplete before the special token
        else:
            assert text == everything.rstrip("\ufffd")


def test_random_ids_with_random_stop_strings() -> None:
    rng = random.Random(8)
    alphabet = [*ids("ab中 é🙂"), TURN]
    for _ in range(1500):
        tokens = [rng.choice(alphabet) for _ in range(rng.randrange(1, 30))]
        stop = "".join(rng.choice("ab中 é🙂") for _ in range(rng.randrange(1, 4)))
        events = build(tokens, eos=False, stop=(stop,), details=True)
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
def test_the_text_ends_with_the_stop_string(stop: tuple[str, ...], text: str) -> None:
    events = build([*ids("Hello, world! "), TURN, EOS], stop=stop, details=True)
    assert same_text(events) == text
    assert events[-1].details
    assert events[-1].details.finish_reason == ("length" if stop == ("nowhere",) else "stop_sequence")


def test_a_special_token_has_a_text_but_is_not_part_of_the_generated_text() -> None:
    events = build([*ids("Hi"), TURN, *ids("ya"), EOS], limit=50)
    special = [event.token.text for event in events if event.token.special]
    assert special == ["<turn>", "<eos>"]
    assert same_text(events) == "Hiya"


def test_a_special_token_can_be_a_stop_string() -> None:
    events = build([*ids("Hi"), TURN, *ids("ya")], stop=("<turn>",), details=True)
    assert same_text(events) == "Hi"
    assert events[-1].details
    assert events[-1].details.finish_reason == "stop_sequence"


@pytest.mark.parametrize(
    ("limit", "stop", "reason"),
    [(50, (), "eos_token"), (3, (), "length"), (50, ("i",), "stop_sequence"), (2, ("i",), "length")],
)
def test_finish_reasons_in_order(limit: int, stop: tuple[str, ...], reason: str) -> None:
    events = build([*map(id_of, "Hi"), EOS], limit=limit, stop=stop, details=True)
    assert events[-1].details
    assert events[-1].details.finish_reason == reason
    assert events[-1].details.generated_tokens == len(events)
    assert events[-1].details.input_length == len(ids("Hi"))


def id_of(character: str) -> int:
    return ids(character)[0]


def test_an_echoed_prompt_is_part_of_the_generated_text_only() -> None:
    events = build(ids("ya"), echoed_prompt="Hi")
    assert (joined_text(events), events[-1].generated_text) == ("ya", "Hiya")


def test_a_prompt_that_ends_in_a_replacement_character_is_not_repeated() -> None:
    request = ValidRequest(prompt=ids("x\ufffd"), max_new_tokens=1, sampling=SamplingParams())
    event = OutputBuilder(MODEL_TOKENIZER, request).append(
        TokenOutput(EngineRequest([1], 1), id_of("y"), None, (), last=True)
    )
    assert event.token.text == "y"


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
def test_logprobs_have_as_few_digits_as_float32_needs(logprob: float | None, text: str) -> None:
    request = ValidRequest(prompt=[5], max_new_tokens=9, sampling=SamplingParams())
    event = OutputBuilder(MODEL_TOKENIZER, request).append(
        TokenOutput(EngineRequest([5], 9), 40, logprob, ((41, logprob),), last=False)
    )
    assert f'"logprob":{text},' in event.token.model_dump_json()
    assert event.top_tokens
    assert f'"logprob":{text},' in event.top_tokens[0].model_dump_json()
