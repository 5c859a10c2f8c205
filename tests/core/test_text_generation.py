"""The request of text generation at TGI, and how its response is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hfstream.core.accumulators import DetailsAccumulator, TextAccumulator
from hfstream.core.decoders import JSONBodyDecoder
from hfstream.core.parameters import TextGenerationParameters
from hfstream.core.request_spec import RequestSpec
from hfstream.core.single_result import SingleResult
from hfstream.core.stream_decoders import TGIStreamDecoder
from hfstream.core.text_generation import text_generation
from hfstream.core.urls import Endpoint
from hfstream.errors import (
    GenerationError,
    IncompleteGenerationError,
    InferenceError,
    UnexpectedResponseError,
)
from hfstream.types import TextGenerationResponse

# --- Bodies ----------------------------------------------------------------------------------------------------------

PLAIN, GIVEN = Endpoint("http://h/generate", stream_in_body=False), Endpoint("http://h/any", stream_in_body=True)


def call(
    target: Endpoint = PLAIN, *, prompt: str = "p", stream: bool = False, details: bool = False,
    extra_body: Any = None, **parameters: Any,
) -> RequestSpec[Any, Any, Any]:  # fmt: skip
    return text_generation(
        target, prompt, parameters, stream=stream, details=details, headers={}, extra_body=extra_body
    )


def body(*args: Any, **kwargs: Any) -> Any:
    sent = call(*args, **kwargs).body
    assert sent is not None
    return json.loads(sent)


def test_parameters_are_always_sent() -> None:
    # Without them TGI samples.
    assert body() == {"inputs": "p", "parameters": {}}
    assert body(extra_body={"parameters": {}}) == {"inputs": "p", "parameters": {}}


@pytest.mark.parametrize(
    ("stream", "details", "requested"),
    [(False, False, False), (False, True, True), (True, False, True), (True, True, True)],
)
def test_details_are_requested_where_they_are_needed(stream: bool, details: bool, requested: bool) -> None:
    assert body(stream=stream, details=details)["parameters"] == ({"details": True} if requested else {})


@pytest.mark.parametrize("stream", [True, False])
def test_stream_is_in_the_body_only_where_the_route_needs_it(stream: bool) -> None:
    assert "stream" not in body(PLAIN, stream=stream)
    assert body(GIVEN, stream=stream)["stream"] is stream


def test_None_is_the_same_as_leaving_out() -> None:
    every = dict.fromkeys(TextGenerationParameters.__annotations__)
    assert body(**every) == body()


def test_what_is_falsy_but_not_None_is_sent() -> None:
    given = {"seed": 0, "temperature": 0.0, "stop": [], "do_sample": False, "adapter_id": ""}
    assert body(**given)["parameters"] == given


def test_nulls_inside_a_grammar_are_kept() -> None:
    grammar = {"type": "json", "value": {"properties": {"a": {"default": None, "enum": [None, 1]}}, "x": None}}
    assert body(grammar=grammar)["parameters"]["grammar"] == grammar


def test_every_parameter_of_TGI_is_known() -> None:
    # As in huggingface_hub; `details` and `return_full_text` included there, the former is an argument of its own here.
    assert set(TextGenerationParameters.__annotations__) == {
        "adapter_id", "best_of", "decoder_input_details", "do_sample", "frequency_penalty", "grammar", "max_new_tokens",
        "repetition_penalty", "return_full_text", "seed", "stop", "stop_sequences", "temperature", "top_k",
        "top_n_tokens", "top_p", "truncate", "typical_p", "watermark",
    }  # fmt: skip
    for name in set(TextGenerationParameters.__annotations__) - {"stop_sequences"}:
        assert body(**{name: 5})["parameters"][name] == 5


def test_stop_sequences_is_sent_as_stop() -> None:
    assert body(stop_sequences=["a"])["parameters"] == {"stop": ["a"]}
    assert body(stop_sequences=None, stop=["a"])["parameters"]["stop"] == ["a"]
    assert body(stop_sequences=["a"], stop=None)["parameters"]["stop"] == ["a"]
    with pytest.raises(TypeError, match="older name"):
        call(stop_sequences=["a"], stop=["b"])


def test_values_are_not_validated_by_the_client() -> None:
    given = {"temperature": -5, "top_p": 7.5, "max_new_tokens": -1, "seed": 2**70, "stop": "no list"}
    assert body(**given)["parameters"] == given


def test_extra_body_is_merged_and_overrides_parameters() -> None:
    extra = {"parameters": {"seed": 9, "new": None, "top_k": 3}, "inputs": "other", "model": "m", "more": {"a": None}}
    assert body(GIVEN, seed=1, stream=True, extra_body=extra) == {
        "inputs": "other", "stream": True, "model": "m", "more": {"a": None},
        "parameters": {"seed": 9, "new": None, "top_k": 3, "details": True},
    }  # fmt: skip


def test_extra_body_is_not_modified() -> None:
    extra: dict[str, Any] = {"parameters": {"a": 1}, "b": 2}
    call(extra_body=extra, seed=1)
    assert extra == {"parameters": {"a": 1}, "b": 2}


@pytest.mark.parametrize("parameters", [None, 5, "text"])
def test_parameters_that_are_not_a_mapping_raise(parameters: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        call(extra_body={"parameters": parameters})


# --- Decoders and accumulators ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "details", "decoder", "accumulator"),
    [
        (True, True, TGIStreamDecoder, DetailsAccumulator),
        (True, False, TGIStreamDecoder, TextAccumulator),
        (False, True, JSONBodyDecoder, SingleResult),
        (False, False, JSONBodyDecoder, SingleResult),
    ],
)
def test_each_kind_of_call_has_its_decoder_and_accumulator(
    stream: bool, details: bool, decoder: type, accumulator: type
) -> None:
    spec = call(stream=stream, details=details)
    assert spec.streamed is stream
    assert spec.method == "POST"
    assert type(spec.make_decoder()) is decoder
    assert type(spec.make_accumulator()) is accumulator
    assert spec.make_decoder() is not spec.make_decoder()
    assert spec.make_accumulator() is not spec.make_accumulator()


@pytest.mark.parametrize(
    "response_body", [b'{"generated_text": "a"}', b'[{"generated_text": "a"}]', b' \n[ {"generated_text": "a"} ]']
)
def test_a_response_may_be_a_list_of_one(response_body: bytes) -> None:
    text, details = call().make_decoder(), call(details=True).make_decoder()
    text.feed(response_body)
    details.feed(response_body)
    assert text.finish() == ["a"]
    assert details.finish() == [TextGenerationResponse(generated_text="a")]


@pytest.mark.parametrize(
    "response_body", [b"[]", b"[1]", b'[{"generated_text": "a"}, {"generated_text": "b"}]', b"{}", b"null", b"[", b""]
)
def test_any_other_body_raises(response_body: bytes) -> None:
    decoder = call().make_decoder()
    decoder.feed(response_body)
    with pytest.raises(UnexpectedResponseError, match="not the JSON that was expected"):
        decoder.finish()


# --- Unusual answers, in one piece -----------------------------------------------------------------------------------


def read(payload: Any) -> TextGenerationResponse:
    decoder = call(details=True).make_decoder()
    decoder.feed(payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    [response] = decoder.finish()
    assert isinstance(response, TextGenerationResponse)
    return response


@pytest.mark.parametrize(
    "details",
    [None, [], "x", {}, {"finish_reason": None}, {"finish_reason": "length", "generated_tokens": "x", "prefill": None}],
)
def test_the_details_are_no_reason_to_lose_the_text(details: Any) -> None:
    assert read({"generated_text": "Hi", "details": details}).generated_text == "Hi"
    assert read([{"generated_text": "Hi", "details": details}]).generated_text == "Hi"


def test_a_number_is_a_text() -> None:
    assert read({"generated_text": 42}).generated_text == "42"


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"generated_text": "Ha", "details": {"finish_reason": "error"}}, IncompleteGenerationError),
        ({"generated_text": "Ha", "error": "CUDA", "error_type": "generation"}, GenerationError),
    ],
)
def test_an_error_is_raised_with_the_text(payload: Any, kind: type[InferenceError]) -> None:
    with pytest.raises(kind) as caught:
        read(payload)
    assert caught.value.partial_text == "Ha"


@pytest.mark.parametrize("prompt", [["Hi", "Ho"], [{"role": "user", "content": "Hi"}], b"Hi", None])
def test_a_prompt_is_one_text(prompt: Any) -> None:
    with pytest.raises(TypeError, match=r"`prompt` is one text, not a (list|bytes|NoneType): map\(\) takes several"):
        call(prompt=prompt)
