"""A type as `grammar` or `response_format`: the schema that is sent, and `parsed` of the response."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NewType, TypeVar

import pydantic
import pytest
import typing_extensions
from pydantic import BaseModel, RootModel, TypeAdapter

from hfstream.core.chat_completion import chat_completion
from hfstream.core.request_spec import RequestSpec
from hfstream.core.schemas import find_schema_type
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


def read(call: RequestSpec[Any, Any, Any], *chunks: bytes | dict[str, Any]) -> Any:
    """The whole answer that a call comes to."""
    decoder, accumulator = call.make_decoder(), call.make_accumulator()
    for part in chunks:
        accumulator.add(decoder.feed(part if isinstance(part, bytes) else json.dumps(part).encode()))
    accumulator.add(decoder.finish())
    return accumulator.result()


def completion_of(content: str | None, finish_reason: str = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"content": content, **more}, "finish_reason": finish_reason}]}


# --- Requests --------------------------------------------------------------------------------------------------------


def test_a_class_is_sent_to_a_chat_in_OpenAIs_format() -> None:
    expected = {"type": "json_schema", "json_schema": {"name": "City", "schema": SCHEMA}}
    assert body(chat(City))["response_format"] == expected
    assert "null" in json.dumps(expected)  # of the nickname's default: nothing in a schema is left out


def test_a_class_is_sent_to_TGI_as_a_grammar() -> None:
    assert body(text(City))["parameters"]["grammar"] == {"type": "json", "value": SCHEMA}


def test_a_class_is_sent_to_completions_as_a_response_format() -> None:
    expected = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    assert body(text(City, target=V1))["response_format"] == expected


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "json_schema", "json_schema": {"name": "n", "schema": City, "strict": True}},
        {"type": "json_object", "value": City},
        {"type": "json", "value": City},
        {"type": "json_schema", "value": {"name": "n", "schema": City}},
    ],
)
def test_a_class_can_replace_any_schema(schema: dict[str, Any]) -> None:
    plain = json.loads(json.dumps(schema, default=lambda kind: kind.model_json_schema()))
    assert body(chat(schema))["response_format"] == plain
    assert body(text(schema))["parameters"]["grammar"] == plain
    assert read(chat(schema), completion_of(TEXT)).parsed == KOELN
    assert read(text(schema), {"generated_text": TEXT}).parsed == KOELN


def test_a_class_can_replace_the_schema_of_a_tool() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": City}}
    call = chat_completion("http://h", "m", USER, {"tools": [tool]}, stream=False, headers={})
    assert body(call)["tools"][0]["function"]["parameters"] == SCHEMA
    assert read(call, completion_of(TEXT)).parsed is None


def test_the_name_of_a_generic_is_valid_for_a_server() -> None:
    name = body(chat(Box[City]))["response_format"]["json_schema"]["name"]
    assert name.replace("_", "").isalnum()
    assert name.startswith("Box")
    assert read(chat(Box[City]), completion_of('{"inside": {"name": "Köln"}}')).parsed == Box[City](inside=KOELN)


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
    assert find_schema_type(plain) is None
    assert read(chat(plain), completion_of(TEXT)).parsed is None
    assert read(text(plain), {"generated_text": TEXT}).parsed is None
    assert body(chat(plain)).get("response_format") == plain


# --- Parsed responses ------------------------------------------------------------------------------------------------


def test_a_chat_is_parsed_with_and_without_streaming() -> None:
    complete = read(chat(City), completion_of(TEXT))
    chunks = [chunk(role="assistant"), *(chunk(content=letter) for letter in TEXT), chunk("stop"), DONE]
    streamed = read(chat(City, stream=True), *chunks)
    assert complete.parsed == streamed.parsed == KOELN
    assert complete.choices[0].message.parsed == streamed.choices[0].message.parsed == KOELN
    assert streamed == complete
    assert type(streamed.parsed) is City


def test_a_text_is_parsed_with_and_without_streaming() -> None:
    assert read(text(City), {"generated_text": TEXT}).parsed == KOELN
    assert read(text(City, stream=True), token_event(1, TEXT[:5]), final_event(2, TEXT[5:], TEXT)).parsed == KOELN
    expected = {"choices": [{"index": 0, "text": TEXT, "finish_reason": "stop"}]}
    assert read(text(City, target=V1), expected).parsed == KOELN
    assert (
        read(text(City, target=V1, stream=True), b"data: " + json.dumps(expected).encode() + b"\n\n", DONE).parsed
        == KOELN
    )


@pytest.mark.parametrize("target", [TGI, V1])
def test_without_details_the_result_is_the_text(target: Endpoint) -> None:
    expected = {"choices": [{"index": 0, "text": TEXT}], "generated_text": TEXT}
    assert read(text(City, target=target, details=False), expected) == TEXT


def test_every_choice_is_parsed() -> None:
    expected = {
        "choices": [{"index": at, "message": {"content": json.dumps({"name": name})}} for at, name in enumerate("ab")]
    }
    assert [found.message.parsed.name for found in read(chat(City), expected).choices] == ["a", "b"]


@pytest.mark.parametrize("content", [None, ""])
def test_a_message_without_content_is_not_parsed(content: str | None) -> None:
    called = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert read(chat(City), completion_of(content, tool_calls=called)).parsed is None
    assert read(chat(City), completion_of(content, refusal="no")).parsed is None
    assert ChatCompletion(choices=[]).parsed is None


def test_content_that_does_not_validate_raises_with_the_content() -> None:
    for content in ("{}", '{"name": 5}', "Köln", "[]"):
        completion = read(chat(City), completion_of(content))
        with pytest.raises(UnexpectedResponseError, match="the response is not a valid City") as caught:
            _ = completion.parsed
        assert caught.value.partial_text == content
        assert isinstance(caught.value.__cause__, pydantic.ValidationError)
        assert "token limit" not in str(caught.value)
        assert completion.choices[0].message.content == content  # the content is still there
        with pytest.raises(UnexpectedResponseError):
            _ = completion.choices[0].message.parsed
        with pytest.raises(UnexpectedResponseError):
            _ = read(text(City), {"generated_text": content}).parsed


def test_content_cut_off_at_the_token_limit_raises_with_a_hint() -> None:
    with pytest.raises(UnexpectedResponseError, match="cut off at the token limit"):
        _ = read(chat(City), completion_of('{"name": "Kö', "length")).parsed
    last = final_event(1, '{"name"', '{"name"', finish_reason="length")
    with pytest.raises(UnexpectedResponseError, match="cut off at the token limit"):
        _ = read(text(City, stream=True), last).parsed


# --- The objects themselves ------------------------------------------------------------------------------------------


def test_the_response_model_is_not_a_field() -> None:
    completion = read(chat(City), completion_of(TEXT))
    plain = read(chat(None), completion_of(TEXT))
    assert repr(completion) == repr(plain)
    assert completion.model_dump() == plain.model_dump()
    assert ChatCompletion.model_validate_json(completion.model_dump_json()).parsed is None


def test_a_copy_is_parsed_too() -> None:
    completion = read(chat(City), completion_of(TEXT))
    assert completion.model_copy().parsed == completion.model_copy(deep=True).parsed == KOELN
    response = read(text(City), {"generated_text": TEXT})
    assert response.model_copy().parsed == KOELN


def test_parsed_is_read_only() -> None:
    with pytest.raises(pydantic.ValidationError):
        ChatCompletionMessage(content=TEXT).parsed = KOELN  # type: ignore[misc]
    expected = {"generated_text": TEXT, "parsed": 5}
    response = TextGenerationResponse.model_validate(expected)
    assert response.parsed is None
    assert response["parsed"] == 5


def test_objects_made_by_hand_have_no_response_model() -> None:
    details = StreamDetails(finish_reason="length", generated_tokens=1)
    assert details.finish_reason == "length"
    assert TextGenerationResponse(generated_text=TEXT).parsed is None
    assert ChatCompletionMessage(content=TEXT).parsed is None


# --- Other types than pydantic's classes -----------------------------------------------------------------------------


@dataclass
class Town:
    name: str


class Village(typing_extensions.TypedDict):
    name: str


TYPES: list[tuple[Any, str, Any]] = [
    (list[City], '[{"name": "Köln"}]', [KOELN]),
    (Town, TEXT, Town("Köln")),
    (Village, TEXT, {"name": "Köln"}),
    (City | Town, TEXT, KOELN),
    (City | None, "null", None),
    (Literal["a", "b"], '"b"', "b"),
    (Annotated[int, pydantic.Field(gt=1)], "2", 2),
    (dict[str, City], '{"x": {"name": "Köln"}}', {"x": KOELN}),
    (TypeAdapter(list[int]), "[1, 2]", [1, 2]),
    (RootModel[list[int]], "[1, 2]", RootModel[list[int]]([1, 2])),
    (NewType("Celsius", float), "1.5", 1.5),
    (bool, "true", True),
]
TYPE_IDS = [str(kind).partition(" object at ")[0] for kind, _, _ in TYPES]  # addresses differ between xdist's workers


@pytest.mark.parametrize(("kind", "content", "parsed"), TYPES, ids=TYPE_IDS)
def test_every_type_of_pydantics_is_sent_as_its_schema_and_read(kind: Any, content: str, parsed: Any) -> None:
    adapter = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
    sent = body(chat(kind))["response_format"]
    assert sent["json_schema"]["schema"] == adapter.json_schema()
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", sent["json_schema"]["name"])
    assert read(chat(kind), completion_of(content)).choices[0].message.parsed == parsed
    streamed = read(chat(kind, stream=True), chunk(content=content), chunk("stop"), DONE)
    assert streamed.choices[0].message.parsed == parsed
    assert body(text(kind))["parameters"]["grammar"] == {"type": "json", "value": adapter.json_schema()}
    assert read(text(kind), {"generated_text": content}).parsed == parsed
    inside = {"type": "json_object", "value": kind}
    assert read(chat(inside), completion_of(content)).choices[0].message.parsed == parsed


@pytest.mark.parametrize("kind", [kind for kind, _, _ in TYPES], ids=TYPE_IDS)
def test_a_text_that_does_not_fit_any_type_is_our_error(kind: Any) -> None:
    message = read(chat(kind), completion_of('{"name": 5')).choices[0].message
    with pytest.raises(UnexpectedResponseError, match="is not a valid") as caught:
        message.parsed  # noqa: B018
    assert caught.value.partial_text == '{"name": 5'


@pytest.mark.parametrize("kind", [type("Plain", (), {}), Callable, list["Missing"]])  # type: ignore[name-defined]  # noqa: F821
def test_a_type_without_a_schema_is_a_TypeError(kind: Any) -> None:
    with pytest.raises(TypeError, match="no JSON schema"):
        chat(kind)
    with pytest.raises(TypeError, match="no JSON schema"):
        text(kind)
