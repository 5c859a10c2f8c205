"""Where a call goes, and what it asks."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfstream.core.accumulators import DetailsAccumulator, SingleResult, TextAccumulator
from hfstream.core.decoders import JSONBodyDecoder
from hfstream.core.parameters import TextGenerationParameters
from hfstream.core.request_spec import RequestSpec
from hfstream.core.stream_decoders import TGIStreamDecoder
from hfstream.core.text_generation import text_generation
from hfstream.core.urls import Endpoint, is_huggingface, is_url, origin, text_generation_endpoint
from hfstream.errors import UnexpectedResponseError
from hfstream.types import TextGenerationResponse

HF_ROUTER_URL = "https://router.huggingface.co/hf-inference/models"


# --- URLs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "streamed", "whole"),
    [
        ("http://h", "http://h/generate_stream", "http://h/generate"),
        ("http://h/", "http://h/generate_stream", "http://h/generate"),
        ("http://h:8080", "http://h:8080/generate_stream", "http://h:8080/generate"),
        ("https://h/?a=1&b=2", "https://h/generate_stream?a=1&b=2", "https://h/generate?a=1&b=2"),
        ("https://h?a=1", "https://h/generate_stream?a=1", "https://h/generate?a=1"),
        ("http://h/#part", "http://h/generate_stream", "http://h/generate"),
        ("http://h/generate", "http://h/generate_stream", "http://h/generate"),
        ("http://h/generate_stream", "http://h/generate_stream", "http://h/generate"),
        ("http://h/generate/", "http://h/generate_stream", "http://h/generate"),
        ("http://h/a/b/generate?k=1", "http://h/a/b/generate_stream?k=1", "http://h/a/b/generate?k=1"),
        ("http://h/a%2Fb/generate", "http://h/a%2Fb/generate_stream", "http://h/a%2Fb/generate"),
        ("http://user:pw@h/generate", "http://user:pw@h/generate_stream", "http://user:pw@h/generate"),
        ("http://[::1]:80", "http://[::1]:80/generate_stream", "http://[::1]:80/generate"),
    ],
)
def test_TGIs_routes_are_known_by_the_end_of_the_path(model: str, streamed: str, whole: str) -> None:
    assert text_generation_endpoint(model, stream=True) == Endpoint(streamed, stream_in_body=False)
    assert text_generation_endpoint(model, stream=False) == Endpoint(whole, stream_in_body=False)


@pytest.mark.parametrize(
    "model",
    [
        "https://h/models/m", "https://h/models/m/", "https://h/a?k=1", "https://h/generates", "https://h/regenerate",
        "https://h/generate/x", "https://h/invocations", "https://x.endpoints.huggingface.cloud/my/model",
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [True, False])
def test_any_other_path_is_posted_to_as_it_is(model: str, stream: bool) -> None:
    assert text_generation_endpoint(model, stream=stream) == Endpoint(model, stream_in_body=True)
    assert text_generation_endpoint(f"{model}#part", stream=stream).url == model


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("gpt2", f"{HF_ROUTER_URL}/gpt2"),
        ("org/name", f"{HF_ROUTER_URL}/org/name"),
        ("org/na me?x#y", f"{HF_ROUTER_URL}/org/na%20me%3Fx%23y"),
        ("org/name:provider", f"{HF_ROUTER_URL}/org/name%3Aprovider"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_model_id_goes_to_the_router(model: str, url: str, stream: bool) -> None:
    assert text_generation_endpoint(model, stream=stream) == Endpoint(url, stream_in_body=True)


@pytest.mark.parametrize(
    ("model", "url"), [("http://h", True), ("https://h", True), ("org/name", False), ("h:8080", False)]
)
def test_a_URL_is_no_model_id(model: str, url: bool) -> None:
    assert is_url(model) == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h:8080/a/b?key=secret#x", "http://h:8080"),
        ("https://user:secret@h/a", "https://h"),
        ("https://user:se@cret@h:1/a", "https://h:1"),
        ("http://secret@[::1]:80/", "http://[::1]:80"),
    ],
)
def test_an_origin_shows_no_secrets(url: str, shown: str) -> None:
    assert origin(url) == shown


HOME = [
    "https://huggingface.co", "https://huggingface.co/models/m", "https://router.huggingface.co/x", "https://a.b.huggingface.co",
    "https://HuggingFace.CO/", "https://huggingface.co.", "https://huggingface.co:443/x", "https://user:pw@huggingface.co/",
]  # fmt: skip
ELSEWHERE = [
    "http://huggingface.co", "http://router.huggingface.co", "https://huggingface.co.evil.com", "https://evilhuggingface.co",
    "https://evil.com/huggingface.co", "https://evil.com?huggingface.co", "https://evil.com#huggingface.co",
    "https://huggingface.co@evil.com", "https://huggingface.co:pw@evil.com", "https://evil.com/@huggingface.co",
    "https://evil.com?@huggingface.co", "https://evil.com#@huggingface.co", "https://huggingface.co\\@evil.com",
    "https://huggingface.com", "https://huggingface.co.uk", "https://127.0.0.1", "http://localhost:8080", "https://",
    "https://x.endpoints.huggingface.cloud", "https://hf.co", "https://.huggingface.co.evil.com", "https://[::1]",
    "ftp://huggingface.co", "huggingface.co", "org/name", "https://huggingface.co%2eevil.com", "https://huggingface。co.evil.com",
]  # fmt: skip


@pytest.mark.parametrize("url", HOME)
def test_home_is_huggingface_over_TLS(url: str) -> None:
    assert is_huggingface(url)


@pytest.mark.parametrize("url", ELSEWHERE)
def test_nowhere_else_is_home(url: str) -> None:
    assert not is_huggingface(url)


PARTS = [
    "huggingface.co",
    "evil.com",
    "@",
    ":",
    "/",
    "\\",
    "?",
    "#",
    ".",
    "%2e",
    "%40",
    "[",
    "]",
    " ",
    "\t",
    "\n",
    "x",
    "443",
]


@given(st.lists(st.sampled_from(PARTS), max_size=8))
def test_what_we_take_for_home_is_home_for_the_network_too(parts: list[str]) -> None:
    url = "https://" + "".join(parts)
    try:
        home = is_huggingface(url)
        host = httpx.URL(url).host.rstrip(".")
    except (ValueError, httpx.InvalidURL):
        return  # nothing is sent there
    if home:
        assert host == "huggingface.co" or host.endswith(".huggingface.co")


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
    ("stream", "details", "asked"),
    [(False, False, False), (False, True, True), (True, False, True), (True, True, True)],
)
def test_details_are_asked_for_where_they_are_needed(stream: bool, details: bool, asked: bool) -> None:
    assert body(stream=stream, details=details)["parameters"] == ({"details": True} if asked else {})


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


def test_the_older_name_of_stop_is_understood() -> None:
    assert body(stop_sequences=["a"])["parameters"] == {"stop": ["a"]}
    assert body(stop_sequences=None, stop=["a"])["parameters"]["stop"] == ["a"]
    assert body(stop_sequences=["a"], stop=None)["parameters"]["stop"] == ["a"]
    with pytest.raises(TypeError, match="older name"):
        call(stop_sequences=["a"], stop=["b"])


@pytest.mark.parametrize(
    ("name", "right"),
    [("max_new_token", "max_new_tokens"), ("temprature", "temperature"), ("topp", "top_p"),
     ("max_tokens", "max_new_tokens"), ("Seed", "seed"), ("stop_sequence", "stop_sequences")],
)  # fmt: skip
@pytest.mark.parametrize("value", [5, None])
def test_a_mistyped_name_is_refused_with_the_right_one(name: str, right: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"`{name}`: did you mean `{right}`"):
        call(**{name: value})


def test_a_name_like_no_other_is_refused_too() -> None:
    with pytest.raises(TypeError, match=r"`zzz` \(extra_body= sends anything\)"):
        call(zzz=1)


def test_values_are_the_servers_to_judge() -> None:
    given = {"temperature": -5, "top_p": 7.5, "max_new_tokens": -1, "seed": 2**70, "stop": "no list"}
    assert body(**given)["parameters"] == given


def test_extra_body_is_merged_and_wins() -> None:
    extra = {"parameters": {"seed": 9, "new": None, "top_k": 3}, "inputs": "other", "model": "m", "more": {"a": None}}
    assert body(GIVEN, seed=1, stream=True, extra_body=extra) == {
        "inputs": "other", "stream": True, "model": "m", "more": {"a": None},
        "parameters": {"seed": 9, "new": None, "top_k": 3, "details": True},
    }  # fmt: skip


def test_extra_body_stays_as_it_was() -> None:
    extra: dict[str, Any] = {"parameters": {"a": 1}, "b": 2}
    call(extra_body=extra, seed=1)
    assert extra == {"parameters": {"a": 1}, "b": 2}


@pytest.mark.parametrize("parameters", [None, 5, "text"])
def test_parameters_that_are_no_mapping_cannot_be_merged(parameters: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        call(extra_body={"parameters": parameters})


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": float("nan")},
        {"top_p": float("inf")},
        {"stop": {1, 2}},
        {"grammar": object()},
        {"stop": ["\ud800"]},
    ],
)
def test_what_JSON_cannot_say_is_a_type_error(bad: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="cannot be sent as JSON"):
        call(**bad)


def test_half_of_a_surrogate_pair_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="cannot be sent as JSON"):
        call(prompt="a\ud83d")


def test_a_body_is_compact_UTF_8() -> None:
    assert call(prompt="é\u2028🙂").body == '{"inputs":"é\u2028🙂","parameters":{}}'.encode()


def test_a_call_shows_no_secrets() -> None:
    target = Endpoint("https://user:pw@h:8080/generate?key=secret", stream_in_body=False)
    made = text_generation(target, "secret", {}, stream=True, details=False, headers={"Authorization": "Bearer secret"})
    assert repr(made) == str(made) == "POST https://h:8080"


# --- How the answer is read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "details", "reply", "transcript"),
    [
        (True, True, TGIStreamDecoder, DetailsAccumulator),
        (True, False, TGIStreamDecoder, TextAccumulator),
        (False, True, JSONBodyDecoder, SingleResult),
        (False, False, JSONBodyDecoder, SingleResult),
    ],
)
def test_each_form_has_its_reply_and_its_transcript(stream: bool, details: bool, reply: type, transcript: type) -> None:
    made = call(stream=stream, details=details)
    assert made.streamed is stream
    assert made.method == "POST"
    assert type(made.make_decoder()) is reply
    assert type(made.make_accumulator()) is transcript
    assert made.make_decoder() is not made.make_decoder()
    assert made.make_accumulator() is not made.make_accumulator()


@pytest.mark.parametrize(
    "wire", [b'{"generated_text": "a"}', b'[{"generated_text": "a"}]', b' \n[ {"generated_text": "a"} ]']
)
def test_a_whole_answer_may_come_in_a_list_of_one(wire: bytes) -> None:
    text, details = call().make_decoder(), call(details=True).make_decoder()
    text.feed(wire)
    details.feed(wire)
    assert text.finish() == ["a"]
    assert details.finish() == [TextGenerationResponse(generated_text="a")]


@pytest.mark.parametrize(
    "wire", [b"[]", b"[1]", b'[{"generated_text": "a"}, {"generated_text": "b"}]', b"{}", b"null", b"[", b""]
)
def test_anything_else_is_not_the_answer(wire: bytes) -> None:
    reply = call().make_decoder()
    reply.feed(wire)
    with pytest.raises(UnexpectedResponseError, match="not the JSON that was expected"):
        reply.finish()
