"""The request of chat completion, streamed or not. Does not depend on clients, retries and time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..types import ChatCompletion, Messages
from .answer_errors import raise_if_failed
from .chat_accumulator import ChatAccumulator
from .choice_states import requested_choices
from .decoders import JSONBodyDecoder
from .parameters import ChatCompletionParameters
from .request_spec import RequestSpec, check_parameter_names, encode_json
from .schemas import find_schema_type, is_schema_type, make_tool_choice, make_tools, schema_name
from .single_result import SingleResult
from .stream_decoders import ChatStreamDecoder

__all__ = ["chat_completion", "check_messages"]


def check_messages(messages: Any) -> None:
    """Raises a TypeError for what a conversation is most often mistaken for: a text, or a single message."""
    if isinstance(messages, str | bytes | Mapping):
        raise TypeError('`messages` is a list of messages, such as [{"role": "user", "content": "Hi"}]')


def chat_completion(
    url: str,
    model: str,
    messages: Messages,
    parameters: Mapping[str, Any],
    *,
    stream: bool,
    headers: Mapping[str, str],
    extra_body: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> RequestSpec[Any, Any, Any]:
    """The request for the next message of a conversation.

    Raises:
        TypeError: a parameter that does not exist, or a value that is not JSON-serializable.
    """
    check_parameter_names("chat_completion", parameters, ChatCompletionParameters.__annotations__)
    check_messages(messages)
    # Nulls are left out, because TGI rejects some. Those inside a value are the user's own, and stay.
    params = {name: value for name, value in parameters.items() if value is not None}
    response_model = find_schema_type(params.get("response_format"))
    if is_schema_type(params.get("response_format")):
        schema = {"name": schema_name(response_model), "schema": response_model}
        params["response_format"] = {"type": "json_schema", "json_schema": schema}
    if "tools" in params:
        params["tools"] = make_tools(params["tools"])
    if "tool_choice" in params:
        params["tool_choice"] = make_tool_choice(params["tool_choice"])
    # The model comes first: a router reads it from the start of a body that may hold megabytes of images.
    body = {"model": model, "messages": list(messages), "stream": stream, **params, **(extra_body or {})}

    n = requested_choices(body.get("n"))

    def parse_completion(response_body: bytes) -> list[ChatCompletion]:
        completion = ChatCompletion.parse_lenient(response_body)
        text = (completion.choices[0].message.content if completion.choices else None) or ""
        raise_if_failed(completion, text)
        if not completion.choices:
            raise ValueError("no choices")
        for choice in completion.choices:
            choice.message.with_response_model(response_model)
        return [completion]

    return RequestSpec(
        url=url,
        body=encode_json(body),
        headers=headers,
        streamed=stream,
        make_decoder=lambda: ChatStreamDecoder(n) if stream else JSONBodyDecoder(parse_completion),
        make_accumulator=(lambda: ChatAccumulator(response_model, n=n)) if stream else SingleResult,
        resume=resume and stream,
        operation="chat_completion",
        model=model,
    )
