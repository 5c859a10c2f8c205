"""The base classes of all response types: pydantic models that are immutable and keep every field a server sends.

Private: users meet only the subclasses. Does not depend on the fields of a subclass; one that needs rules for some of
its fields has them in `_field_repairs`.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, ClassVar, Self, cast

import pydantic
from pydantic import BaseModel, ConfigDict, PrivateAttr, TypeAdapter, model_validator

from ..errors import UnexpectedResponseError
from ._lenient import FieldRepair, load_json, validate_lenient

__all__ = ["APIModel", "FieldRepair", "ParsedModel", "Usage"]


class APIModel(BaseModel):
    """Base of every type: immutable, keeps unknown fields, ``model["field"]`` is the same as ``model.field``."""

    # protected_namespaces: servers name fields `model_id`, `model_sha`, a prefix that pydantic would reserve.
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    _field_repairs: ClassVar[Mapping[str, FieldRepair]] = {}
    """Used by `validate_lenient` on the class it is called on: a rule for each field, at any depth, that has one."""

    @classmethod
    def parse_lenient(cls, data: bytes) -> Self:
        """Validates a server's JSON; what is not as documented is corrected or left out, see `validate_lenient`.

        Raises:
            ValueError: not JSON, or not even what this type requires.
        """
        # First as it is: most data is valid, and only pydantic knows which values are not.
        try:
            return cls.model_validate_json(data)
        except pydantic.ValidationError:
            return cls.validate_lenient(load_json(data))

    @classmethod
    def validate_lenient(cls, payload: Any) -> Self:
        """As `parse_lenient`, for JSON that has been parsed; it may be changed.

        A number or an object where a string is required becomes its JSON, a float where an integer is required is
        truncated, `_field_repairs` has the rules for single fields. Any other value that does not fit is left out.

        Raises:
            ValueError: not even what this type requires.
        """
        return validate_lenient(cls, payload, cls._field_repairs)

    def __str__(self) -> str:
        return repr(self)  # pydantic's own leaves out the name of the type

    def __getitem__(self, field: str) -> Any:
        if field in type(self).model_fields:
            return getattr(self, field)
        return (self.__pydantic_extra__ or {})[field]  # not getattr(): a field may be named as a method is

    def __contains__(self, field: object) -> bool:
        return field in type(self).model_fields or field in (self.__pydantic_extra__ or ())

    # huggingface_hub's responses are dictionaries, so these are read like one: `{**chunk}`, `dict(chunk)`,
    # `for name in chunk`. pydantic's own iteration is over pairs, which `items()` returns.

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(self.keys())

    def keys(self) -> KeysView[str]:
        """The names of all fields, those included that only this server has."""
        return dict.fromkeys([*type(self).model_fields, *(self.__pydantic_extra__ or ())]).keys()

    def values(self) -> ValuesView[Any]:
        """The values of all fields; those that are objects stay so."""
        return dict(self).values()

    def items(self) -> ItemsView[str, Any]:
        """Names and values of all fields."""
        return dict(self).items()

    def get(self, field: str, default: Any = None) -> Any:
        """``model[field]``, or `default` if there is no such field."""
        return self[field] if field in self else default  # noqa: SIM401  its advice is a call of this method


class ParsedModel(APIModel):
    """A response whose text may be JSON, for which the caller passed a type."""

    _response_model: Any = PrivateAttr(default=None)

    def with_response_model(self, response_model: Any) -> Self:
        """Sets what `parsed` reads the text as, any type that pydantic's TypeAdapter takes; returns the same object."""
        self._response_model = response_model
        return self

    def parse_as(self, text: str | None, finish_reason: str | None) -> Any:
        """`text` as an instance of the response model; None if there is no text, or no model."""
        if self._response_model is None or not text:
            return None
        try:
            return _adapter(self._response_model).validate_json(text)
        except pydantic.ValidationError as error:
            name = getattr(self._response_model, "__name__", repr(self._response_model))
            hint = ": it was cut off at the token limit, allow more tokens" if finish_reason == "length" else ""
            raise UnexpectedResponseError(
                f"the response is not a valid {name}{hint}. {error}", partial_text=text
            ) from error


class Usage(APIModel):
    """Token counts of one request. 0 where the server does not report one.

    Servers that name them `input_tokens` and `output_tokens`, as OpenAI's Responses API and Anthropic do, are
    understood too; those names can still be read. A count may also come as text, or as a float.
    """

    prompt_tokens: int = 0
    """Tokens of the prompt; in a chat, of the whole conversation so far."""
    completion_tokens: int = 0
    """Tokens of the response."""
    total_tokens: int = 0
    """The sum of both."""

    @model_validator(mode="before")
    @classmethod
    def _read_other_names(cls, counts: Any) -> Any:
        if not isinstance(counts, dict):
            return counts
        given = cast("dict[str, Any]", counts)
        if "prompt_tokens" in given and "completion_tokens" in given:  # most are so, perhaps one with every token
            return given
        found = {
            name: count
            for name, other in _OTHER_NAMES.items()
            if name not in given and (count := _as_count(given.get(other))) is not None
        }
        if not found:
            return given
        total = sum(_as_count((given | found).get(name)) or 0 for name in _OTHER_NAMES)
        return {"total_tokens": total} | given | found


_OTHER_NAMES = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}


def _as_count(value: Any) -> int | None:
    """A number of tokens, also as text; None if it is none."""
    try:
        return None if isinstance(value, bool) else int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None


def _adapter(response_model: Any) -> TypeAdapter[Any]:
    given = isinstance(response_model, TypeAdapter)
    return cast("TypeAdapter[Any]", response_model) if given else TypeAdapter(response_model)
