"""What a request says: TGI's bodies, read as strictly as TGI's reader (serde) reads them, and refused in its words.

Fields that TGI does not know are ignored, as TGI does. Whether a value makes sense is `validation`'s business. OpenAI's
bodies (`openai_requests`) are read here too, and become a `GenerateRequest`.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, TypeVar

import pydantic
from pydantic import BaseModel, FailFast, PlainValidator
from pydantic_core import ErrorDetails, PydanticCustomError
from starlette.exceptions import HTTPException
from starlette.requests import Request

# --- the bodies ------------------------------------------------------------------------------------------------------


def _seen(value: object) -> str:
    """A JSON value, as serde's errors call it."""
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean `{json.dumps(value)}`"
        case int():
            return f"integer `{value}`"
        case float():
            return f"floating point `{value!r}`"
        case str():
            return f"string {json.dumps(value, ensure_ascii=False)}"
        case _:
            return "sequence" if isinstance(value, list) else "map"


def complaint(words: str) -> PydanticCustomError:
    """What a validator raises: serde's words for what is wrong."""
    return PydanticCustomError("serde", "{words}", {"words": words})


def duplicate(field: str, *keys: str) -> PydanticCustomError:
    """What a validator of a whole body raises: several of its keys give the same field."""
    return PydanticCustomError("duplicate", "duplicate field `{field}`", {"field": field, "keys": keys})


def wrong_type(value: object, expected: str) -> PydanticCustomError:
    """What a validator raises for a value of another type."""
    return complaint(f"invalid type: {_seen(value)}, expected {expected}")


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
            raise complaint(f"invalid value: integer `{value}`, expected {name}")
        return value

    return PlainValidator(read)


def _float32(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise wrong_type(value, "f32")
    try:
        number = float(value)
    except OverflowError:
        raise complaint("number out of range") from None
    # Rounded, as it is when TGI reads it: what is then 0 is not "strictly positive".
    rounded = ctypes.c_float(number).value
    if rounded - rounded != 0:
        # TGI takes infinity here, and JSON's extension NaN never gets there; neither makes a distribution.
        raise complaint(f"invalid value: floating point `{value!r}`, expected f32")
    return rounded


Str = Annotated[str, _instance(str, "a string")]
Bool = Annotated[bool, _instance(bool, "a boolean")]
I32 = Annotated[int, _integer("i32", -(2**31), 2**31 - 1)]
U32 = Annotated[int, _integer("u32", 0, 2**32 - 1)]
U64 = Annotated[int, _integer("u64", 0, 2**64 - 1)]
Usize = Annotated[int, _integer("usize", 0, 2**64 - 1)]
F32 = Annotated[float, PlainValidator(_float32)]
StrList = Annotated[list[Str], FailFast()]
"""Read up to the first thing wrong, as serde does: of a million complaints one would be told, and all be placed."""


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
    def lacking(self) -> Sequence[str]:
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


Body = TypeVar("Body", bound=BaseModel)

_SHORT = 10_000
"""Bytes that are read on the spot. A conversation of many messages takes up to 0.3 ms for each 1,000."""


# --- from the wire ---------------------------------------------------------------------------------------------------


async def read(request: Request, form: type[Body], limit: int) -> Body:
    """The body of `request`, as a `form`.

    Raises:
        HTTPException: 400, 413, 415 or 422, with text as axum's `Json` extractor writes it.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not re.fullmatch(r"application/([^/\s]+\+)?json", kind):
        raise HTTPException(415, "Expected request with `Content-Type: application/json`")
    body = await _collect(request, limit)
    return parse(body, form) if len(body) <= _SHORT else await asyncio.to_thread(parse, body, form)


async def _collect(request: Request, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise HTTPException(413, "Failed to buffer the request body: length limit exceeded")
    return b"".join(pieces)


def parse(body: bytes, form: type[Body]) -> Body:
    """`body` as a `form`, or the HTTPException (400, 422) that says why not."""
    try:
        return form.model_validate_json(body)
    except pydantic.ValidationError as error:
        details = error.errors(include_url=False)
    if details[0]["type"] == "json_invalid":
        words = details[0].get("ctx", {}).get("error")  # serde_json's: pydantic's own reader, jiter, copies them
        raise HTTPException(400, f"Failed to parse the request body as JSON: {words}")
    text = body.decode()
    # serde stops at the first thing wrong, pydantic tells all, in the order of the fields.
    at, path, why = min((_judge(detail, text) for detail in details), key=lambda judgement: judgement[0])
    where = f"{path}: " if path else ""
    raise HTTPException(
        422, f"Failed to deserialize the JSON body into the target type: {where}{why} at {_line_and_column(text, at)}"
    )


def _judge(detail: ErrorDetails, text: str) -> tuple[int, str, str]:
    """Place, path and words of one of pydantic's complaints.

    The place is where serde_json has got to when it complains: a missing field is noticed behind the object, a
    container that should be none in front of it, anything else behind the value. (One known difference: of a key given
    twice, which serde refuses and pydantic does not, the first is pointed at.)
    """
    path, value = detail["loc"], detail["input"]
    if detail["type"] == "missing":
        return _span(text, path[:-1])[1], _dotted(path[:-1]), f"missing field `{path[-1]}`"
    start, end = _span(text, path)
    if detail["type"] == "duplicate":
        return max(_key(text, start, key) for key in detail.get("ctx", {})["keys"]), _dotted(path), detail["msg"]
    if detail["type"] == "list_type":
        words = f"invalid type: {_seen(value)}, expected a sequence"
    elif detail["type"] == "serde":
        words = detail["msg"]
    else:
        words = f"invalid type: {_seen(value)}, expected struct {detail.get('ctx', {}).get('class_name')}"
    return (start if isinstance(value, dict | list) else end), _dotted(path), words


def _dotted(path: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


# --- where something stands in a JSON text ---------------------------------------------------------------------------

_value_at = json.JSONDecoder().raw_decode
_space = re.compile(r"[ \t\n\r]*")


def _skip(text: str, at: int) -> int:
    """The first place from `at` on that is no white space."""
    found = _space.match(text, at)
    return found.end() if found else at


def _span(text: str, path: Sequence[str | int]) -> tuple[int, int]:
    """Where in the valid JSON `text` the value at `path` starts and ends."""
    start = _skip(text, 0)
    for step in path:
        start = _member(text, start, step)
    return start, _value_at(text, start)[1]


def _member(text: str, container: int, wanted: str | int) -> int:
    """Where the value of one key, or one element, of the object or array at `container` starts."""
    at, count = container, 0
    while True:
        at = _skip(text, at + 1)  # behind the bracket, or the comma
        key: str | int = count
        if isinstance(wanted, str):
            key, at = _value_at(text, at)
            at = _skip(text, _skip(text, at) + 1)  # behind the colon
        if key == wanted:
            return at
        at = _skip(text, _value_at(text, at)[1])
        count += 1


def _key(text: str, container: int, wanted: str) -> int:
    """Where one key of the object at `container` ends."""
    return text.rindex('"', 0, _member(text, container, wanted)) + 1


def _line_and_column(text: str, at: int) -> str:
    """As serde_json counts: lines from 1, and the bytes of the line that have been read."""
    before = text[:at]
    return f"line {before.count(chr(10)) + 1} column {len(before.rpartition(chr(10))[2].encode())}"
