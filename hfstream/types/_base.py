"""The base classes of all response types: pydantic models that are immutable and keep every field a server sends.

Private: users meet only the subclasses. Does not depend on the fields of a subclass; one that needs rules for some of
its fields has them in `_field_repairs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import pydantic
from pydantic import BaseModel, ConfigDict, PrivateAttr

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

    def get(self, field: str, default: Any = None) -> Any:
        """``model[field]``, or `default` if there is no such field."""
        return self[field] if field in self else default  # noqa: SIM401  its advice is a call of this method


class ParsedModel(APIModel):
    """A response whose text may be JSON, for which the caller passed a pydantic class."""

    _response_model: type[BaseModel] | None = PrivateAttr(default=None)

    def with_response_model(self, response_model: type[BaseModel] | None) -> Self:
        """Sets the class as which `parsed` reads the text; returns the same object."""
        self._response_model = response_model
        return self

    def parse_as(self, text: str | None, finish_reason: str | None) -> Any:
        """`text` as an instance of the response model; None if there is no text, or no model."""
        if self._response_model is None or not text:
            return None
        try:
            return self._response_model.model_validate_json(text)
        except pydantic.ValidationError as error:
            hint = ": it was cut off at the token limit, allow more tokens" if finish_reason == "length" else ""
            raise UnexpectedResponseError(
                f"the response is not a valid {self._response_model.__name__}{hint}. {error}", partial_text=text
            ) from error


class Usage(APIModel):
    """Token counts of one request. 0 where the server does not report one."""

    prompt_tokens: int = 0
    """Tokens of the prompt; in a chat, of the whole conversation so far."""
    completion_tokens: int = 0
    """Tokens of the response."""
    total_tokens: int = 0
    """The sum of both."""
