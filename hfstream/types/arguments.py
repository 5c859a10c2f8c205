"""What calls take besides dictionaries: messages of earlier responses, and types that stand for a JSON schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import GenericAlias, UnionType
from typing import Any

from pydantic import TypeAdapter

from .chat import ChatCompletionMessage
from .inputs import ChatCompletionInputMessage

__all__ = ["Messages", "SchemaType"]

Messages = Iterable[ChatCompletionInputMessage | ChatCompletionMessage | Mapping[str, Any]]
"""A conversation: dictionaries, and messages of earlier responses as they are."""

SchemaType = type[Any] | TypeAdapter[Any] | GenericAlias | UnionType
"""A type that is sent as its JSON schema. Not all that pydantic's TypeAdapter takes can be written as an annotation."""
