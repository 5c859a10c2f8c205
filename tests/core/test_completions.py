"""Text generation at OpenAI's `/v1/completions`: the request body, streams, and responses without streaming."""

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
from hfstream.errors import (
    IncompleteGenerationError,
    IncompleteStreamError,
    InferenceError,
    OverloadedError,
    ServerError,
    UnexpectedResponseError,
)
from hfstream.types import FinishReason, StreamResponse, TextGenerationResponse, Token, Usage
from tests.helpers.recordings import DONE, event

HERE = Endpoint("http://h/v1/completions", stream_in_body=True, openai=True)


def body_of(*, stream: Any = False, details: Any = False, extra_body: Any = None, **parameters: Any) -> Any:
    """The body of a call."""
    call = text_generation(HERE, "p", parameters, stream=stream, details=details, headers={}, extra_body=extra_body)
    assert call.body is not None
    return json.loads(call.body)


class StreamResult:
    """What a caller sees of a stream: its items, then its end."""

    def __init__(self, chunks: Iterable[bytes], *, details: bool = False, **parameters: Any) -> None:
        call = text_generation(HERE, "p", parameters, stream=True, details=details, headers={})
        self.decoder, self.accumulator = call.make_decoder(), call.make_accumulator()
        self.items: list[Any] = []
        self.error: InferenceError | None = None
        try:
            for chunk in chunks:
                self.items += self.accumulator.add(self.decoder.feed(chunk))
                if self.decoder.done:
                    break
            self.items += self.accumulator.add(self.decoder.finish())
        except InferenceError as error:
            self.error = error

    @property
    def final(self) -> Any:
        assert self.error is None
        return self.accumulator.result()


def complete_result(answer: Any, *, details: bool = False, **parameters: Any) -> Any:
    decoder = text_generation(HERE, "p", parameters, stream=False, details=details, headers={}).make_decoder()
    decoder.feed(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
    return decoder.finish()[0]


def choice_of(text: str = "", finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason, **more}


def logprobs_of(*tokens: str, logprob: float | None = -0.5) -> dict[str, Any]:
    return {"tokens": list(tokens), "token_logprobs": [logprob] * len(tokens), "text_offset": [0] * len(tokens)}


def events(*choices: dict[str, Any]) -> list[bytes]:
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1757000000, "model": "m"}
    return [event({**head, "choices": [choice]}) for choice in choices]


def usage_of(prompt: int, answer: int) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def usage(prompt: int, answer: int) -> bytes:
    return event({"choices": [], "usage": usage_of(prompt, answer)})


# --- Requests --------------------------------------------------------------------------------------------------------


def test_the_smallest_body() -> None:
    assert body_of() == {"prompt": "p", "stream": False}
    assert body_of(stream=True) == {"prompt": "p", "stream": True, "stream_options": {"include_usage": True}}
    assert body_of(**dict.fromkeys(TextGenerationParameters.__annotations__)) == body_of()


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
def test_parameters_are_sent_under_OpenAIs_names(given_as: dict[str, Any], sent_as: dict[str, Any]) -> None:
    assert body_of(**given_as) == {**body_of(), **sent_as}


def test_details_request_log_probabilities() -> None:
    assert body_of(details=True)["logprobs"] == 1
    assert body_of(details=True, top_n_tokens=4)["logprobs"] == 4
    assert "logprobs" not in body_of()


@pytest.mark.parametrize(
    "unsupported",
    [
        {"adapter_id": "a"},
        {"decoder_input_details": True},
        {"return_full_text": True},
        {"truncate": 5},
        {"typical_p": 0.5},
        {"watermark": True},
    ],
)
def test_an_unsupported_parameter_raises(unsupported: dict[str, Any]) -> None:
    [name] = unsupported
    with pytest.raises(TypeError, match=f"has no `{name}`"):
        body_of(**unsupported)
    assert body_of(extra_body=unsupported)[name] == unsupported[name]


