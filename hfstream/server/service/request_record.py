"""What is known of one request when it ends: for the log and for the metrics. Does not depend on HTTP or models."""

from __future__ import annotations

import time
from uuid import uuid4


class RequestRecord:
    """The times of one request, in seconds of `time.perf_counter`, its numbers of tokens, and how it ended."""

    def __init__(self, route: str) -> None:
        """`route`: method and path."""
        self.route: str = route
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
        return (
            f"{self.route} id={self.id} prompt={self.prompt_tokens} generated={self.generated_tokens} "
            f"first_token={first} total={time.perf_counter() - self.received:.3f} outcome={outcome}"
        )
