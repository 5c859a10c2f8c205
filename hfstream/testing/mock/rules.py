"""What a file of rules may say: the fields, their types, and which of them go together.

Does not depend on where rules come from, on HTTP, or on how an answer is sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ..response import Response
from ..unusual import UNUSUAL_RESPONSES
from .json_values import is_array

__all__ = [
    "EVENT_FAULTS", "INTERRUPTIONS", "MODELS", "NAMED_ERRORS", "RESPONSE_FAULTS", "Error", "RawResponse", "Rule",
    "Rules", "ToolCall", "Usage", "When", "split_text",
]  # fmt: skip

INTERRUPTIONS = ("drop", "reset", "stall", "early_end")
"""Faults after a number of events."""
EVENT_FAULTS = (
    *INTERRUPTIONS, "byte_order_mark", "cr_only", "crlf", "keep_alives", "rechunk", "retry_frames", "split_utf8",
)  # fmt: skip
"""Faults of an answer's events."""
RESPONSE_FAULTS = ("overloaded", "overloaded_in_stream", "html", "empty")
"""Faults that are an answer of their own."""

NAMED_ERRORS: Mapping[str, tuple[int, str, str]] = {
    "overloaded": (429, "Model is overloaded", "overloaded"),
    "unauthorized": (401, "Incorrect API key provided", "invalid_api_key"),
    "validation": (422, "Input validation error: refused by a rule of the mock", "validation"),
    "unavailable": (503, "The model is not available", "unavailable"),
    "generation": (424, "Request failed during generation: Server error: refused by a rule of the mock", "generation"),
    "incomplete_generation": (500, "Incomplete generation", "incomplete_generation"),
}
"""Status, message and type of the errors that have a name."""

_TOKEN = re.compile(r"\s*(?:[\u2e80-\u9fff\uac00-\ud7af]|[^\s\u2e80-\u9fff\uac00-\ud7af]+)(?:\s+$)?|\s+")


def split_text(text: str) -> list[str]:
    """The tokens of a text: words with the blanks before them; Chinese, Japanese and Korean characters one by one."""
    return _TOKEN.findall(text)


