"""What the responses of OpenAI's two routes have in common.

Where TGI's format breaks OpenAI's clients, OpenAI's format is used: an id, one `created` for the whole response, "stop"
instead of "eos_token" and "stop_sequence", no stop string in the text, and an error's own status instead of a constant.
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
    """The fields that all chunks of one response share."""

    id: str
    model: str
    created: int = field(default_factory=lambda: int(time.time()))
    system_fingerprint: str = f"hfstream-{__version__}"

    @classmethod
    def new(cls, prefix: str, model: str) -> ResponseMeta:
        """For a new response, with an id that starts with `prefix`."""
        return cls(f"{prefix}-{uuid4().hex}", model)


def dump_json(value: dict[str, Any]) -> str:
    """JSON as TGI writes it: no spaces, no escapes for other alphabets."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def error_json(error: InferenceError) -> str:
    """An error as a response's body or an event's data: OpenAI's format, and the keys that TGI's clients read."""
    status, _ = to_response(error)
    fields = {"message": error.message, "type": error.error_type, "param": None, "code": error.error_type}
    return dump_json({"error": {**fields, "http_status_code": status}, "error_type": error.error_type})


def parse_error_json(error: HTTPException) -> str:
    """The body for a request that cannot be parsed. OpenAI's client does not show a plain-text body to its user."""
    return invalid_request_json(error.status_code, error.detail)


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


def usage(event: StreamResponse) -> Usage | None:
    """The number of tokens; None before the last event."""
    if event.details is None:
        return None
    prompt, completion = event.details.input_length or 0, event.details.generated_tokens
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)
