"""Responses of TGI's own route, to `text_generation`."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import IncompleteStreamError, OverloadedError
from ..events import token_event, token_events
from ..response import Response
from .entries import UnusualResponse, event

__all__ = ["TEXT_GENERATION"]

TEXT_GENERATION: Mapping[str, UnusualResponse] = {
    "TGI: an overload in a 200": UnusualResponse(
        "an error as the only event, as TGI reports it on streams",
        Response([event({"error": "Model is overloaded", "error_type": "overloaded"})]),
        "", OverloadedError, "Model is overloaded", task="text_generation",
    ),
    "TGI: odd fields": UnusualResponse(
        "text for numbers, and other kinds beside the text",
        Response([
            event({"token": {"id": "7", "text": "Hel", "logprob": "n/a", "special": None}, "details": []}),
            *token_events("lo"),
        ]),
        task="text_generation",
    ),
    "TGI: no final event": UnusualResponse(
        "the body ends as if the answer were complete", Response([token_event(1, "Hel")]), "Hel", IncompleteStreamError,
        task="text_generation",
    ),
}  # fmt: skip
