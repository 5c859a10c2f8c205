"""OpenAI's Responses API, streamed or not. A response is that of a chat, in another format."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

from hfstream.core.response_events import ResponseEvents
from hfstream.errors import BadRequestError, InferenceError

from ..schemas.openai import ChatRequest
from ..schemas.responses_api import ChatMessage, ResponsesRequest
from ..schemas.tgi import GenerateRequest
from ..service.backend import Backend
from ..service.conversations import Conversations
from ..service.output_stream import CompleteOutput, OutputEvent
from .chat import ChatFormatter, make_chat_formatter
from .formats import RouteFormat
from .openai_responses import error_json, parse_error_json
from .responses import dump_json

INLINE_ITEMS = 200
"""Items of a conversation that are converted on the event loop, in 20 µs each; more go to another thread."""
CONVERT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class _ResponsesFormatter:
    """A `ResponseFormatter` whose events are those of a response."""

    chat: ChatFormatter
    events: ResponseEvents
    messages: Sequence[ChatMessage]
    """The conversation before the response."""
    conversations: Conversations | None
    """Where it is kept for later requests."""

    @property
    def requests(self) -> Sequence[GenerateRequest]:
        return self.chat.requests

    @property
    def stream(self) -> bool:
        return self.chat.stream

    def format_start(self) -> Iterable[str]:
        return map(dump_json, self.events.start())

    def format_event(self, output: OutputEvent) -> Iterable[str]:
        for chunk in self.chat.chunks(output):
            yield from map(dump_json, self.events.push(chunk))
        if self.events.complete:
            self._keep()

    def format_failure(self, error: InferenceError) -> Iterable[str]:
        return map(dump_json, self.events.fail(error))

    def format_response(self, outputs: Sequence[CompleteOutput]) -> str:
        self.events.complete_with(self.chat.completion(outputs))
        self._keep()
        return dump_json(self.events.response)

    def _keep(self) -> None:
        if self.conversations is not None:
            self.conversations.keep(self.events.response["id"], [*self.messages, self.events.message()])


async def _make_formatter(
    conversations: Conversations, body: ResponsesRequest, backend: Backend
) -> _ResponsesFormatter:
    body.check()
    previous = _previous(body, conversations)
    if len(previous) + len(body.input) <= INLINE_ITEMS:
        messages, chat_body = _to_chat(body, previous)
    else:
        messages, chat_body = await backend.text_work.run(_to_chat, body, previous, seconds=CONVERT_SECONDS)
    chat = await make_chat_formatter(chat_body, backend)
    return _ResponsesFormatter(
        chat=chat,
        events=ResponseEvents(_fields(body, body.model or backend.settings.model_name)),
        messages=messages,
        conversations=None if body.store is False else conversations,
    )


def _to_chat(body: ResponsesRequest, previous: list[ChatMessage]) -> tuple[list[ChatMessage], ChatRequest]:
    """The whole conversation, and the request for its next message."""
    messages = [*previous, *body.messages()]
    return messages, body.to_chat(messages)


def _previous(body: ResponsesRequest, conversations: Conversations) -> list[ChatMessage]:
    """The conversation that the request continues."""
    if body.previous_response_id is None:
        return []
    messages = conversations.find(body.previous_response_id)
    if messages is None:
        raise BadRequestError(
            f"Previous response with id '{body.previous_response_id[:100]}' not found. "
            "It was not stored, or not any more: send the whole conversation as `input`",
            error_type="previous_response_not_found",
        )
    return messages


def _fields(body: ResponsesRequest, model: str) -> dict[str, Any]:
    """What a response repeats of its request, and OpenAI's values for what is not offered."""
    return {
        "id": f"resp_{uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "model": model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "reasoning": {"effort": None, "summary": None},
        "store": body.store is not False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {"format": body.text_format},
        "tool_choice": "auto" if body.tool_choice is None else body.tool_choice,
        "tools": [tool.model_dump(exclude_unset=True) for tool in body.tools or ()],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
        "metadata": body.metadata or {},
    }


def responses_format(conversations: Conversations | None = None) -> RouteFormat[ResponsesRequest]:
    """The format of /v1/responses. `conversations`: where responses are kept for later requests."""
    return RouteFormat(
        request_model=ResponsesRequest,
        make_formatter=partial(_make_formatter, Conversations() if conversations is None else conversations),
        format_error=error_json,
        format_parse_error=parse_error_json,
        renders=True,
        names_events=True,
        field_names=ResponsesRequest.field_names,
    )
