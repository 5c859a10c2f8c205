"""Text generation at OpenAI's `/v1/completions`: what is asked under whose names, and what is heard."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfstream.core.completions import CompletionChunk
from hfstream.core.parameters import TextGenerationParameters
from hfstream.core.text_generation import text_generation
from hfstream.core.urls import Endpoint
from hfstream.errors import IncompleteStreamError, InferenceError, OverloadedError, ServerError, UnexpectedResponseError
from hfstream.types import FinishReason, StreamResponse, TextGenerationResponse, Token, Usage
from tests.helpers.recordings import DONE, event

HERE = Endpoint("http://h/v1/completions", stream_in_body=True, openai=True)


def asked(*, stream: Any = False, details: Any = False, extra_body: Any = None, **parameters: Any) -> Any:
    """The body of a call."""
    call = text_generation(HERE, "p", parameters, stream=stream, details=details, headers={}, extra_body=extra_body)
    assert call.body is not None
    return json.loads(call.body)


class Heard:
    """What a caller sees of a stream: its items, then its end."""

    def __init__(self, pieces: Iterable[bytes], *, details: bool = False, **parameters: Any) -> None:
        call = text_generation(HERE, "p", parameters, stream=True, details=details, headers={})
        self.reply, self.transcript = call.make_decoder(), call.make_accumulator()
        self.items: list[Any] = []
        self.error: InferenceError | None = None
        try:
            for piece in pieces:
                self.items += self.transcript.add(self.reply.feed(piece))
                if self.reply.done:
                    break
            self.items += self.transcript.add(self.reply.finish())
        except InferenceError as error:
            self.error = error

    @property
    def final(self) -> Any:
        assert self.error is None
        return self.transcript.result()


def whole(answer: Any, *, details: bool = False, **parameters: Any) -> Any:
    reply = text_generation(HERE, "p", parameters, stream=False, details=details, headers={}).make_decoder()
    reply.feed(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
    return reply.finish()[0]


def said(text: str = "", finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason, **more}


def sure(*tokens: str, logprob: float | None = -0.5) -> dict[str, Any]:
    return {"tokens": list(tokens), "token_logprobs": [logprob] * len(tokens), "text_offset": [0] * len(tokens)}


def events(*choices: dict[str, Any]) -> list[bytes]:
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1757000000, "model": "m"}
    return [event({**head, "choices": [choice]}) for choice in choices]


def account(prompt: int, answer: int) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def usage(prompt: int, answer: int) -> bytes:
    return event({"choices": [], "usage": account(prompt, answer)})


# --- What is asked ---------------------------------------------------------------------------------------------------


def test_the_least_that_is_asked() -> None:
    assert asked() == {"prompt": "p", "stream": False}
    assert asked(stream=True) == {"prompt": "p", "stream": True, "stream_options": {"include_usage": True}}
    assert asked(**dict.fromkeys(TextGenerationParameters.__annotations__)) == asked()


@pytest.mark.parametrize(
    ("given_as", "sent_as"),
    [
        ({"max_new_tokens": 5}, {"max_tokens": 5}),
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"top_p": 0.9}, {"top_p": 0.9}),
        ({"top_k": 5}, {"top_k": 5}),
        ({"seed": 0}, {"seed": 0}),
        ({"stop": ["a"]}, {"stop": ["a"]}),
        ({"stop_sequences": ["a"]}, {"stop": ["a"]}),
        ({"best_of": 2}, {"best_of": 2}),
        ({"frequency_penalty": 0.5}, {"frequency_penalty": 0.5}),
        ({"repetition_penalty": 1.5}, {"repetition_penalty": 1.5}),
        ({"do_sample": False}, {"temperature": 0}),
        ({"do_sample": True}, {}),
        ({"do_sample": False, "temperature": 0.7}, {"temperature": 0.7}),
        ({"top_n_tokens": 3}, {}),
    ],
)
def test_parameters_go_out_under_this_routes_names(given_as: dict[str, Any], sent_as: dict[str, Any]) -> None:
    assert asked(**given_as) == {**asked(), **sent_as}


def test_details_are_log_probabilities() -> None:
    assert asked(details=True)["logprobs"] == 1
    assert asked(details=True, top_n_tokens=4)["logprobs"] == 4
    assert "logprobs" not in asked()


@pytest.mark.parametrize(
    "foreign",
    [
        {"adapter_id": "a"},
        {"decoder_input_details": True},
        {"return_full_text": True},
        {"truncate": 5},
        {"typical_p": 0.5},
        {"watermark": True},
    ],
)
def test_what_this_route_has_not_is_refused(foreign: dict[str, Any]) -> None:
    [name] = foreign
    with pytest.raises(TypeError, match=f"has no `{name}`"):
        asked(**foreign)
    assert asked(extra_body=foreign)[name] == foreign[name]


@pytest.mark.parametrize("off", [{"return_full_text": False}, {"watermark": False}, {"decoder_input_details": False}])
def test_what_is_switched_off_need_not_be_said(off: dict[str, Any]) -> None:
    assert asked(**off) == asked()


def test_every_parameter_is_sent_or_refused() -> None:
    for name in TextGenerationParameters.__annotations__:
        value: Any = {"type": "json", "value": {}} if name == "grammar" else 5
        try:
            body = asked(**{name: value}, details=True)
        except TypeError as error:
            assert f"`{name}`" in str(error)
        else:
            assert body != asked(details=True) or name == "do_sample"


@pytest.mark.parametrize(("name", "right"), [("max_new_token", "max_new_tokens"), ("temprature", "temperature")])
def test_a_mistyped_name_is_refused_here_too(name: str, right: str) -> None:
    with pytest.raises(TypeError, match=f"`{name}`: did you mean `{right}`"):
        asked(**{name: 5})


SCHEMA = {"type": "object", "properties": {"a": {"default": None, "enum": [None, 1]}}}


@pytest.mark.parametrize(
    ("grammar", "told"),
    [
        ({"type": "json", "value": SCHEMA}, {"name": "answer", "schema": SCHEMA}),
        ({"type": "json_object", "value": SCHEMA}, {"name": "answer", "schema": SCHEMA}),
        ({"type": "json_schema", "value": {"name": "n", "schema": SCHEMA}}, {"name": "n", "schema": SCHEMA}),
    ],
)
def test_a_grammar_is_a_response_format(grammar: Any, told: Any) -> None:
    assert asked(grammar=grammar)["response_format"] == {"type": "json_schema", "json_schema": told}


@pytest.mark.parametrize("grammar", [{"type": "regex", "value": "a+"}, {"type": "x"}, {}, {"value": SCHEMA}, "json"])
def test_a_grammar_that_this_route_has_not_is_refused(grammar: Any) -> None:
    with pytest.raises(TypeError, match="takes no grammar"):
        asked(grammar=grammar)


def test_extra_body_wins_and_nulls_in_it_stay() -> None:
    body = asked(max_new_tokens=5, stream=True, extra_body={"max_tokens": 7, "min_p": None, "stream_options": None})
    assert (body["max_tokens"], body["min_p"], body["stream_options"]) == (7, None, None)


# --- What is heard ---------------------------------------------------------------------------------------------------

VLLM = [
    *events(
        said("Hel", logprobs=sure("Hel"), stop_reason=None, token_ids=[11]),
        said("lo", logprobs=sure("lo"), stop_reason=None, token_ids=[12]),
        said(" 🙂\u2028", logprobs=sure(" 🙂", "\u2028"), stop_reason=None, token_ids=[13, 14]),
        said("", "stop", logprobs=sure("</s>"), stop_reason=None, token_ids=[2]),
    ),
    usage(7, 5),
    DONE,
]
VLLM_WHOLE: dict[str, Any] = {
    "choices": [
        said(
            "Hello 🙂\u2028", "stop", logprobs=sure("Hel", "lo", " 🙂", "\u2028", "</s>"), stop_reason=None,
            token_ids=[11, 12, 13, 14, 2],
        )
    ],
    "usage": account(7, 5),
}  # fmt: skip


def test_a_stream_of_text() -> None:
    heard = Heard(VLLM)
    assert heard.items == ["Hel", "lo", " 🙂", "\u2028"]
    assert heard.final == heard.transcript.text == "Hello 🙂\u2028"
    assert heard.transcript.finish_reason is FinishReason.EndOfSequenceToken
    assert heard.transcript.usage == Usage(**account(7, 5))


def test_a_stream_of_details() -> None:
    heard = Heard(VLLM, details=True)
    assert [type(item) for item in heard.items] == [StreamResponse] * 5
    assert [item.index for item in heard.items] == [1, 2, 3, 4, 5]
    assert heard.items[0].token == Token(id=11, text="Hel", logprob=-0.5)
    assert heard.items[-1].token == Token(id=2, text="</s>", logprob=-0.5, special=True)
    assert [item.generated_text for item in heard.items] == [None] * 4 + ["Hello 🙂\u2028"]
    assert [item.details is None for item in heard.items] == [True] * 4 + [False]
    assert heard.items[-1].details.finish_reason is FinishReason.EndOfSequenceToken
    assert heard.items[-1].details.generated_tokens == 5
    assert heard.final.details.generated_tokens == 5


@pytest.mark.parametrize("details", [False, True])
def test_a_stream_comes_to_the_same_as_the_answer_in_one_piece(details: bool) -> None:
    assert Heard(VLLM, details=details).final == whole(VLLM_WHOLE, details=details)


def test_a_whole_answer() -> None:
    assert whole(VLLM_WHOLE) == "Hello 🙂\u2028"
    answer = whole(VLLM_WHOLE, details=True)
    assert isinstance(answer, TextGenerationResponse)
    assert answer.generated_text == "Hello 🙂\u2028"
    assert answer.details is not None
    assert [(token.id, token.text, token.special) for token in answer.details.tokens] == [
        (11, "Hel", False), (12, "lo", False), (13, " 🙂", False), (14, "\u2028", False), (2, "</s>", True),
    ]  # fmt: skip
    assert answer.details.generated_tokens == 5


def test_tokens_that_are_pieces_of_a_character_are_all_there_in_a_whole_answer() -> None:
    told = {"choices": [said("a🙂b", "length", logprobs=sure("a", "\ufffd", "\ufffd", "b"))], "usage": account(1, 4)}
    tokens = whole(told, details=True).details.tokens
    assert [token.text for token in tokens] == ["a", "\ufffd", "\ufffd", "b"]
    assert not any(token.special for token in tokens)


def test_a_token_that_is_a_piece_of_a_character_has_the_text_that_it_added() -> None:
    pieces = events(said("", logprobs=sure("\ufffd")), said("🙂", logprobs=sure("\ufffd")), said("", "length"))
    heard = Heard([*pieces, DONE], details=True)
    assert [item.token.text for item in heard.items] == ["", "🙂", ""]
    assert [item.token.special for item in heard.items] == [False, False, True]
    assert [item.token.logprob for item in heard.items] == [-0.5, -0.5, None]
    assert heard.final.generated_text == "🙂"


def test_without_log_probabilities_a_chunk_is_a_token_and_its_id_is_unknown() -> None:
    heard = Heard([*events(said("a"), said(""), said("b", "length")), usage(3, 3), DONE], details=True)
    assert [item.token for item in heard.items] == [Token(id=-1, text=text) for text in ("a", "", "b")]
    assert heard.final.details.finish_reason is FinishReason.Length
    answer = whole({"choices": [said("ab", "length")], "usage": account(1, 2)}, details=True)
    assert (answer.details.tokens, answer.details.generated_tokens) == ([], 2)


def test_top_tokens_are_in_the_order_of_their_tokens() -> None:
    tops = [{"a": -0.1, "b": -2.5}, None, {}]
    logprobs = {**sure("a", "b", "c"), "top_logprobs": tops}
    expected = [[Token(id=-1, text="a", logprob=-0.1), Token(id=-1, text="b", logprob=-2.5)], [], []]
    one = {"choices": [said("abc", "length", logprobs=logprobs)]}
    assert whole(one, details=True, top_n_tokens=2).details.top_tokens == expected
    assert whole(one, details=True).details.top_tokens is None
    heard = Heard([*events(said("abc", "length", logprobs=logprobs)), DONE], details=True, top_n_tokens=2)
    assert heard.final.details.top_tokens == expected
    assert (
        Heard([*events(said("abc", "length", logprobs=logprobs)), DONE], details=True).final.details.top_tokens is None
    )


@pytest.mark.parametrize(
    ("finish_reason", "more", "stop", "expected"),
    [
        ("length", {}, ["x"], FinishReason.Length),
        ("eos_token", {}, ["x"], FinishReason.EndOfSequenceToken),
        ("stop_sequence", {}, [], FinishReason.StopSequence),
        ("stop", {}, [], FinishReason.EndOfSequenceToken),
        ("stop", {"stop_reason": None}, ["x"], FinishReason.EndOfSequenceToken),
        ("stop", {"stop_reason": "x"}, ["x"], FinishReason.StopSequence),
        ("stop", {"stop_reason": 151643}, ["x"], FinishReason.EndOfSequenceToken),
        ("stop", {}, ["x"], "stop"),  # nothing tells which of the two it was
        ("abort", {}, [], "abort"),
    ],
)
def test_finish_reasons_are_TGIs_words(finish_reason: str, more: Any, stop: list[str], expected: Any) -> None:
    streamed = Heard([*events(said("a", finish_reason, **more)), DONE], stop=stop, details=True)
    assert streamed.transcript.finish_reason == expected
    assert Heard([*events(said("a", finish_reason, **more)), DONE], stop=stop).transcript.finish_reason == expected
    details = whole({"choices": [said("a", finish_reason, **more)]}, stop=stop, details=True).details
    assert details.finish_reason == expected
    assert isinstance(details.finish_reason, FinishReason) == isinstance(expected, FinishReason)


def test_TGIs_own_route_of_this_name() -> None:
    # finish_reason "" until the end, the usage beside it, and then [DONE].
    final = event({"choices": [said("</s>", "eos_token")], "usage": account(3, 3)})
    heard = Heard([*events(said("a", ""), said("b", "")), final, DONE])
    assert heard.items == ["a", "b", "</s>"]
    assert heard.transcript.usage == Usage(**account(3, 3))
    assert heard.transcript.finish_reason is FinishReason.EndOfSequenceToken


def test_llama_cpp() -> None:
    last = event({"choices": [said("", "stop")], "usage": account(3, 2), "timings": {"predicted_n": 2}})
    assert Heard([*events(said("a"), said("b")), last, DONE]).items == ["a", "b"]


def token(index: int, text: str, **more: Any) -> dict[str, Any]:
    made = {"id": 100 + index, "text": text, "logprob": -0.5, "special": False, **more}
    return {"index": index, "token": made, "generated_text": None, "details": None}


def test_our_own_server_tells_tokens_beside_the_choice() -> None:
    details = {"finish_reason": "eos_token", "generated_tokens": 3, "seed": None, "input_length": 7}
    end = {**token(3, "</s>", special=True), "generated_text": "ab", "details": details}
    pieces = [
        event({"choices": [said("a")], "usage": None, **token(1, "a")}),
        event({"choices": [said("b")], "usage": None, **token(2, "b")}),
        event({"choices": [said("", "stop")], "usage": None, **end}),
        usage(7, 3),
        DONE,
    ]
    assert Heard(pieces).items == ["a", "b"]
    assert Heard(pieces).final == "ab"
    heard = Heard(pieces, details=True)
    assert [item.token.id for item in heard.items] == [101, 102, 103]
    assert [item.token.special for item in heard.items] == [False, False, True]
    assert heard.final.generated_text == "ab"
    assert heard.final.details.finish_reason is FinishReason.EndOfSequenceToken
    assert heard.final.details.generated_tokens == 3
    assert heard.transcript.usage == Usage(**account(7, 3))


@pytest.mark.parametrize("details", [False, True])
def test_what_follows_the_finish_says_nothing_but_the_usage(details: bool) -> None:
    late = event({"choices": [said("")], "usage": account(3, 2)})
    pieces = [*events(said("a"), said("b", "length")), late, DONE]
    for wire in (pieces, [b"".join(pieces)]):
        heard = Heard(wire, details=details)
        assert len(heard.items) == 2
        assert heard.transcript.finish_reason is FinishReason.Length
        assert heard.transcript.usage == Usage(**account(3, 2))
        assert (heard.final.generated_text if details else heard.final) == "ab"
        assert not details or heard.final.details.finish_reason is FinishReason.Length


def test_only_the_first_of_several_answers_is_heard() -> None:
    both = [event({"choices": [{**said("x", "length"), "index": 1}, said("a", "length")]}), DONE]
    assert Heard(both).items == ["a"]
    assert whole({"choices": [{**said("x"), "index": 1}, said("a")]}) == "a"


def test_an_empty_answer_is_one() -> None:
    assert Heard([*events(said("", "stop")), DONE]).final == ""
    assert Heard([*events(said("", "stop")), DONE]).items == []
    assert whole({"choices": [said("", "stop")]}) == ""


# --- How it ends -----------------------------------------------------------------------------------------------------


def test_the_finish_is_enough() -> None:
    for rest in ([], [usage(1, 1)], [DONE], [b"data: [DO"]):
        assert Heard([*events(said("a"), said("b", "length")), *rest]).final == "ab"


@pytest.mark.parametrize("rest", [[], [b":\n\n"], [b'data: {"choi']])
def test_an_early_end_is_told(rest: list[bytes]) -> None:
    heard = Heard([*events(said("a"), said("b")), *rest])
    assert heard.items == ["a", "b"]
    assert type(heard.error) is IncompleteStreamError
    assert heard.transcript.text == "ab"


@pytest.mark.parametrize("pieces", [[], [DONE], [usage(1, 0), DONE], [event({"choices": []}), DONE]])
def test_an_empty_stream_is_told(pieces: list[bytes]) -> None:
    heard = Heard(pieces)
    assert type(heard.error) is IncompleteStreamError
    assert heard.reply.content_count == 0


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"error": {"message": "Model is overloaded", "http_status_code": 422}}, OverloadedError),
        ({"error": "boom"}, ServerError),
        ({"choices": [], "error": {"message": "boom", "code": 500}}, ServerError),
        ("nonsense", UnexpectedResponseError),
        ({"generated_text": "a"}, UnexpectedResponseError),
        ({"choices": [{"index": 0, "text": "a", "stop_reason": 1.5}]}, UnexpectedResponseError),
        ({"choices": [{"index": 0, "text": "a", "stop_reason": [1]}]}, UnexpectedResponseError),
    ],
)
def test_an_error_comes_after_what_was_said(payload: Any, kind: type[InferenceError]) -> None:
    wire = b"".join([*events(said("a")), event(payload), DONE])
    for pieces in ([wire], [wire[place : place + 1] for place in range(len(wire))]):
        heard = Heard(pieces)
        assert heard.items == ["a"]
        assert type(heard.error) is kind


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b"", b"{", b'{"choices": []}', b'{"choices": null}'])
def test_what_is_no_answer_is_told(body: bytes) -> None:
    with pytest.raises(UnexpectedResponseError, match="not the JSON that was expected"):
        whole(body)


def test_a_whole_answer_bends() -> None:
    told = {"choices": [{"index": None, "text": None, "finish_reason": None}], "usage": {"completion_tokens": None}}
    assert whole(told) == ""
    assert whole(told, details=True).details.generated_tokens == 0


@given(st.lists(st.integers(0, 2000), max_size=12), st.booleans(), st.sampled_from([b"\n", b"\r\n", b"\r"]))
@settings(deadline=None, max_examples=150)
def test_a_stream_in_any_pieces_gives_the_same_items(places: list[int], details: bool, end: bytes) -> None:
    wire = b"".join(VLLM).replace(b"\n", end)
    bounds = [0, *sorted(place % len(wire) for place in places), len(wire)]
    heard = Heard([wire[a:b] for a, b in itertools.pairwise(bounds)], details=details)
    expected = Heard(VLLM, details=details)
    assert heard.items == expected.items
    assert heard.final == expected.final


ODD = [None, True, 0, -1, 1.5, 1e300, "", "x", "1", [], [None], [1], ["x"], {}, {"a": None}, {"int": 1}, {"text": 5}]


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    inside: Iterable[tuple[Any, Any]]
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(inside):
        yield value, key
        yield from places_in(part)


def test_whatever_stands_in_a_field_is_read_or_one_of_our_errors() -> None:
    told = copy.deepcopy(VLLM_WHOLE) | token(1, "a")
    told["choices"][0]["logprobs"]["top_logprobs"] = [{"a": -0.5}, None]
    told["choices"][0]["stop_reason"] = "x"
    read = 0
    for number in range(len(list(places_in(told)))):
        for odd in ODD:
            bent = copy.deepcopy(told)
            holder, key = list(places_in(bent))[number]
            holder[key] = odd
            wire = json.dumps(bent).encode()
            heard = Heard([b"data: " + wire + b"\n\n", DONE], details=True, top_n_tokens=2)
            read += heard.error is None
            try:
                whole(wire, details=True, top_n_tokens=2)
                CompletionChunk.parse_lenient(wire)
            except (InferenceError, ValueError):
                pass
    assert read > 100