@pytest.mark.parametrize("off", [{"return_full_text": False}, {"watermark": False}, {"decoder_input_details": False}])
def test_an_unsupported_parameter_that_is_False_is_left_out(off: dict[str, Any]) -> None:
    assert body_of(**off) == body_of()


def test_every_parameter_is_sent_or_raises() -> None:
    for name in TextGenerationParameters.__annotations__:
        value: Any = {"type": "json", "value": {}} if name == "grammar" else 5
        try:
            body = body_of(**{name: value}, details=True)
        except TypeError as error:
            assert f"`{name}`" in str(error)
        else:
            assert body != body_of(details=True) or name == "do_sample"


@pytest.mark.parametrize(("name", "right"), [("max_new_token", "max_new_tokens"), ("temprature", "temperature")])
def test_a_mistyped_name_raises_with_a_suggestion(name: str, right: str) -> None:
    with pytest.raises(TypeError, match=f"`{name}`: did you mean `{right}`"):
        body_of(**{name: 5})


SCHEMA = {"type": "object", "properties": {"a": {"default": None, "enum": [None, 1]}}}


@pytest.mark.parametrize(
    ("grammar", "response"),
    [
        ({"type": "json", "value": SCHEMA}, {"name": "answer", "schema": SCHEMA}),
        ({"type": "json_object", "value": SCHEMA}, {"name": "answer", "schema": SCHEMA}),
        ({"type": "json_schema", "value": {"name": "n", "schema": SCHEMA}}, {"name": "n", "schema": SCHEMA}),
    ],
)
def test_a_grammar_is_sent_as_response_format(grammar: Any, response: Any) -> None:
    assert body_of(grammar=grammar)["response_format"] == {"type": "json_schema", "json_schema": response}


@pytest.mark.parametrize("grammar", [{"type": "regex", "value": "a+"}, {"type": "x"}, {}, {"value": SCHEMA}, "json"])
def test_an_unsupported_grammar_raises(grammar: Any) -> None:
    with pytest.raises(TypeError, match="takes no grammar"):
        body_of(grammar=grammar)


def test_extra_body_overrides_parameters_and_its_nulls_are_sent() -> None:
    body = body_of(max_new_tokens=5, stream=True, extra_body={"max_tokens": 7, "min_p": None, "stream_options": None})
    assert (body["max_tokens"], body["min_p"], body["stream_options"]) == (7, None, None)


def test_several_texts_raise() -> None:
    assert body_of(extra_body={"n": 1})["n"] == 1
    with pytest.raises(TypeError, match="leave out `n`"):
        body_of(extra_body={"n": 2})


# --- Responses -------------------------------------------------------------------------------------------------------

VLLM = [
    *events(
        choice_of("Hel", logprobs=logprobs_of("Hel"), stop_reason=None, token_ids=[11]),
        choice_of("lo", logprobs=logprobs_of("lo"), stop_reason=None, token_ids=[12]),
        choice_of(" 🙂\u2028", logprobs=logprobs_of(" 🙂", "\u2028"), stop_reason=None, token_ids=[13, 14]),
        choice_of("", "stop", logprobs=logprobs_of("</s>"), stop_reason=None, token_ids=[2]),
    ),
    usage(7, 5),
    DONE,
]
VLLM_WHOLE: dict[str, Any] = {
    "choices": [
        choice_of(
            "Hello 🙂\u2028", "stop", logprobs=logprobs_of("Hel", "lo", " 🙂", "\u2028", "</s>"), stop_reason=None,
            token_ids=[11, 12, 13, 14, 2],
        )
    ],
    "usage": usage_of(7, 5),
}  # fmt: skip


def test_a_stream_of_text() -> None:
    stream_result = StreamResult(VLLM)
    assert stream_result.items == ["Hel", "lo", " 🙂", "\u2028"]
    assert stream_result.final == stream_result.accumulator.text == "Hello 🙂\u2028"
    assert stream_result.accumulator.finish_reason is FinishReason.EndOfSequenceToken
    assert stream_result.accumulator.usage == Usage(**usage_of(7, 5))


