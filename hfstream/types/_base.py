"""What every noun is: a pydantic model that is immutable and loses nothing of what a server said."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Self, cast

import pydantic
from pydantic import BaseModel, ConfigDict, PrivateAttr
from pydantic_core import ErrorDetails

from ..errors import UnexpectedResponseError

__all__ = ["APIModel", "ParsedModel", "Usage"]


class APIModel(BaseModel):
    """Base of every type: immutable, keeps fields it does not know, ``noun["field"]`` reads like ``noun.field``."""

    # protected_namespaces: servers name fields `model_id`, `model_sha`, a prefix that pydantic would reserve.
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    @classmethod
    def read(cls, data: bytes) -> Self:
        """The noun that a server's JSON stands for, mended where it is not the meaning but a habit that does not fit.

        A null where a value belongs is the same as leaving it out, or as an empty list; one call where a list of them
        belongs is the only one; a number or an object where text belongs is its JSON; a message in parts is what they
        say and think; a fraction where a whole number belongs loses what it has behind the point.

        Raises:
            ValueError: this is no such noun.
        """
        try:
            return cls.model_validate_json(data)
        except pydantic.ValidationError as error:
            problems = error.errors(include_url=False)
            if problems[0]["type"] == "json_invalid":
                raise
        payload = json.loads(data)
        for problem in problems:
            _repair(payload, problem)
        return cls.model_validate(payload)

    def __str__(self) -> str:
        return repr(self)  # pydantic's own leaves out the name of the type

    def __getitem__(self, field: str) -> Any:
        if field in type(self).model_fields:
            return getattr(self, field)
        return (self.__pydantic_extra__ or {})[field]  # not getattr(): a field may be named as a method is

    def __contains__(self, field: object) -> bool:
        return field in type(self).model_fields or field in (self.__pydantic_extra__ or ())

    def get(self, field: str, default: Any = None) -> Any:
        """``noun[field]``, or `default` where there is no such field."""
        return self[field] if field in self else default  # noqa: SIM401  this is what dict.get() would be


class ParsedModel(APIModel):
    """A noun whose text may be JSON that a caller has a pydantic class for."""

    _response_model: type[BaseModel] | None = PrivateAttr(default=None)

    def with_response_model(self, response_model: type[BaseModel] | None) -> Self:
        """The same, told which class its text shall be parsed as."""
        self._response_model = response_model
        return self

    def parse_as(self, text: str | None, finish_reason: str | None) -> Any:
        """`text` as an instance of that class; None without one or the other."""
        if self._response_model is None or not text:
            return None
        try:
            return self._response_model.model_validate_json(text)
        except pydantic.ValidationError as error:
            hint = ": it was cut at its length limit, allow it more tokens" if finish_reason == "length" else ""
            raise UnexpectedResponseError(
                f"the answer is no {self._response_model.__name__}{hint}. {error}", partial_text=text
            ) from error


class Usage(APIModel):
    """How many tokens an answer took. 0 where the server does not say."""

    prompt_tokens: int = 0
    """Tokens of the prompt, or of the whole conversation so far."""
    completion_tokens: int = 0
    """Tokens of the answer."""
    total_tokens: int = 0
    """Both together."""


def _repair(payload: Any, problem: ErrorDetails) -> None:
    *path, last = problem["loc"] or ("",)
    value = problem["input"]
    parent = payload
    for step in path:
        parent = parent[step]
    exists = isinstance(parent, dict) if isinstance(last, str) else isinstance(parent, list)
    if problem["type"] == "missing" or not exists:
        return  # or the last step names no place, but the type of a union that did not fit
    if value is None and problem["type"] == "list_type":
        parent[last] = []
    elif last == "tool_calls" and isinstance(value, dict):
        parent[last] = [value]
    elif last == "logprobs" and isinstance(value, int | float):
        parent[last] = {"logprob": value}
    elif value is None and isinstance(parent, dict):
        del parent[last]
    elif last == "content" and (read := _split_reasoning(value)) is not None:
        text, reasoning = read
        parent[last] = text or None
        if reasoning:
            parent["reasoning"] = reasoning
    elif problem["type"] == "string_type" and not isinstance(value, bool):
        parent[last] = json.dumps(value, ensure_ascii=False)
    elif problem["type"] == "int_from_float":
        parent[last] = int(cast(float, value))


def _split_reasoning(value: Any) -> tuple[str, str] | None:
    """What the parts of a message say and think, as Mistral's models that think tell it; None if they are no such."""
    if not isinstance(value, list):
        return None
    text, reasoning = "", ""
    for part in cast("list[Any]", value):
        match part:
            case {"type": "text", "text": str(fragment)}:
                text += fragment
            case {"type": "thinking", "thinking": inner} if (
                within := _split_reasoning(inner)
            ) is not None and not within[1]:
                reasoning += within[0]
            case _:
                return None
    return text, reasoning
