"""What an entry of the catalogue says, and functions that make entries. Does not depend on single servers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from ...core.sse import encode
from ...errors import InferenceError
from ..events import DONE, chat_event
from ..response import Response, Step

__all__ = [
    "FINISH", "HEL", "HELLO", "LO", "UnusualResponse", "choice", "cut_off", "error_event", "event", "read",
    "whole_answer",
]  # fmt: skip


@dataclass(frozen=True)
class UnusualResponse:
    """A response that is not as documented, and what a program that reads it should end with."""

    description: str
    """What is unusual, and which servers send it so."""
    response: Response
    """What a `ScriptedServer` sends. It can be sent any number of times."""
    text: str = "Hello"
    """The text that is received, before the error if there is one."""
    error: type[InferenceError] | None = None
    """The class of hfstream's error; None for a response that is complete."""
    message: str | None = None
    """The error's message, where the server sends one."""
    task: Literal["chat_completion", "text_generation"] = "chat_completion"
    """The method that gets this response."""
    stream: bool = True
    """Whether it answers a request with ``stream=True``."""


HEL = chat_event("Hel")
LO = chat_event("lo")
FINISH = chat_event(finish_reason="stop")
HELLO = [HEL, LO, FINISH, DONE]


def event(payload: Any) -> bytes:
    """An event whose data is this value as JSON."""
    return encode(json.dumps(payload))


def choice(**fields: Any) -> bytes:
    """A chunk with one choice of these fields, and no others."""
    return event({"choices": [{"index": 0, **fields}]})


def read(description: str, *events: bytes, text: str = "Hello") -> UnusualResponse:
    """A stream that is complete."""
    return UnusualResponse(description, Response(list(events)), text)


def whole_answer(description: str, payload: Any) -> UnusualResponse:
    """An answer that is not streamed."""
    return UnusualResponse(description, Response.json(payload), stream=False)


def error_event(error: type[InferenceError], message: str, description: str, payload: Any) -> UnusualResponse:
    """A stream whose second event is an error."""
    return UnusualResponse(description, Response([HEL, event(payload), DONE]), "Hel", error, message)


def cut_off(error: type[InferenceError], text: str, description: str, *steps: Step) -> UnusualResponse:
    """A stream that ends before its end, or is none."""
    return UnusualResponse(description, Response(list(steps)), text, error)