def test_a_stream_of_details() -> None:
    stream_result = StreamResult(VLLM, details=True)
    assert [type(item) for item in stream_result.items] == [StreamResponse] * 5
    assert [item.index for item in stream_result.items] == [1, 2, 3, 4, 5]
    assert stream_result.items[0].token == Token(id=11, text="Hel", logprob=-0.5)
    assert stream_result.items[-1].token == Token(id=2, text="</s>", logprob=-0.5, special=True)
    assert [item.generated_text for item in stream_result.items] == [None] * 4 + ["Hello 🙂\u2028"]
    assert [item.details is None for item in stream_result.items] == [True] * 4 + [False]
    assert stream_result.items[-1].details.finish_reason is FinishReason.EndOfSequenceToken
    assert stream_result.items[-1].details.generated_tokens == 5
    assert stream_result.final.details.generated_tokens == 5


@pytest.mark.parametrize("details", [False, True])
def test_a_stream_gives_the_same_result_as_a_response_without_streaming(details: bool) -> None:
    assert StreamResult(VLLM, details=details).final == complete_result(VLLM_WHOLE, details=details)


def test_a_response_without_streaming() -> None:
    assert complete_result(VLLM_WHOLE) == "Hello 🙂\u2028"
    answer = complete_result(VLLM_WHOLE, details=True)
    assert isinstance(answer, TextGenerationResponse)
    assert answer.generated_text == "Hello 🙂\u2028"
    assert answer.details is not None
    assert [(token.id, token.text, token.special) for token in answer.details.tokens] == [
        (11, "Hel", False), (12, "lo", False), (13, " 🙂", False), (14, "\u2028", False), (2, "</s>", True),
    ]  # fmt: skip
    assert answer.details.generated_tokens == 5


def test_a_complete_response_has_all_tokens_even_incomplete_characters() -> None:
    response = {
        "choices": [choice_of("a🙂b", "length", logprobs=logprobs_of("a", "\ufffd", "\ufffd", "b"))],
        "usage": usage_of(1, 4),
    }
    tokens = complete_result(response, details=True).details.tokens
    assert [token.text for token in tokens] == ["a", "\ufffd", "\ufffd", "b"]
    assert not any(token.special for token in tokens)


def test_a_token_that_is_an_incomplete_character_has_the_text_it_added() -> None:
    chunks = events(
        choice_of("", logprobs=logprobs_of("\ufffd")),
        choice_of("🙂", logprobs=logprobs_of("\ufffd")),
        choice_of("", "length"),
    )
    stream_result = StreamResult([*chunks, DONE], details=True)
    assert [item.token.text for item in stream_result.items] == ["", "🙂", ""]
    assert [item.token.special for item in stream_result.items] == [False, False, True]
    assert [item.token.logprob for item in stream_result.items] == [-0.5, -0.5, None]
    assert stream_result.final.generated_text == "🙂"


def test_without_log_probabilities_a_chunk_is_one_token_with_unknown_id() -> None:
    stream_result = StreamResult(
        [*events(choice_of("a"), choice_of(""), choice_of("b", "length")), usage(3, 3), DONE], details=True
    )
    assert [item.token for item in stream_result.items] == [Token(id=-1, text=text) for text in ("a", "", "b")]
    assert stream_result.final.details.finish_reason is FinishReason.Length
    answer = complete_result({"choices": [choice_of("ab", "length")], "usage": usage_of(1, 2)}, details=True)
    assert (answer.details.tokens, answer.details.generated_tokens) == ([], 2)


