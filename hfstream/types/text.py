"""The nouns of text generation, in the shapes of text-generation-inference (TGI)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from ._base import APIModel, ParsedModel

__all__ = [
    "BestOfSequence",
    "Details",
    "FinishReason",
    "FinishReasonField",
    "InputToken",
    "SimpleToken",
    "StreamDetails",
    "StreamResponse",
    "TextGenerationResponse",
    "Token",
]


class FinishReason(StrEnum):
    """Why an answer ended.

    Values as TGI sends them, and they are printed so; a value that TGI does not list stays a plain ``str`` as it came.
    """

    Length = "length"
    """`max_new_tokens` was reached, or the model's context was full."""
    EndOfSequenceToken = "eos_token"
    """The model said that it was done."""
    StopSequence = "stop_sequence"
    """The text ended with one of the `stop` strings."""


# Left to right: pydantic's smart mode would find that "length" fits `str` best and never make a FinishReason of it.
FinishReasonField = Annotated[FinishReason | str, Field(union_mode="left_to_right")]


class Token(APIModel):
    """One generated token."""

    id: int
    """Its place in the model's vocabulary."""
    text: str
    """The text that this token added; ``""`` while a character is still incomplete."""
    logprob: float | None = None
    """Natural logarithm of its probability after temperature, penalties, top-k and top-p; None where there is none."""
    special: bool = False
    """True for tokens that are no text, such as ``</s>``."""


class InputToken(APIModel):
    """One token of the prompt (`decoder_input_details`)."""

    id: int
    text: str
    logprob: float | None = None
    """None for the first token: nothing came before it."""


class StreamDetails(APIModel):
    """What the last event of a stream says about the whole answer."""

    finish_reason: FinishReasonField
    generated_tokens: int
    """Number of tokens, special ones included."""
    seed: int | None = None
    """The seed of a sampled answer (0 .. 2**64 - 1), None for a greedy one."""
    input_length: int | None = Field(default=None, repr=False)
    """Number of tokens in the prompt. Servers before TGI 2.3 do not say."""


class StreamResponse(APIModel):
    """One event of a stream: a token, and with the last one the whole text."""

    index: int | None = Field(default=None, repr=False)
    """Counts the events from 1. Servers before TGI 1.4 do not say."""
    token: Token
    top_tokens: list[Token] | None = Field(default=None, repr=False)
    """The likeliest tokens at this place, if `top_n_tokens` was asked for."""
    generated_text: str | None = None
    """The whole answer, in the last event only (``""`` is a legal answer)."""
    details: StreamDetails | None = None
    """In the last event only, if `details` was asked for."""


class BestOfSequence(APIModel):
    """One of the answers that `best_of` did not choose."""

    generated_text: str
    finish_reason: FinishReasonField
    generated_tokens: int
    seed: int | None = None
    prefill: list[InputToken] = []
    tokens: list[Token] = []
    top_tokens: list[list[Token]] | None = None


class Details(APIModel):
    """What is known about a whole answer."""

    finish_reason: FinishReasonField
    generated_tokens: int
    """Number of tokens, special ones included; equals ``len(tokens)``."""
    seed: int | None = None
    """The seed of a sampled answer (0 .. 2**64 - 1), None for a greedy one."""
    input_length: int | None = Field(default=None, repr=False)
    """Number of tokens in the prompt, where the server says."""
    prefill: list[InputToken] = []
    tokens: list[Token] = []
    best_of_sequences: list[BestOfSequence] | None = None
    top_tokens: list[list[Token]] | None = None
    """One list for each of `tokens`, if `top_n_tokens` was asked for."""


class TextGenerationResponse(ParsedModel):
    """A whole answer."""

    generated_text: str
    details: Details | None = None
    """None unless `details` was asked for."""

    @property
    def parsed(self) -> Any:
        """The answer as an instance of the pydantic class that was passed as `grammar`; None if none was.

        Raises:
            UnexpectedResponseError: the text is no such thing; for one, because it was cut at `max_new_tokens`.
        """
        return self.parse_as(self.generated_text, self.details.finish_reason if self.details else None)


class SimpleToken(APIModel):
    """One token of a text, as `tokenize` tells it."""

    id: int
    """Its place in the model's vocabulary."""
    text: str
    start: int
    """Where it starts in the text's UTF-8, in bytes. A token that the model wants added covers nothing."""
    stop: int
    """Where it ends."""
