"""Messages in the shape of the conventions' schemas."""

from __future__ import annotations

import json
from typing import Any

from hfstream._request_factory import RequestFactory
from hfstream.core.observers import Call
from hfstream.otel.content import input_messages, output_messages
from hfstream.testing import token_events
from tests.helpers.configs import make_config


def factory(model: str = "http://h:8080") -> RequestFactory:
    return RequestFactory(make_config(model))


CALL = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Nuremberg"}'}}
TOOL_CALL = {"type": "tool_call", "id": "call-1", "name": "weather", "arguments": '{"city": "Nuremberg"}'}


def test_a_prompt_is_a_message_of_the_user() -> None:
    expected = [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]
    for url in ("http://h", "http://h/v1"):
        call = Call(factory(url).text_generation("Hi", stream=True, details=False, options={}))
        assert json.loads(input_messages(call)) == expected


def test_the_messages_of_a_chat_with_tools_and_an_image() -> None:
    image = {"type": "image_url", "image_url": {"url": "http://h/cat.png"}}
    messages: list[Any] = [
        {"role": "system", "content": "Be kind"},
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]},
        {"role": "assistant", "content": None, "reasoning_content": "Hmm", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call-1", "content": "rain"},
    ]
    call = Call(factory().chat_completion(messages, stream=False, options={}))
    assert json.loads(input_messages(call)) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be kind"}]},
        {"role": "user", "parts": [{"type": "text", "content": "What is this?"}, image]},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "Hmm"}, TOOL_CALL]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call-1", "response": "rain"}]},
    ]


def test_the_answer_of_a_chat() -> None:
    exchange = factory().chat_completion([{"role": "user", "content": "Hi"}], stream=False, options={})
    exchange.next_request()
    exchange.receive_headers(200, {"content-type": "application/json"})
    message = {"role": "assistant", "content": "Rain", "tool_calls": [CALL]}
    exchange.feed(json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": None}]}).encode())
    exchange.finish()
    parts = [{"type": "text", "content": "Rain"}, TOOL_CALL]
    assert json.loads(output_messages(Call(exchange))) == [
        {"role": "assistant", "parts": parts, "finish_reason": "error"}
    ]


def test_a_text_that_is_not_complete() -> None:
    exchange = factory().text_generation("Hi", stream=True, details=False, options={})
    exchange.next_request()
    exchange.receive_headers(200, {"content-type": "text/event-stream"})
    exchange.feed(token_events("Milk", " and")[0])
    parts = [{"type": "text", "content": "Milk"}]
    assert json.loads(output_messages(Call(exchange))) == [
        {"role": "assistant", "parts": parts, "finish_reason": "error"}
    ]


def test_a_text_of_a_server_that_says_no_reason_is_complete() -> None:
    exchange = factory().text_generation("Hi", stream=False, details=False, options={})
    exchange.next_request()
    exchange.receive_headers(200, {"content-type": "application/json"})
    exchange.feed(b'{"generated_text": "Milk"}')
    exchange.finish()
    parts = [{"type": "text", "content": "Milk"}]
    assert json.loads(output_messages(Call(exchange))) == [
        {"role": "assistant", "parts": parts, "finish_reason": "stop"}
    ]