def test_top_tokens_are_in_the_order_of_their_tokens() -> None:
    tops = [{"a": -0.1, "b": -2.5}, None, {}]
    logprobs = {**logprobs_of("a", "b", "c"), "top_logprobs": tops}
    expected = [[Token(id=-1, text="a", logprob=-0.1), Token(id=-1, text="b", logprob=-2.5)], [], []]
    one = {"choices": [choice_of("abc", "length", logprobs=logprobs)]}
    assert complete_result(one, details=True, top_n_tokens=2).details.top_tokens == expected
    assert complete_result(one, details=True).details.top_tokens is None
    stream_result = StreamResult(
        [*events(choice_of("abc", "length", logprobs=logprobs)), DONE], details=True, top_n_tokens=2
    )
    assert stream_result.final.details.top_tokens == expected
    assert (
        StreamResult(
            [*events(choice_of("abc", "length", logprobs=logprobs)), DONE], details=True
        ).final.details.top_tokens
        is None
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
        ("tired", {}, [], "tired"),
    ],
)
def test_finish_reasons_are_converted_to_TGIs(finish_reason: str, more: Any, stop: list[str], expected: Any) -> None:
    streamed = StreamResult([*events(choice_of("a", finish_reason, **more)), DONE], stop=stop, details=True)
    assert streamed.accumulator.finish_reason == expected
    assert (
        StreamResult([*events(choice_of("a", finish_reason, **more)), DONE], stop=stop).accumulator.finish_reason
        == expected
    )
    details = complete_result({"choices": [choice_of("a", finish_reason, **more)]}, stop=stop, details=True).details
    assert details.finish_reason == expected
    assert isinstance(details.finish_reason, FinishReason) == isinstance(expected, FinishReason)


def test_TGIs_own_route_of_this_name() -> None:
    # finish_reason "" until the end, the usage beside it, and then [DONE].
    final = event({"choices": [choice_of("</s>", "eos_token")], "usage": usage_of(3, 3)})
    stream_result = StreamResult([*events(choice_of("a", ""), choice_of("b", "")), final, DONE])
    assert stream_result.items == ["a", "b", "</s>"]
    assert stream_result.accumulator.usage == Usage(**usage_of(3, 3))
    assert stream_result.accumulator.finish_reason is FinishReason.EndOfSequenceToken


def test_llama_cpp() -> None:
    last = event({"choices": [choice_of("", "stop")], "usage": usage_of(3, 2), "timings": {"predicted_n": 2}})
    assert StreamResult([*events(choice_of("a"), choice_of("b")), last, DONE]).items == ["a", "b"]


def in_a_chats_form(*tokens: tuple[Any, str], **more: Any) -> dict[str, Any]:
    """Log probabilities as llama.cpp sends them at /v1/completions, where OpenAI has parallel lists."""
    return {"content": [{"id": id_, "token": text, "bytes": [1], "logprob": -0.5, **more} for id_, text in tokens]}


def test_log_probabilities_in_a_chats_form() -> None:
    top = [{"id": 5, "token": "a", "logprob": -0.1}, {"token": "b", "logprob": -2.5}]
    first = choice_of("ab", logprobs=in_a_chats_form((5, "a"), (None, "b"), top_logprobs=top))
    last = choice_of("", "stop", logprobs=in_a_chats_form((2, "</s>")))
    stream_result = StreamResult([*events(first, last), DONE], details=True, top_n_tokens=2)
    expected = [
        Token(id=5, text="a", logprob=-0.5),
        Token(id=-1, text="b", logprob=-0.5),
        Token(id=2, text="</s>", logprob=-0.5, special=True),
    ]
    tops = [Token(id=5, text="a", logprob=-0.1), Token(id=-1, text="b", logprob=-2.5)]
    assert [item.token for item in stream_result.items] == expected
    assert [item.top_tokens for item in stream_result.items] == [tops, tops, []]
    answer = complete_result({"choices": [{**first, "finish_reason": "stop"}]}, details=True, top_n_tokens=2)
    assert (answer.details.tokens, answer.details.top_tokens) == (expected[:2], [tops, tops])
    incomplete = choice_of("", logprobs=in_a_chats_form((7, "\ufffd")))
    stream_result = StreamResult([*events(incomplete, choice_of("🙂", "stop")), DONE], details=True)
    assert stream_result.items[0].token == Token(id=7, text="", logprob=-0.5)


def token(index: int, text: str, **more: Any) -> dict[str, Any]:
    made = {"id": 100 + index, "text": text, "logprob": -0.5, "special": False, **more}
    return {"index": index, "token": made, "generated_text": None, "details": None}