def _as_texts(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    if is_array(value) and value and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise ValueError(f"must be text or a list of texts, not {value!r:.50}{_quote_hint(value)}")


def _as_tokens(value: Any) -> Any:
    return tuple(split_text(value)) if isinstance(value, str) else _as_texts(value)


def _as_numbers(value: Any) -> Any:
    numbers = value if is_array(value) and value else [value]
    if any(isinstance(each, bool) or not isinstance(each, int) or each < 1 for each in numbers):
        raise ValueError(f"must be a number, or a list of numbers, from 1 upward, not {value!r:.50}")
    return tuple(numbers)


def _as_pattern(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"must be a regular expression, not {value!r:.50}{_quote_hint(value)}")  # noqa: TRY004  pydantic
    try:
        return re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is not a regular expression: {error}") from error


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    try:
        Response((), headers=headers)
    except ValueError as error:
        raise ValueError(f"cannot be sent: {str(error).partition(';')[0]}") from error
    return headers


def _as_error(value: Any) -> Any:
    if isinstance(value, str):
        if value not in NAMED_ERRORS:
            raise ValueError(f"must be a status, or one of {', '.join(NAMED_ERRORS)}, not {value!r}")
        status, message, kind = NAMED_ERRORS[value]
        return {"status": status, "message": message, "type": kind}
    return {"status": value} if isinstance(value, int) else value


def _quote_hint(value: Any) -> str:
    return ": put it in quotes" if isinstance(value, bool | int | float) else ""


Texts = Annotated[tuple[str, ...], BeforeValidator(_as_texts)]
Tokens = Annotated[tuple[str, ...], BeforeValidator(_as_tokens)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
TokensPerSecond = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Fields(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, frozen=True)


class When(_Fields):
    """Which requests a rule answers: those for which all that is given holds."""

    contains: Texts = ()
    """Texts that the last message, or the prompt, contains; upper and lower case are the same."""
    matches: Annotated[re.Pattern[str], BeforeValidator(_as_pattern)] | None = None
    """A regular expression that is found in the last message, or in the prompt."""
    role: Literal["system", "developer", "user", "assistant", "tool"] | None = None
    """The role of the last message."""
    tool: str | None = None
    """A tool that the request offers."""
    model: str | None = None
    """The model that the request names; ``*`` and ``?`` as in file names."""
    call: Annotated[tuple[int, ...], BeforeValidator(_as_numbers)] = ()
    """Only the first, second ... of the requests for which the rest holds."""
    path: str | None = None
    """The end of the request's path."""
    stream: bool | None = None
    """Whether the request asks for a stream."""


class ToolCall(_Fields):
    """A call of a tool."""

    name: str
    arguments: dict[str, Any] | str = Field(default_factory=dict[str, Any])
    """The arguments; text is sent as it is, also if it is not JSON."""
    id: str | None = None

    def arguments_json(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments, ensure_ascii=False)


class Error(_Fields):
    """An error, in the format of the route."""

    status: Annotated[int, Field(ge=400, le=599)]
    message: str = "refused by a rule of the mock"
    type: str | None = None


class Usage(_Fields):
    """The number of tokens, in place of those that were counted."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None


class RawResponse(_Fields):
    """A response as it is sent, for any path."""

    status: Annotated[int, Field(ge=200, le=599)] = 200
    headers: Annotated[dict[str, str], AfterValidator(_check_headers)] = Field(default_factory=dict[str, str])
    body: str | None = None
    json_body: Any = Field(default=None, alias="json")

    def encoded(self) -> bytes:
        if "json_body" in self.model_fields_set:
            return json.dumps(self.json_body, ensure_ascii=False).encode()
        return (self.body or "").encode()


class Rule(_Fields):
    """What is answered, and when."""

    when: When = When()
    text: Tokens | None = None
    """The answer's text. A list is sent token by token; text is divided into words."""
    json_text: Any = Field(default=None, alias="json")
    """A value whose JSON is the answer's text."""
    reasoning: Tokens | None = None
    """The model's reasoning before its answer, in chats."""
    tool_calls: list[ToolCall] = []
    """Calls of tools, in chats; text may come before them."""
    finish_reason: Literal["stop", "length", "stop_sequence", "content_filter"] | None = None
    usage: Usage = Usage()
    error: Annotated[Error | None, BeforeValidator(_as_error)] = None
    """A refusal. With `after`, a stream breaks off with the error."""
    retry_after: Seconds | None = None
    fault: Literal[
        "drop", "reset", "stall", "early_end", "byte_order_mark", "cr_only", "crlf", "keep_alives", "rechunk",
        "retry_frames", "split_utf8", "overloaded", "overloaded_in_stream", "html", "empty",
    ] | None = None  # fmt: skip
    """A fault of `hfstream.testing.faults`, by its name."""
    after: Count | None = None
    """The number of events before a fault or an error."""
    size: Annotated[int, Field(ge=1)] | None = None
    """The size of a chunk in bytes, for `rechunk`."""
    unusual: str | None = None
    """The name of one of `hfstream.testing.UNUSUAL_RESPONSES`."""
    response: RawResponse | None = None
    """A response as it is sent."""
    tokens_per_second: TokensPerSecond | None = None
    delay: Seconds | None = None
    """Seconds before the answer begins."""

    @property
    def has_content(self) -> bool:
        """Whether the answer is one that a model gives: text, reasoning or calls of tools."""
        return bool(self.model_fields_set & {"text", "json_text", "reasoning", "tool_calls"})

    @property
    def needs_chat(self) -> bool:
        """Whether only routes for chats can carry the answer."""
        return bool(self.tool_calls or self.reasoning)

    def tokens(self) -> tuple[str, ...]:
        """The tokens of the text."""
        if "json_text" in self.model_fields_set:
            return tuple(split_text(json.dumps(self.json_text, ensure_ascii=False)))
        return self.text or ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = self.model_fields_set
        answers = given & {"unusual", "response"} | ({"fault"} if self.fault in RESPONSE_FAULTS else set[str]())
        if {"text", "json_text"} <= given:
            raise ValueError("has both `text` and `json`: give one of them")
        if len(answers) > 1 or (answers and (self.has_content or self.error)):
            names = sorted(answers) + ["an answer"] * self.has_content + ["`error`"] * bool(self.error)
            raise ValueError(f"has more than one answer ({', '.join(names)}): give one of them")
        self._check_faults()
        if not (answers or self.has_content or self.error):
            raise ValueError(
                "has no answer: give `text`, `tool_calls`, `json`, `error`, `fault`, `unusual` or `response`"
            )
        self._check_unicode()
        return self

    def _check_unicode(self) -> None:
        texts = (*self.tokens(), *(self.reasoning or ()), *(call.arguments_json() for call in self.tool_calls))
        if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
            raise ValueError(r"has half of a surrogate pair, such as \ud83d, which UTF-8 cannot have")

    def _check_faults(self) -> None:
        if self.fault in EVENT_FAULTS and not self.has_content:
            raise ValueError(f"the fault `{self.fault}` needs an answer: give `text`, `tool_calls` or `json`")
        if self.fault in EVENT_FAULTS and self.error is not None:
            raise ValueError("has both `fault` and `error`: give one of them")
        if self.error is not None and self.has_content and self.after is None:
            raise ValueError("has both an answer and `error`: `after` says how many events come before the error")
        if self.after is not None and self.error is None and self.fault not in INTERRUPTIONS:
            raise ValueError(f"`after` goes with `error` and with the faults {', '.join(INTERRUPTIONS)}")
        if self.size is not None and self.fault != "rechunk":
            raise ValueError("`size` goes with the fault rechunk")
        if self.retry_after is not None and self.error is None and self.fault != "overloaded":
            raise ValueError("`retry_after` goes with `error` and with the fault overloaded")
        if self.fault == "split_utf8" and "".join((*self.tokens(), *(self.reasoning or ()))).isascii():
            raise ValueError("the fault split_utf8 needs a text with characters of several bytes, such as é or 👍")
        if self.unusual is not None and self.unusual not in UNUSUAL_RESPONSES:
            raise ValueError(f"`unusual` must be a name in hfstream.testing.UNUSUAL_RESPONSES, not {self.unusual!r}")


class Rules(_Fields):
    """A file of rules. The first rule that holds answers."""

    model: str = "mock"
    """The name of the model, for requests that name none and in the list of models."""
    api_key: str | None = None
    """The key that requests must have; the others get a 401."""
    tokens_per_second: TokensPerSecond | None = None
    """The pace of rules that have none of their own; without it, answers are sent at once."""
    delay: Seconds = 0.0
    rules: Annotated[list[Rule], Field(min_length=1)]


MODELS: Mapping[str, type[BaseModel]] = {
    "": Rules, "rules": Rule, "when": When, "tool_calls": ToolCall, "error": Error, "usage": Usage,
    "response": RawResponse,
}  # fmt: skip
"""The fields that may be written below a name; below none: at the top."""
