"""TGI's request bodies, parsed as strictly as TGI's parser (serde) parses them.

Fields that TGI does not know are ignored, as TGI does. Whether a value makes sense is checked in `validation`. OpenAI's
bodies (`openai`) use the same field types, and become a `GenerateRequest`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, FailFast, PlainValidator

from .serde_errors import serde_error, wrong_type


def _instance(kind: type, expected: str) -> PlainValidator:
    def read(value: object) -> object:
        if not isinstance(value, kind):
            raise wrong_type(value, expected)
        return value

    return PlainValidator(read)


def _integer(name: str, lowest: int, highest: int) -> PlainValidator:
    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(value, name)
        if not lowest <= value <= highest:
            raise serde_error(f"invalid value: integer `{value}`, expected {name}")
        return value

    return PlainValidator(read)


def _float32(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise wrong_type(value, "f32")
    try:
        number = float(value)
    except OverflowError:
        raise serde_error("number out of range") from None
    # Rounded, as it is when TGI reads it: what is then 0 is not "strictly positive".
    rounded = ctypes.c_float(number).value
    if rounded - rounded != 0:
        # TGI takes infinity here, and JSON's extension NaN never gets there; neither makes a distribution.
        raise serde_error(f"invalid value: floating point `{value!r}`, expected f32")
    return rounded


Str = Annotated[str, _instance(str, "a string")]
Bool = Annotated[bool, _instance(bool, "a boolean")]
I32 = Annotated[int, _integer("i32", -(2**31), 2**31 - 1)]
U32 = Annotated[int, _integer("u32", 0, 2**32 - 1)]
U64 = Annotated[int, _integer("u64", 0, 2**64 - 1)]
Usize = Annotated[int, _integer("usize", 0, 2**64 - 1)]
F32 = Annotated[float, PlainValidator(_float32)]
StrList = Annotated[list[Str], FailFast()]
"""Parsed up to the first error, as serde does: locating the errors of a million items would be wasteful."""


class GenerateParameters(BaseModel):
    """How to answer. Where `None` is not among a field's types, TGI does not take ``null`` there either."""

    best_of: Usize | None = None
    temperature: F32 | None = None
    repetition_penalty: F32 | None = None
    frequency_penalty: F32 | None = None
    top_k: I32 | None = None
    top_p: F32 | None = None
    typical_p: F32 | None = None
    do_sample: Bool = False
    max_new_tokens: U32 | None = None
    return_full_text: Bool | None = None
    stop: StrList = []
    truncate: Usize | None = None
    watermark: Bool = False
    details: Bool = False
    decoder_input_details: Bool = False
    seed: U64 | None = None
    top_n_tokens: U32 | None = None
    grammar: Any = None
    adapter_id: Str | None = None

    @property
    def sampled(self) -> bool:
        """Whether tokens are drawn: most wishes of how to draw them say so by themselves."""
        return self.do_sample or self.temperature not in (None, 1.0) or self.top_k is not None or self.top_p is not None

    @property
    def presence(self) -> float | None:
        """The presence penalty, which only OpenAI's routes have."""
        return None

    @property
    def unsupported_reasons(self) -> Sequence[str]:
        """What else was asked for that this backend has not."""
        return ()


class GenerateRequest(BaseModel):
    """The body of /generate, /generate_stream and /tokenize."""

    full_text: ClassVar[bool] = False
    """Whether the answer repeats the prompt unless told otherwise."""
    add_special_tokens: ClassVar[bool] = True
    """Whether the model's own first token is still to come before `inputs`."""

    inputs: Str
    # Not the same as `{}`: who says nothing about how to answer gets a sampled answer.
    parameters: GenerateParameters = GenerateParameters(do_sample=True)


class CompatGenerateRequest(GenerateRequest):
    """The body of /. It repeats the prompt, as TGI's does for a model whose pipeline is text-generation."""

    full_text: ClassVar[bool] = True

    stream: Bool = False
