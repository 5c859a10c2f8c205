"""A pydantic class as the form of an answer: what is asked of the server, and what `parsed` makes of its words."""

from __future__ import annotations

import json
from typing import Any, Generic, TypeVar

import pydantic
import pytest
from pydantic import BaseModel

from hfstream.core.chat_completion import chat_completion
from hfstream.core.request_spec import RequestSpec, find_model_class
from hfstream.core.text_generation import text_generation
from hfstream.core.urls import Endpoint
from hfstream.errors import UnexpectedResponseError
from hfstream.testing import final_event, token_event
from hfstream.types import ChatCompletion, ChatCompletionMessage, StreamDetails, TextGenerationResponse
from tests.helpers.recordings import DONE, chunk

T = TypeVar("T")


class City(BaseModel):
    name: str
    nickname: str | None = None


class Box(BaseModel, Generic[T]):
    inside: T


SCHEMA = City.model_json_schema()
KOELN = City(name="Köln")
TEXT = '{"name": "Köln"}'
TGI, V1 = Endpoint("http://h/generate", stream_in_body=False), Endpoint("http://h/v1/completions", True, openai=True)
USER = [{"role": "user", "content": "Hi"}]


def chat(response_format: Any, *, stream: bool = False) -> RequestSpec[Any, Any, Any]:
    given = {"response_format": response_format}
    return chat_completion("http://h/v1/chat/completions", "m", USER, given, stream=stream, headers={})


def text(
    grammar: Any, *, target: Endpoint = TGI, stream: bool = False, details: bool = True
) -> RequestSpec[Any, Any, Any]:
    return text_generation(target, "p", {"grammar": grammar}, stream=stream, details=details, headers={})


def body(call: RequestSpec[Any, Any, Any]) -> Any:
    assert call.body is not None
    return json.loads(call.body)


def read(call: RequestSpec[Any, Any, Any], *pieces: bytes | dict[str, Any]) -> Any:
    """The whole answer that a call comes to."""
    reply, transcript = call.make_decoder(), call.make_accumulator()
    for piece in pieces:
        transcript.add(reply.feed(piece if isinstance(piece, bytes) else json.dumps(piece).encode()))
    transcript.add(reply.finish())
    return transcript.result()


def said(content: str | None, finish_reason: str = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"content": content, **more}, "finish_reason": finish_reason}]}


# --- What is asked ---------------------------------------------------------------------------------------------------


def test_a_class_goes_to_a_chat_in_OpenAIs_form() -> None:
    told = {"type": "json_schema", "json_schema": {"name": "City", "schema": SCHEMA}}
    assert body(chat(City))["response_format"] == told
    assert "null" in json.dumps(told)  # of the nickname's default: nothing in a schema is left out


def test_a_class_goes_to_TGI_as_a_grammar() -> None:
    assert body(text(City))["parameters"]["grammar"] == {"type": "json", "value": SCHEMA}


def test_a_class_goes_to_a_completion_as_a_response_format() -> None:
    told = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    assert body(text(City, target=V1))["response_format"] == told


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_schema", "json_schema": {"name": "n", "schema": City, "strict": True}},
        {"type": "json_object", "value": City},
        {"type": "json", "value": City},
        {"type": "json_schema", "value": {"name": "n", "schema": City}},
    ],
)
def test_a_class_may_stand_wherever_a_schema_goes(form: dict[str, Any]) -> None:
    plain = json.loads(json.dumps(form, default=lambda kind: kind.model_json_schema()))
    assert body(chat(form))["response_format"] == plain
    assert body(text(form))["parameters"]["grammar"] == plain
    assert read(chat(form), said(TEXT)).parsed == KOELN
    assert read(text(form), {"generated_text": TEXT}).parsed == KOELN


def test_a_class_may_stand_in_a_tool() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": City}}
    call = chat_completion("http://h", "m", USER, {"tools": [tool]}, stream=False, headers={})
    assert body(call)["tools"][0]["function"]["parameters"] == SCHEMA
    assert read(call, said(TEXT)).parsed is None


def test_a_generics_name_is_one_that_a_server_takes() -> None:
    name = body(chat(Box[City]))["response_format"]["json_schema"]["name"]
    assert name.replace("_", "").isalnum()
    assert name.startswith("Box")
    assert read(chat(Box[City]), said('{"inside": {"name": "Köln"}}')).parsed == Box[City](inside=KOELN)


@pytest.mark.parametrize(
    "plain",
    [
        None,
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json", "value": SCHEMA},
        {"type": "regex", "value": "a"},
    ],
)
def test_without_a_class_nothing_is_parsed(plain: Any) -> None:
    assert find_model_class(plain) is None
    assert read(chat(plain), said(TEXT)).parsed is None
    assert read(text(plain), {"generated_text": TEXT}).parsed is None
    assert body(chat(plain)).get("response_format") == plain


