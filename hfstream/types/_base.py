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
            complaints = error.errors(include_url=False)
            if complaints[0]["type"] == "json_invalid":
                raise
        payload = json.loads(data)
        for complaint in complaints:
            _mend(payload, complaint)
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

    _form: type[BaseModel] | None = PrivateAttr(default=None)

    def with_response_model(self, form: type[BaseModel] | None) -> Self:
        """The same, told which class its text shall be parsed as."""
        self._form = form
        return self

    def parse_as(self, text: str | None, finish_reason: str | None) -> Any:
        """`text` as an instance of that class; None without one or the other."""
        if self._form is None or not text:
            return None
        try:
            return self._form.model_validate_json(text)
        except pydantic.ValidationError as error:
            cut = ": it was cut at its length limit, allow it more tokens" if finish_reason == "length" else ""
            raise UnexpectedResponseError(
                f"the answer is no {self._form.__name__}{cut}. {error}", partial_text=text
            ) from error


class Usage(APIModel):
    """How many tokens an answer took. 0 where the server does not say."""

    prompt_tokens: int = 0
    """Tokens of the prompt, or of the whole conversation so far."""
    completion_tokens: int = 0
    """Tokens of the answer."""
    total_tokens: int = 0
    """Both together."""


def _mend(payload: Any, complaint: ErrorDetails) -> None:
    *way, last = complaint["loc"] or ("",)
    value = complaint["input"]
    parent = payload
    for step in way:
        parent = parent[step]
    there = isinstance(parent, dict) if isinstance(last, str) else isinstance(parent, list)
    if complaint["type"] == "missing" or not there:
        return  # or the last step names no place, but the type of a union that did not fit
    if value is None and complaint["type"] == "list_type":
        parent[last] = []
    elif last == "tool_calls" and isinstance(value, dict):
        parent[last] = [value]
    elif last == "logprobs" and isinstance(value, int | float):
        parent[last] = {"logprob": value}
    elif value is None and isinstance(parent, dict):
        del parent[last]
    elif last == "content" and (read := _parts(value)) is not None:
        said, thought = read
        parent[last] = said or None
        if thought:
            parent["reasoning"] = thought
    elif complaint["type"] == "string_type" and not isinstance(value, bool):
        parent[last] = json.dumps(value, ensure_ascii=False)
    elif complaint["type"] == "int_from_float":
        parent[last] = int(cast(float, value))


def _parts(value: Any) -> tuple[str, str] | None:
    """What the parts of a message say and think, as Mistral's models that think tell it; None if they are no such."""
    if not isinstance(value, list):
        return None
    said, thought = "", ""
    for part in cast("list[Any]", value):
        match part:
            case {"type": "text", "text": str(text)}:
                said += text
            case {"type": "thinking", "thinking": inner} if (within := _parts(inner)) is not None and not within[1]:
                thought += within[0]
            case _:
                return None
    return said, thought