def test_our_own_server_sends_tokens_beside_the_choice() -> None:
    details = {"finish_reason": "eos_token", "generated_tokens": 3, "seed": None, "input_length": 7}
    end = {**token(3, "</s>", special=True), "generated_text": "ab", "details": details}
    chunks = [
        event({"choices": [choice_of("a")], "usage": None, **token(1, "a")}),
        event({"choices": [choice_of("b")], "usage": None, **token(2, "b")}),
        event({"choices": [choice_of("", "stop")], "usage": None, **end}),
        usage(7, 3),
        DONE,
    ]
    assert StreamResult(chunks).items == ["a", "b"]
    assert StreamResult(chunks).final == "ab"
    stream_result = StreamResult(chunks, details=True)
    assert [item.token.id for item in stream_result.items] == [101, 102, 103]
    assert [item.token.special for item in stream_result.items] == [False, False, True]
    assert stream_result.final.generated_text == "ab"
    assert stream_result.final.details.finish_reason is FinishReason.EndOfSequenceToken
    assert stream_result.final.details.generated_tokens == 3
    assert stream_result.accumulator.usage == Usage(**usage_of(7, 3))


@pytest.mark.parametrize("details", [False, True])
def test_after_the_finish_only_the_usage_is_read(details: bool) -> None:
    late = event({"choices": [choice_of("")], "usage": usage_of(3, 2)})
    chunks = [*events(choice_of("a"), choice_of("b", "length")), late, DONE]
    for raw_body in (chunks, [b"".join(chunks)]):
        stream_result = StreamResult(raw_body, details=details)
        assert len(stream_result.items) == 2
        assert stream_result.accumulator.finish_reason is FinishReason.Length
        assert stream_result.accumulator.usage == Usage(**usage_of(3, 2))
        assert (stream_result.final.generated_text if details else stream_result.final) == "ab"
        assert not details or stream_result.final.details.finish_reason is FinishReason.Length


def test_only_the_first_choice_is_read() -> None:
    both = [event({"choices": [{**choice_of("x", "length"), "index": 1}, choice_of("a", "length")]}), DONE]
    assert StreamResult(both).items == ["a"]
    assert complete_result({"choices": [{**choice_of("x"), "index": 1}, choice_of("a")]}) == "a"


@pytest.mark.parametrize("indices", [[1, 1], [1, 2], [0, 1], [1, 0]])
def test_the_only_choice_may_have_any_index(indices: list[int]) -> None:
    first, last = ({**choice_of(text), "index": index} for text, index in zip("ab", indices, strict=True))
    stream_result = StreamResult([event({"choices": [first]}), event({"choices": [{**last, "finish_reason": "stop"}]})])
    assert (stream_result.items, stream_result.final) == (["a", "b"], "ab")


def test_text_after_a_finish_means_that_it_was_none() -> None:
    each = events(*(choice_of(text, "stop") for text in "abc"))
    assert StreamResult([*each, DONE]).final == "abc"
    details = StreamResult([*each, DONE], details=True).final
    assert (details.generated_text, details.details.generated_tokens) == ("abc", 3)
    cut = StreamResult(each)
    assert type(cut.error) is IncompleteStreamError
    assert cut.accumulator.text == "abc"


@pytest.mark.parametrize(
    "odd",
    [
        {"logprobs": []}, {"logprobs": {"tokens": None, "token_logprobs": "x"}}, {"stop_reason": 1.5},
        {"stop_reason": [1]}, {"token_ids": "x"}, {"token_ids": [None]}, {"finish_reason": False}, {"index": "x"},
    ],
)  # fmt: skip
def test_the_text_of_an_unusual_chunk_is_handed_on(odd: dict[str, Any]) -> None:
    body = [*events(choice_of("a"), {**choice_of("b"), **odd}, choice_of("c", "length")), DONE]
    assert StreamResult(body).items == ["a", "b", "c"]
    assert complete_result({"choices": [{**choice_of("b", "stop"), **odd}], "created": "x", "usage": []}) == "b"


