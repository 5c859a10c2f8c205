"""The call for a chat, streamed or whole. Refuses to know clients and time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..types import ChatCompletion
from .calls import Call, check_names, encoded, form_of, is_form
from .chat_transcript import ChatTranscript
from .events import ChatChunks
from .parameters import ChatCompletionParameters, Messages
from .replies import Document
from .transcript import DocumentTranscript

__all__ = ["chat_completion"]


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
) -> Call[Any, Any, Any]:
    """The call for one turn of a conversation.

    Raises:
        TypeError: a parameter that does not exist, or a value that JSON cannot say.
    """
    check_names("chat_completion", parameters, ChatCompletionParameters.__annotations__)
    if isinstance(messages, str | bytes | Mapping):
        raise TypeError('`messages` is a list of messages, such as [{"role": "user", "content": "Hi"}]')
    # Nulls are left out: TGI refuses some. Those inside of a value are the user's own, and stay.
    wanted = {name: value for name, value in parameters.items() if value is not None}
    form = form_of(wanted.get("response_format"))
    if form is not None and is_form(wanted["response_format"]):
        name = re.sub(r"[^\w-]+", "_", form.__name__)[:64]  # a generic's has brackets, which OpenAI refuses
        wanted["response_format"] = {"type": "json_schema", "json_schema": {"name": name, "schema": form}}
    # The model comes first: a router reads it from the start of a body that may hold megabytes of images.
    body = {"model": model, "messages": list(messages), "stream": stream, **wanted, **(extra_body or {})}

    def whole(answer: bytes) -> list[ChatCompletion]:
        completion = ChatCompletion.read(answer)
        if completion.get("error") or not completion.choices:
            raise ValueError("no answer, or an error beside it")
        for choice in completion.choices:
            choice.message.with_form(form)
        return [completion]

    return Call(
        url=url,
        body=encoded(body),
        headers=headers,
        streamed=stream,
        reply=ChatChunks if stream else lambda: Document(whole),
        transcript=(lambda: ChatTranscript(form)) if stream else DocumentTranscript,
        resume=resume and stream,
    )
