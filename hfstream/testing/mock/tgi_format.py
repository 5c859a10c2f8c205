"""Answers in the format of TGI's own routes. Does not depend on rules, or on how an answer is sent."""

from __future__ import annotations

from typing import Any

from ..events import final_event, token_event
from .answers import LOGPROB, Answer
from .model_requests import ModelRequest, Route

__all__ = ["TGIFormat"]

_FINISH_REASONS = {"length": "length", "stop_sequence": "stop_sequence"}
"""TGI's; every other answer ends with the special token."""
_END = "</s>"


class TGIFormat:
    """An `AnswerFormat` for /generate, /generate_stream and /."""

    def __init__(self, request: ModelRequest, answer: Answer, *, details: bool = False) -> None:
        """`details`: whether they are sent although the request does not ask for them."""
        parameters = request.parameters
        self._answer = answer
        self._is_list = request.route is Route.COMPAT
        self._details = bool(details or parameters.get("details") or parameters.get("decoder_input_details"))
        top = parameters.get("top_n_tokens")
        self._top = top if isinstance(top, int) else 0
        # /, which older clients use, repeats the prompt unless it is told not to.
        full = parameters.get("return_full_text")
        repeats = request.route is Route.COMPAT if full is None else bool(full)
        self._generated_text = (request.prompt if repeats else "") + answer.text
        self._finish_reason = _FINISH_REASONS.get(answer.finish_reason, "eos_token")
        self._texts = [*answer.tokens]
        if self._finish_reason == "eos_token" or not self._texts:
            self._texts.append(_END)
        self._count = max(answer.completion_tokens, len(self._texts))

    def events(self) -> list[bytes]:
        *first, last = range(len(self._texts))
        events = [token_event(index + 1, self._texts[index], **self._top_tokens(index)) for index in first]
        details = {**self._short_details(), "input_length": self._answer.prompt_tokens} if self._details else None
        fields: dict[str, Any] = {**self._top_tokens(last), "details": details, "special": self._is_special(last)}
        return [*events, final_event(last + 1, self._texts[last], self._generated_text, **fields)]

    def body(self) -> object:
        body: dict[str, Any] = {"generated_text": self._generated_text}
        if self._details:
            tokens = [self._token(index) for index in range(len(self._texts))]
            body["details"] = {**self._short_details(), "prefill": [], "tokens": tokens}
            if self._top:
                tops = [self._top_tokens(index).get("top_tokens", []) for index in range(len(self._texts))]
                body["details"]["top_tokens"] = tops
        return [body] if self._is_list else body

    def _short_details(self) -> dict[str, Any]:
        return {"finish_reason": self._finish_reason, "generated_tokens": self._count, "seed": None}

    def _is_special(self, index: int) -> bool:
        return index == len(self._answer.tokens)

    def _token(self, index: int) -> dict[str, Any]:
        text, special = self._texts[index], self._is_special(index)
        return {"id": 101 + index, "text": text, "logprob": LOGPROB, "special": special}

    def _top_tokens(self, index: int) -> dict[str, Any]:
        if not self._top or self._is_special(index):
            return {}
        likeliest = self._answer.likeliest(index, self._top)
        tops = [
            {"id": 101 + self._texts.index(text), "text": text, "logprob": logprob, "special": False}
            for text, logprob in likeliest
        ]
        return {"top_tokens": tops}