def as_in_a_chat(text: str) -> list[dict[str, Any]]:
    parts = [{"type": "text", "text": text}]
    return [
        {"delta": {"content": text}}, {"delta": {"content": parts}}, {"message": {"content": text}}, {"message": text},
        {"delta": {"role": "assistant"}, "text": text}, {"content": text},
        {"text": None, "delta": None, "message": {"content": text}},
    ]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), list(zip(as_in_a_chat("a"), as_in_a_chat("b"), strict=True)))
def test_text_in_the_place_of_a_chats_is_read(first: dict[str, Any], second: dict[str, Any]) -> None:
    last = {"delta": {}, "finish_reason": "stop"}
    for details in (False, True):
        stream_result = StreamResult([*events(first, second, last), DONE], details=details)
        assert stream_result.accumulator.text == "ab"
        assert stream_result.error is None
    assert complete_result({"choices": [{**second, "finish_reason": "stop"}]}) == "b"


@pytest.mark.parametrize("message", [None, "other", {"content": "other"}, [1], 5])
def test_a_text_in_its_place_counts(message: Any) -> None:
    choice = {**choice_of("a", "stop"), "message": message}
    assert StreamResult([*events(choice), DONE]).final == "a"
    assert complete_result({"choices": [choice]}) == "a"
    assert complete_result({"choices": [choice]}, details=True).generated_text == "a"


@pytest.mark.parametrize("payload", [{"delta": {"content": "a"}}, {"message": {"content": "a"}}])
def test_a_stream_of_another_API_is_no_empty_text(payload: Any) -> None:
    assert type(StreamResult([event(payload), DONE]).error) is UnexpectedResponseError


@pytest.mark.parametrize("where", ["chunk", "choice", "x_groq"])
def test_a_usage_is_found_wherever_it_is(where: str) -> None:
    counts = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    last: dict[str, Any] = {"choices": [choice_of("", "stop")]}
    if where == "choice":
        last["choices"][0]["usage"] = counts
    else:
        last |= {"usage": counts} if where == "chunk" else {"x_groq": {"usage": counts}}
    stream_result = StreamResult([*events(choice_of("a")), event(last), usage(0, 0), DONE])
    counted = stream_result.accumulator.usage
    assert counted is not None and counted.total_tokens == 3


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"finish_reason": "abort"}, IncompleteGenerationError),
        ({"finish_reason": "error", "error": {"code": 429, "message": "upstream"}}, OverloadedError),
    ],
)
def test_an_error_of_a_choice_is_raised(fields: dict[str, Any], kind: type[InferenceError]) -> None:
    failed = {**choice_of("b"), **fields}
    stream_result = StreamResult([*events(choice_of("a"), failed), DONE])
    assert type(stream_result.error) is kind
    assert stream_result.accumulator.text == "ab"
    with pytest.raises(kind) as caught:
        complete_result({"choices": [failed]})
    assert caught.value.partial_text == "b"


def test_an_empty_text_is_a_valid_response() -> None:
    assert StreamResult([*events(choice_of("", "stop")), DONE]).final == ""
    assert StreamResult([*events(choice_of("", "stop")), DONE]).items == []
    assert complete_result({"choices": [choice_of("", "stop")]}) == ""


# --- How it ends -----------------------------------------------------------------------------------------------------


def test_a_stream_with_a_finish_reason_is_complete() -> None:
    for rest in ([], [usage(1, 1)], [DONE], [b"data: [DO"]):
        assert StreamResult([*events(choice_of("a"), choice_of("b", "length")), *rest]).final == "ab"


@pytest.mark.parametrize("rest", [[], [b":\n\n"], [b'data: {"choi']])
def test_an_early_end_raises(rest: list[bytes]) -> None:
    stream_result = StreamResult([*events(choice_of("a"), choice_of("b")), *rest])
    assert stream_result.items == ["a", "b"]
    assert type(stream_result.error) is IncompleteStreamError
    assert stream_result.accumulator.text == "ab"