# --- What comes of it ------------------------------------------------------------------------------------------------


def test_a_chat_is_parsed_streamed_or_whole() -> None:
    whole = read(chat(City), said(TEXT))
    pieces = [chunk(role="assistant"), *(chunk(content=letter) for letter in TEXT), chunk("stop"), DONE]
    streamed = read(chat(City, stream=True), *pieces)
    assert whole.parsed == streamed.parsed == KOELN
    assert whole.choices[0].message.parsed == streamed.choices[0].message.parsed == KOELN
    assert streamed == whole
    assert type(streamed.parsed) is City


def test_a_text_is_parsed_streamed_or_whole() -> None:
    assert read(text(City), {"generated_text": TEXT}).parsed == KOELN
    assert read(text(City, stream=True), token_event(1, TEXT[:5]), final_event(2, TEXT[5:], TEXT)).parsed == KOELN
    told = {"choices": [{"index": 0, "text": TEXT, "finish_reason": "stop"}]}
    assert read(text(City, target=V1), told).parsed == KOELN
    assert (
        read(text(City, target=V1, stream=True), b"data: " + json.dumps(told).encode() + b"\n\n", DONE).parsed == KOELN
    )


@pytest.mark.parametrize("target", [TGI, V1])
def test_without_details_an_answer_is_its_text(target: Endpoint) -> None:
    told = {"choices": [{"index": 0, "text": TEXT}], "generated_text": TEXT}
    assert read(text(City, target=target, details=False), told) == TEXT


def test_every_answer_of_several_is_parsed() -> None:
    told = {
        "choices": [{"index": at, "message": {"content": json.dumps({"name": name})}} for at, name in enumerate("ab")]
    }
    assert [found.message.parsed.name for found in read(chat(City), told).choices] == ["a", "b"]


@pytest.mark.parametrize("content", [None, ""])
def test_a_model_that_does_not_answer_is_not_parsed(content: str | None) -> None:
    called = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert read(chat(City), said(content, tool_calls=called)).parsed is None
    assert read(chat(City), said(content, refusal="no")).parsed is None
    assert ChatCompletion(choices=[]).parsed is None


def test_what_does_not_fit_is_told_with_the_words() -> None:
    for content in ("{}", '{"name": 5}', "Köln", "[]"):
        answer = read(chat(City), said(content))
        with pytest.raises(UnexpectedResponseError, match="the response is not a valid City") as caught:
            _ = answer.parsed
        assert caught.value.partial_text == content
        assert isinstance(caught.value.__cause__, pydantic.ValidationError)
        assert "token limit" not in str(caught.value)
        assert answer.choices[0].message.content == content  # what was said is still there
        with pytest.raises(UnexpectedResponseError):
            _ = answer.choices[0].message.parsed
        with pytest.raises(UnexpectedResponseError):
            _ = read(text(City), {"generated_text": content}).parsed


def test_an_answer_that_was_cut_says_so() -> None:
    with pytest.raises(UnexpectedResponseError, match="cut off at the token limit"):
        _ = read(chat(City), said('{"name": "Kö', "length")).parsed
    last = final_event(1, '{"name"', '{"name"', finish_reason="length")
    with pytest.raises(UnexpectedResponseError, match="cut off at the token limit"):
        _ = read(text(City, stream=True), last).parsed


# --- The nouns stay nouns --------------------------------------------------------------------------------------------


def test_a_form_is_nothing_that_an_answer_says() -> None:
    answer = read(chat(City), said(TEXT))
    plain = read(chat(None), said(TEXT))
    assert repr(answer) == repr(plain)
    assert answer.model_dump() == plain.model_dump()
    assert ChatCompletion.model_validate_json(answer.model_dump_json()).parsed is None


def test_a_copy_is_parsed_too() -> None:
    answer = read(chat(City), said(TEXT))
    assert answer.model_copy().parsed == answer.model_copy(deep=True).parsed == KOELN
    response = read(text(City), {"generated_text": TEXT})
    assert response.model_copy().parsed == KOELN


def test_parsed_is_only_a_view() -> None:
    with pytest.raises(pydantic.ValidationError):
        ChatCompletionMessage(content=TEXT).parsed = KOELN  # type: ignore[misc]
    told = {"generated_text": TEXT, "parsed": 5}
    response = TextGenerationResponse.model_validate(told)
    assert response.parsed is None
    assert response["parsed"] == 5


def test_nouns_made_by_hand_have_no_form() -> None:
    details = StreamDetails(finish_reason="length", generated_tokens=1)
    assert details.finish_reason == "length"
    assert TextGenerationResponse(generated_text=TEXT).parsed is None
    assert ChatCompletionMessage(content=TEXT).parsed is None
