"""What the answers of OpenAI's two routes have in common.

Where TGI's habits break OpenAI's clients, OpenAI's form is taken: an id, one `created` for the whole answer, "stop"
instead of "eos_token" and "stop_sequence", no stop string in the text, an error's own status instead of a constant.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from starlette.exceptions import HTTPException

from hfstream.errors import InferenceError
from hfstream.errors.response_bodies import to_response
from hfstream.types import FinishReason, StreamResponse, Usage
from hfstream.version import __version__

DONE_EVENT = "[DONE]"


@dataclass(frozen=True)
class ResponseMeta:
    """What all parts of one answer say of it."""

    id: str
    model: str
    created: int = field(default_factory=lambda: int(time.time()))
    system_fingerprint: str = f"hfstream-{__version__}"

    @classmethod
    def new(cls, prefix: str, model: str) -> ResponseMeta:
        """Of a new answer."""
        return cls(f"{prefix}-{uuid4().hex}", model)


def dump_json(value: dict[str, Any]) -> str:
    """JSON as TGI writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def error_json(error: InferenceError) -> str:
    """The body, or the event's data, that tells of an error: OpenAI's shape, and the keys that TGI's clients read."""
    status, _ = to_response(error)
    fields = {"message": error.message, "type": error.error_type, "param": None, "code": error.error_type}
    return dump_json({"error": {**fields, "http_status_code": status}, "error_type": error.error_type})


def parse_error_json(http_error: HTTPException) -> str:
    """The body that tells why a request's body cannot be read: OpenAI's client shows no plain text."""
    fields = {"message": http_error.detail, "type": "invalid_request_error", "param": None, "code": None}
    return dump_json({"error": {**fields, "http_status_code": http_error.status_code}})


class StopStringFilter:
    """What tokens add to the text, without the stop string that ends it: TGI's texts have that, OpenAI's have not.

    Text that may become a stop string is kept back until it is known not to.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held_back = ""

    def push(self, event: StreamResponse) -> str:
        """The text that is certain with one more token."""
        text = self._held_back + ("" if event.token.special else event.token.text)
        if event.generated_text is not None:
            return self.strip(text)
        self._held_back = max((_partial_stop(text, stop) for stop in self._stops), key=len, default="")
        return text[: len(text) - len(self._held_back)]

    def strip(self, text: str) -> str:
        """A text that is at its end, without the stop string there."""
        return text.removesuffix(max((stop for stop in self._stops if text.endswith(stop)), key=len, default=""))


def _partial_stop(text: str, stop: str) -> str:
    """The longest end of `text` with which `stop` begins."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((stop[:length] for length in lengths if text.endswith(stop[:length])), "")


def finish_reason(event: StreamResponse) -> str | None:
    """Why the answer ends with this event, in OpenAI's words; None if it does not."""
    if event.details is None:
        return None
    return "length" if event.details.finish_reason == FinishReason.Length else "stop"


def usage_of(event: StreamResponse) -> Usage | None:
    """What the answer took, if this is its last event."""
    if event.details is None:
        return None
    prompt_tokens, completion_tokens = event.details.input_length or 0, event.details.generated_tokens
    return Usage(
        prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, total_tokens=prompt_tokens + completion_tokens
    )
