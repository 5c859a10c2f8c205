"""What the responses of OpenAI's two routes have in common.

Where TGI's format breaks OpenAI's clients, OpenAI's format is used: an id, one `created` for the whole response, "stop"
instead of "eos_token" and "stop_sequence", no stop string in the text, and an error's own status instead of a constant.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.exceptions import HTTPException

from hfstream.errors import InferenceError, ValidationError
from hfstream.errors.response_bodies import to_response
from hfstream.types import FinishReason, StreamDetails, StreamResponse, Usage
from hfstream.version import __version__

from .responses import dump_json

if TYPE_CHECKING:
    from ..service.output_stream import OutputEvent  # with the libraries of a model, which errors need not

DONE_EVENT = "[DONE]"


@dataclass(frozen=True)
class ResponseMeta:
    """The fields that all chunks of one response share."""

    id: str
    model: str
    created: int = field(default_factory=lambda: int(time.time()))
    system_fingerprint: str = f"hfstream-{__version__}"

    @classmethod
    def new(cls, prefix: str, model: str) -> ResponseMeta:
        """For a new response, with an id that starts with `prefix`."""
        return cls(f"{prefix}-{uuid4().hex}", model)


_FIELD = re.compile(r"`(\w+)`")
_PARAMS = {"previous_response_not_found": "previous_response_id"}
_PARSED_FIELD = re.compile(r"target type: (?:([\w.\[\]]+): |missing field `(\w+)`|duplicate field `(\w+)`)")
"""The field that a message is about."""


def error_json(error: InferenceError) -> str:
    """An error as a response's body or an event's data: OpenAI's format, and the keys that TGI's clients read."""
    status, _ = to_response(error)
    found = _FIELD.search(error.message) if isinstance(error, ValidationError) else None
    param = found[1] if found else _PARAMS.get(error.error_type or "")
    fields = {"message": error.message, "type": error.error_type, "param": param, "code": error.error_type}
    return dump_json({"error": {**fields, "http_status_code": status}, "error_type": error.error_type})


def parse_error_json(error: HTTPException) -> str:
    """The body for a request that cannot be parsed. OpenAI's client does not show a plain-text body to its user."""
    field = _PARSED_FIELD.search(error.detail)
    return invalid_request_json(error.status_code, error.detail, param=field and (field[1] or field[2] or field[3]))


def invalid_request_json(status: int, message: str, *, code: str | None = None, param: str | None = None) -> str:
    """The body for what is no request of a route's."""
    fields = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return dump_json({"error": {**fields, "http_status_code": status}})


class StopStringFilter:
    """Removes the stop string that ends a text: TGI's texts include it, OpenAI's do not.

    The end of the text is held back while it may be the beginning of a stop string.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held_back = ""

    def push(self, event: StreamResponse) -> str:
        """Adds one token; returns the text that can be sent."""
        text = self._held_back + ("" if event.token.special else event.token.text)
        if event.generated_text is not None:
            return self.strip(text)
        self._held_back = max((_partial_stop(text, stop) for stop in self._stops), key=len, default="")
        return text[: len(text) - len(self._held_back)]

    def strip(self, text: str) -> str:
        """A complete text without the stop string at its end. The longest one, if several match."""
        return text.removesuffix(max((stop for stop in self._stops if text.endswith(stop)), key=len, default=""))


def _partial_stop(text: str, stop: str) -> str:
    """The longest proper prefix of `stop` that `text` ends with."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((stop[:length] for length in lengths if text.endswith(stop[:length])), "")


def finish_reason(event: StreamResponse) -> str | None:
    """OpenAI's finish reason; None before the last event."""
    if event.details is None:
        return None
    return "length" if event.details.finish_reason == FinishReason.Length else "stop"


def usage(*last_events: StreamResponse, choices: int = 1) -> Usage:
    """The number of tokens of complete generations. `choices`: those of each prompt, whose tokens are counted once."""
    details = [event.details or StreamDetails() for event in last_events]
    prompt = sum(each.input_length or 0 for each in details[::choices])
    completion = sum(each.generated_tokens for each in details)
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


class StreamedUsage:
    """Adds up the tokens of a stream's generations."""

    def __init__(self, generations: int, choices: int) -> None:
        """`generations`: how many there are; `choices`: of each prompt."""
        self._last_events: list[StreamResponse | None] = [None] * generations
        self._choices = choices

    def push(self, output: OutputEvent) -> Usage | None:
        """The usage of all, with the last event of the last generation; None before."""
        if output.event.details is None:
            return None
        self._last_events[output.generation] = output.event
        complete = [event for event in self._last_events if event is not None]
        return usage(*complete, choices=self._choices) if len(complete) == len(self._last_events) else None