@pytest.mark.parametrize("chunks", [[], [DONE], [usage(1, 0), DONE], [event({"choices": []}), DONE]])
def test_an_empty_stream_raises(chunks: list[bytes]) -> None:
    stream_result = StreamResult(chunks)
    assert type(stream_result.error) is IncompleteStreamError
    assert stream_result.decoder.content_count == 0


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"error": {"message": "Model is overloaded", "http_status_code": 422}}, OverloadedError),
        ({"error": "boom"}, ServerError),
        ({"choices": [], "error": {"message": "boom", "code": 500}}, ServerError),
        ("nonsense", UnexpectedResponseError),
        ({"generated_text": "a"}, UnexpectedResponseError),
    ],
)
def test_an_error_is_raised_after_the_items_before_it(payload: Any, kind: type[InferenceError]) -> None:
    raw_body = b"".join([*events(choice_of("a")), event(payload), DONE])
    for chunks in ([raw_body], [raw_body[place : place + 1] for place in range(len(raw_body))]):
        stream_result = StreamResult(chunks)
        assert stream_result.items == ["a"]
        assert type(stream_result.error) is kind


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b"", b"{", b'{"choices": []}', b'{"choices": null}'])
def test_an_unexpected_body_raises(body: bytes) -> None:
    with pytest.raises(UnexpectedResponseError, match="not the JSON that was expected"):
        complete_result(body)


def test_nulls_in_a_response_are_treated_as_left_out() -> None:
    response = {"choices": [{"index": None, "text": None, "finish_reason": None}], "usage": {"completion_tokens": None}}
    assert complete_result(response) == ""
    assert complete_result(response, details=True).details.generated_tokens == 0


@given(st.lists(st.integers(0, 2000), max_size=12), st.booleans(), st.sampled_from([b"\n", b"\r\n", b"\r"]))
@settings(deadline=None, max_examples=150)
def test_a_stream_in_any_chunks_gives_the_same_items(places: list[int], details: bool, end: bytes) -> None:
    raw_body = b"".join(VLLM).replace(b"\n", end)
    bounds = [0, *sorted(place % len(raw_body) for place in places), len(raw_body)]
    stream_result = StreamResult([raw_body[a:b] for a, b in itertools.pairwise(bounds)], details=details)
    expected = StreamResult(VLLM, details=details)
    assert stream_result.items == expected.items
    assert stream_result.final == expected.final


ODD = [None, True, 0, -1, 1.5, 1e300, "", "x", "1", [], [None], [1], ["x"], {}, {"a": None}, {"int": 1}, {"text": 5}]


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    inside: Iterable[tuple[Any, Any]]
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(inside):
        yield value, key
        yield from places_in(part)


@pytest.mark.parametrize("as_in_a_chat", [False, True])
def test_any_value_in_any_field_is_read_or_raises_our_error(as_in_a_chat: bool) -> None:
    response = copy.deepcopy(VLLM_WHOLE) | token(1, "a")
    if as_in_a_chat:
        tokens = in_a_chats_form((1, "Hello"), (2, ""), top_logprobs=[{"id": 1, "token": "a", "logprob": -0.5}])
        response = {"choices": [choice_of("Hello", "stop", logprobs=tokens)]}
    else:
        response["choices"][0]["logprobs"]["top_logprobs"] = [{"a": -0.5}, None]
    response["choices"][0]["stop_reason"] = "x"
    read = 0
    for number in range(len(list(places_in(response)))):
        for odd in ODD:
            bent = copy.deepcopy(response)
            holder, key = list(places_in(bent))[number]
            holder[key] = odd
            raw_body = json.dumps(bent).encode()
            stream_result = StreamResult([b"data: " + raw_body + b"\n\n", DONE], details=True, top_n_tokens=2)
            read += stream_result.error is None
            try:
                complete_result(raw_body, details=True, top_n_tokens=2)
                CompletionChunk.parse_lenient(raw_body)
            except (InferenceError, ValueError):
                pass
    assert read > 100
