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

from hfstream.errors import InferenceError, to_response
from hfstream.types import FinishReason, StreamResponse, Usage
from hfstream.version import __version__

LAST_WORDS = "[DONE]"


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


def compact(value: dict[str, Any]) -> str:
    """JSON as TGI writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def error_json(error: InferenceError) -> str:
    """The body, or the event's data, that tells of an error: OpenAI's shape, and the keys that TGI's clients read."""
    status, _ = to_response(error)
    told = {"message": error.message, "type": error.error_type, "param": None, "code": error.error_type}
    return compact({"error": {**told, "http_status_code": status}, "error_type": error.error_type})


def malformed_json(unread: HTTPException) -> str:
    """The body that tells why a request's body cannot be read: OpenAI's client shows no plain text."""
    told = {"message": unread.detail, "type": "invalid_request_error", "param": None, "code": None}
    return compact({"error": {**told, "http_status_code": unread.status_code}})


class StopStringFilter:
    """What tokens add to the text, without the stop string that ends it: TGI's texts have that, OpenAI's have not.

    Text that may become a stop string is kept back until it is known not to.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._kept = ""

    def say(self, event: StreamResponse) -> str:
        """The text that is certain with one more token."""
        text = self._kept + ("" if event.token.special else event.token.text)
        if event.generated_text is not None:
            return self.cut(text)
        self._kept = max((_begun(text, stop) for stop in self._stops), key=len, default="")
        return text[: len(text) - len(self._kept)]

    def cut(self, text: str) -> str:
        """A text that is at its end, without the stop string there."""
        return text.removesuffix(max((stop for stop in self._stops if text.endswith(stop)), key=len, default=""))


def _begun(text: str, stop: str) -> str:
    """The longest end of `text` with which `stop` begins."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((stop[:length] for length in lengths if text.endswith(stop[:length])), "")


def finish_reason(event: StreamResponse) -> str | None:
    """Why the answer ends with this event, in OpenAI's words; None if it does not."""
    if event.details is None:
        return None
    return "length" if event.details.finish_reason == FinishReason.Length else "stop"


def usage(event: StreamResponse) -> Usage | None:
    """What the answer took, if this is its last event."""
    if event.details is None:
        return None
    read, written = event.details.input_length or 0, event.details.generated_tokens
    return Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)
