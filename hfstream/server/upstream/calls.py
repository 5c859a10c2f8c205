"""Requests to OpenAI's routes: they are sent on as they came, and so are their answers.

A null is the same as leaving a field out, as at this server's own model. Does not depend on HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from hfstream.core.base_stream import BaseStream
from hfstream.core.request_spec import RequestSpec
from hfstream.types import Usage

from ..schemas.serde_types import Bool, Str
from .upstream import Upstream


class Answer(NamedTuple):
    """An answer that is not streamed."""

    text: str
    """Its JSON."""
    usage: Usage | None


class Call(Protocol):
    """One request, for whichever server gets it, and how its answer is passed on."""

    is_text: ClassVar[bool]
    """Whether it is in TGI's terms: then a server with OpenAI's routes gets another request."""

    @property
    def stream(self) -> bool:
        """Whether the answer is streamed."""
        ...

    @property
    def model(self) -> str | None:
        """The model that is asked for."""
        ...

    def make_request(self, upstream: Upstream) -> RequestSpec[Any, Any, Any]:
        """The request for `upstream`, whose model is known.

        Raises:
            ValidationError: it cannot be expressed there.
            TypeError: a value cannot be sent as JSON.
        """
        ...

    def format_answer(self, result: Any) -> Answer:
        """The answer of a request that is not streamed."""
        ...

    def format_item(self, item: Any) -> Sequence[str]:
        """The data of the events for one item of the stream."""
        ...

    def format_end(self, stream: BaseStream[Any, Any]) -> Sequence[str]:
        """The data of the events after the last item."""
        ...


class OpenAIBody(BaseModel):
    """What has to be known of a body; all other fields are passed on."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    model: Str | None = None
    stream: Bool | None = None


class ChatBody(OpenAIBody):
    """The body of /v1/chat/completions."""

    messages: list[Any]


class CompletionBody(OpenAIBody):
    """The body of /v1/completions."""

    prompt: Any


BodyT = TypeVar("BodyT", bound=OpenAIBody)


@dataclass(frozen=True)
class _PassedOn(Generic[BodyT]):
    """Sends items on as they came: with the fields that were set, also those that no type here knows."""

    body: BodyT
    is_text: ClassVar[bool] = False

    @property
    def stream(self) -> bool:
        return bool(self.body.stream)

    @property
    def model(self) -> str | None:
        return self.body.model

    def format_answer(self, result: Any) -> Answer:
        return Answer(result.model_dump_json(exclude_unset=True), result.usage)

    def format_item(self, item: Any) -> Sequence[str]:
        return [item.model_dump_json(exclude_unset=True)]

    def format_end(self, stream: BaseStream[Any, Any]) -> Sequence[str]:
        return ()

    def _fields(self, upstream: Upstream) -> dict[str, Any]:
        """The fields of the body that has them for `upstream`."""
        fields = self.body.model_dump(exclude_unset=True, exclude={"messages", "stream"})
        fields = {name: value for name, value in fields.items() if value is not None}
        return {**fields, "model": upstream.model_name(self.body.model)}


class ChatCall(_PassedOn[ChatBody]):
    """A chat."""

    def make_request(self, upstream: Upstream) -> RequestSpec[Any, Any, Any]:
        # `model` is one of the fields, and not an argument: there a URL would be where to send the request.
        return upstream.client.chat_request(self.body.messages, self._fields(upstream), stream=self.stream)


class CompletionCall(_PassedOn[CompletionBody]):
    """A completion."""

    def make_request(self, upstream: Upstream) -> RequestSpec[Any, Any, Any]:
        return upstream.client.completion_request(self._fields(upstream), stream=self.stream)
