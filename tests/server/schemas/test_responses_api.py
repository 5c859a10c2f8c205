"""The body of the Responses API: the chat that it becomes, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from hfstream.errors import ValidationError
from hfstream.server.routes.request_body import parse_body
from hfstream.server.schemas.responses_api import ResponsesRequest

USER = {"role": "user", "content": "Hi"}


def body(**fields: Any) -> ResponsesRequest:
    return parse_body(json.dumps({"input": "Hi", **fields}).encode(), ResponsesRequest)


def messages(*items: Any) -> list[dict[str, Any]]:
    return body(input=list(items)).messages()


def test_a_text_is_a_message_of_the_user() -> None:
    assert body().messages() == [USER]


def test_null_means_not_given() -> None:
    nulls = dict.fromkeys(ResponsesRequest.model_fields.keys() - {"input"})
    assert len(nulls) > 20
    given = body(**nulls)
    given.check()
    assert given.to_chat([USER]) == body().to_chat([USER])


def test_items_are_messages() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    answer = {"type": "output_text", "text": "c", "annotations": []}
    refusal = {"type": "refusal", "refusal": "!"}
    assert messages(
        {"role": "developer", "content": parts},
        {"type": "message", "id": "msg_1", "role": "assistant", "content": [answer, refusal], "status": "completed"},
        {"role": "user", "content": "d"},
    ) == [
        {"role": "developer", "content": "ab"},
        {"role": "assistant", "content": "c!"},
        {"role": "user", "content": "d"},
    ]


def test_calls_belong_to_the_message_before_them() -> None:
    def call(name: str) -> dict[str, Any]:
        return {"type": "function_call", "call_id": f"call_{name}", "name": name, "arguments": "{}"}

    def chat_call(name: str) -> dict[str, Any]:
        return {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": "{}"}}

    assert messages(
        USER,
        call("f"),
        call("g"),
        {"type": "function_call_output", "call_id": "call_f", "output": "1"},
        {"type": "function_call_output", "call_id": "call_g", "output": [{"type": "input_text", "text": "2"}]},
        {"role": "assistant", "content": "Wait."},
        call("h"),
    ) == [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [chat_call("f"), chat_call("g")]},
        {"role": "tool", "tool_call_id": "call_f", "content": "1"},
        {"role": "tool", "tool_call_id": "call_g", "content": "2"},
        {"role": "assistant", "content": "Wait.", "tool_calls": [chat_call("h")]},
    ]


def test_the_options_become_those_of_a_chat() -> None:
    tool = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    schema = {"name": "s", "schema": {"type": "object"}, "strict": True}
    chat = body(
        model="m", instructions="Be brief.", max_output_tokens=7, temperature=0.5, top_p=0.25, stream=True,
        top_logprobs=3, tools=[tool], tool_choice={"type": "function", "name": "f"}, parallel_tool_calls=False,
        text={"format": {"type": "json_schema", **schema}, "verbosity": "low"},
    ).to_chat([USER])  # fmt: skip
    assert [message.to_template() for message in chat.messages] == [{"role": "system", "content": "Be brief."}, USER]
    given = chat.model_dump(exclude_unset=True)
    expected = {
        "model": "m", "max_completion_tokens": 7, "temperature": 0.5, "top_p": 0.25, "stream": True, "logprobs": True,
        "top_logprobs": 3, "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": schema},
        "stream_options": {"include_usage": True}, "add_generation_prompt": True,
    }  # fmt: skip
    assert {name: given[name] for name in expected} == expected
    assert given["tools"] == [{"type": "function", "function": {key: tool[key] for key in tool if key != "type"}}]


def test_any_json_object_as_the_format() -> None:
    chat = body(text={"format": {"type": "json_object"}}).to_chat([USER])
    assert chat.response_format == {"type": "json_object"}


def test_a_last_message_of_the_assistant_is_not_continued() -> None:
    chat = body().to_chat([USER, {"role": "assistant", "content": "Hel"}])
    assert not chat.continues_final_message


def test_logprobs_are_included_where_they_are_asked_for() -> None:
    assert not body().logprobs
    assert body(include=["message.output_text.logprobs"]).logprobs
    assert body(top_logprobs=1).logprobs


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"background": True}, "`background` is not supported"),
    ({"conversation": "conv_1"}, "`conversation` is not supported"),
    ({"prompt": {"id": "p"}}, "`prompt` is not supported"),
    ({"reasoning": {"effort": "low"}}, "`reasoning` is not supported"),
    ({"truncation": "auto"}, "`truncation` must be `disabled`: the server does not shorten the input"),
    ({"include": ["x"]}, "`include` must not have 'x': the server does not have it"),
    ({"tools": [{"type": "web_search"}]}, "`tools` of type 'web_search' are not supported, only functions are"),
    ({"tools": [{"type": "function"}]}, "`tools` must have names"),
    (
        {"tool_choice": {"type": "allowed_tools"}},
        "`tool_choice` must be `auto`, `none`, `required`, or a function by its name",
    ),
    (
        {"text": {"format": {"type": "grammar"}}},
        "`text` must have a format of type `text`, `json_object` or `json_schema`",
    ),
    ({"input": [{"type": "reasoning", "summary": []}]}, "`input` items of type 'reasoning' are not supported"),
    ({"input": [{"type": "message", "content": "a"}]}, "`input` has an item of type 'message' that is not complete"),
    ({"input": [{"role": "user"}]}, "`input` items must have a string or a list of parts as content"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        "`input` with parts of type 'input_image' is not supported, this model reads text only",
    ),
    ({"input": [{"role": "user", "content": [3]}]}, "`input` parts must have a type and a text"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_what_is_not_offered_is_refused(fields: dict[str, Any], message: str) -> None:
    def convert() -> None:
        given = body(**fields)
        given.check()
        given.to_chat(given.messages())

    with pytest.raises(ValidationError) as caught:
        convert()
    assert str(caught.value) == f"Input validation error: {message}"


@pytest.mark.parametrize(
    "fields",
    [
        {"background": False},
        {"reasoning": {}},
        {"reasoning": {"effort": None, "summary": None}},
        {"include": []},
        {"include": ["reasoning.encrypted_content"]},
        {"truncation": "disabled"},
        {"text": {"format": {"type": "text"}}},
        {"service_tier": "auto", "user": "me", "prompt_cache_key": "k", "max_tool_calls": 3},
    ],
)
def test_values_without_effect_are_accepted(fields: dict[str, Any]) -> None:
    given = body(**fields)
    given.check()
    assert given.to_chat([USER]) == body().to_chat([USER])


def test_a_malformed_input() -> None:
    with pytest.raises(HTTPException, match="input: invalid type: integer `5`, expected a string or a list of items"):
        body(input=5)
