"""What is known of one request when it ends: for the log and for the metrics. Does not depend on HTTP or models."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from uuid import uuid4

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
"""W3C Trace Context: version, trace id, id of the client's span, flags."""


class RequestRecord:
    """The times of one request, in seconds of `time.perf_counter`, its numbers of tokens, and how it ended."""

    def __init__(self, route: str, headers: Mapping[str, str] | None = None) -> None:
        """`route`: method and path. `headers`: those of the request, of which the trace context is kept."""
        self.route: str = route
        self.trace_context: dict[str, str] = {
            name: headers[name] for name in ("traceparent", "tracestate") if headers and name in headers
        }
        self.id: str = uuid4().hex[:16]
        self.received: float = time.perf_counter()
        self.validated: float | None = None
        self.first_token: float | None = None
        self.last_tokens: dict[int, float] = {}
        """Of each generation."""
        self.gaps: list[float] = []
        """Seconds between one token and the next."""
        self.prompt_tokens: int = 0
        self.max_new_tokens: int = 0
        self.generated_tokens: int = 0
        self.finish_reason: str | None = None
        """TGI's; None before the last token."""

    @property
    def trace_id(self) -> str | None:
        """Of the trace that the client's request belongs to; None if it sends none."""
        found = _TRACEPARENT.fullmatch(self.trace_context.get("traceparent", ""))
        return found[1] if found else None

    def mark_validated(self, *, prompt_tokens: int, max_new_tokens: int) -> None:
        """The request has just been found valid."""
        self.validated = time.perf_counter()
        self.prompt_tokens, self.max_new_tokens = prompt_tokens, max_new_tokens

    def mark_token(self, finish_reason: str | None, generation: int = 0) -> None:
        """The engine has generated one more token of one of the request's generations."""
        now = time.perf_counter()
        if self.first_token is None:
            self.first_token = now
        if generation in self.last_tokens:
            self.gaps.append(now - self.last_tokens[generation])
        self.last_tokens[generation] = now
        self.generated_tokens += 1
        self.finish_reason = finish_reason

    def describe(self, outcome: str) -> str:
        """One line for the log."""
        first = "-" if self.first_token is None else f"{self.first_token - self.received:.3f}"
        trace = "" if self.trace_id is None else f"trace={self.trace_id} "
        return (
            f"{self.route} id={self.id} {trace}prompt={self.prompt_tokens} generated={self.generated_tokens} "
            f"first_token={first} total={time.perf_counter() - self.received:.3f} outcome={outcome}"
        )
