"""The types of text generation, in the format of text-generation-inference (TGI)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, cast

from pydantic import Field

from ._base import APIModel, FieldRepair, ParsedModel

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


# Repairs of single fields, for `validate_lenient` ---------------------------------------------------------------------


def _token_from_odd(value: Any) -> dict[str, Any] | None:
    """The text alone, or a list of one token."""
    if isinstance(value, str):
        return {"token": {"text": value}}
    if isinstance(value, list) and len(cast("list[Any]", value)) == 1:
        return {"token": cast("list[Any]", value)[0]}
    return None


def _text_from_null(value: Any) -> dict[str, Any] | None:
    return {"text": ""} if value is None else None


def _generated_text_from_odd(value: Any) -> dict[str, Any]:
    """A number is the text; nothing else can be."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"generated_text": str(value) if is_number else None}


_FIELD_REPAIRS: Mapping[str, FieldRepair] = {
    "generated_text": _generated_text_from_odd,
    "text": _text_from_null,
    "token": _token_from_odd,
}


# Text generation ------------------------------------------------------------------------------------------------------


class FinishReason(StrEnum):
    """Why generation ended.

    The values, and what `str` returns, are TGI's. A value that TGI does not document stays a plain ``str``.
    """

    Length = "length"
    """`max_new_tokens` was reached, or the model's context was full."""
    EndOfSequenceToken = "eos_token"
    """The model generated its end-of-sequence token."""
    StopSequence = "stop_sequence"
    """The text ended with one of the `stop` strings."""


# Left to right: pydantic's smart mode would find that "length" fits `str` best and never make a FinishReason of it.
FinishReasonField = Annotated[FinishReason | str, Field(union_mode="left_to_right")]


class Token(APIModel):
    """One generated token."""

    id: int = -1
    """Its id in the model's vocabulary; -1 if the server sends none."""
    text: str
    """The text that this token added; ``""`` while a character is still incomplete."""
    logprob: float | None = None
    """Natural logarithm of its probability after temperature, penalties, top-k and top-p; None if the server sends
    none."""
    special: bool = False
    """True for tokens that are not part of the text, such as ``</s>``."""


class InputToken(APIModel):
    """One token of the prompt (`decoder_input_details`)."""

    id: int = -1
    text: str
    logprob: float | None = None
    """None for the first token: nothing came before it."""


class StreamDetails(APIModel):
    """Sent with the last event of a stream; describes the complete response."""

    finish_reason: FinishReasonField = ""
    """``""`` if the server does not send it."""
    generated_tokens: int = 0
    """Number of tokens, special ones included; 0 if the server does not send it."""
    seed: int | None = None
    """The seed used for sampling (0 .. 2**64 - 1), None for greedy decoding."""
    input_length: int | None = Field(default=None, repr=False)
    """Number of tokens in the prompt. TGI before 2.3 does not send it."""


class StreamResponse(APIModel):
    """One event of a stream: a token, and in the last event also the complete text."""

    _field_repairs: ClassVar[Mapping[str, FieldRepair]] = _FIELD_REPAIRS

    index: int | None = Field(default=None, repr=False)
    """The event's number, from 1. TGI before 1.4 does not send it."""
    token: Token
    top_tokens: list[Token] | None = Field(default=None, repr=False)
    """The most likely tokens at this position, if `top_n_tokens` was set."""
    generated_text: str | None = None
    """The complete text, in the last event only (``""`` is a valid one)."""
    details: StreamDetails | None = None
    """In the last event only, if `details` was set."""


class BestOfSequence(APIModel):
    """One of the generations that `best_of` did not choose."""

    generated_text: str
    finish_reason: FinishReasonField = ""
    generated_tokens: int = 0
    seed: int | None = None
    prefill: list[InputToken] = []
    tokens: list[Token] = []
    top_tokens: list[list[Token]] | None = None


class Details(APIModel):
    """Details of a complete response."""

    finish_reason: FinishReasonField = ""
    """``""`` if the server does not send it."""
    generated_tokens: int = 0
    """Number of tokens, special ones included; equals ``len(tokens)``."""
    seed: int | None = None
    """The seed used for sampling (0 .. 2**64 - 1), None for greedy decoding."""
    input_length: int | None = Field(default=None, repr=False)
    """Number of tokens in the prompt, if the server sends it."""
    prefill: list[InputToken] = []
    tokens: list[Token] = []
    best_of_sequences: list[BestOfSequence] | None = None
    top_tokens: list[list[Token]] | None = None
    """One list for each of `tokens`, if `top_n_tokens` was set."""


class TextGenerationResponse(ParsedModel):
    """A complete response of text generation."""

    _field_repairs: ClassVar[Mapping[str, FieldRepair]] = _FIELD_REPAIRS

    generated_text: str
    details: Details | None = None
    """None unless `details` was set."""

    @property
    def parsed(self) -> Any:
        """The text as an instance of the pydantic class that was passed as `grammar`; None if none was.

        Raises:
            UnexpectedResponseError: the text does not validate as that class, for example because it was cut off at
                `max_new_tokens`.
        """
        return self.parse_as(self.generated_text, self.details.finish_reason if self.details else None)


class SimpleToken(APIModel):
    """One token of a text, as `tokenize` returns it."""

    id: int
    """Its id in the model's vocabulary."""
    text: str
    start: int
    """Where it starts, as an offset in bytes into the text's UTF-8. Equal to `stop` for a token that the tokenizer
    adds, such as ``<s>``."""
    stop: int
    """Where it ends, as an offset in bytes."""
