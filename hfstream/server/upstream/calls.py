"""Requests to OpenAI's routes: they are sent on as they came, and so are their answers.

A null is the same as leaving a field out, as at this server's own model. Does not depend on HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from hfstream.core.base_stream import BaseStream
from hfstream.types import Usage

from ..schemas.serde_types import Bool, Str
from .pool import Upstream


class Answer(NamedTuple):
    """An answer that is not streamed."""

    text: str
    """Its JSON."""
    usage: Usage | None


class Call(Protocol):
    """One request, which may be sent several times until it brings content."""

    @property
    def stream(self) -> bool:
        """Whether the answer is streamed."""
        ...

    async def open(self, upstream: Upstream) -> Any:
        """Sends it; returns the stream, whose first content is there."""
        ...

    async def fetch(self, upstream: Upstream) -> Answer:
        """Sends it; returns the answer of a request that is not streamed."""
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


class _PassedOn:
    """Sends items on as they came: with the fields that were set, also those that no type here knows."""

    def format_item(self, item: Any) -> Sequence[str]:
        return [item.model_dump_json(exclude_unset=True)]

    def format_end(self, stream: BaseStream[Any, Any]) -> Sequence[str]:
        return ()


@dataclass(frozen=True)
class ChatCall(_PassedOn):
    """A chat."""

    body: ChatBody

    @property
    def stream(self) -> bool:
        return bool(self.body.stream)

    async def open(self, upstream: Upstream) -> Any:
        return await self._send(upstream, await _fields(self.body, upstream))

    async def fetch(self, upstream: Upstream) -> Answer:
        completion = await self._send(upstream, await _fields(self.body, upstream))
        return Answer(completion.model_dump_json(exclude_unset=True), completion.usage)

    def _send(self, upstream: Upstream, fields: Mapping[str, Any]) -> Awaitable[Any]:
        # `model` is one of the fields, and not an argument: there a URL would be where to send the request.
        return upstream.client.chat_completion(self.body.messages, stream=self.stream, extra_body=fields)


@dataclass(frozen=True)
class CompletionCall(_PassedOn):
    """A completion."""

    body: CompletionBody

    @property
    def stream(self) -> bool:
        return bool(self.body.stream)

    async def open(self, upstream: Upstream) -> Any:
        return await upstream.client.completion(await _fields(self.body, upstream), stream=True)

    async def fetch(self, upstream: Upstream) -> Answer:
        completion = await upstream.client.completion(await _fields(self.body, upstream), stream=False)
        return Answer(completion.model_dump_json(exclude_unset=True), completion.usage)


async def _fields(body: OpenAIBody, upstream: Upstream) -> dict[str, Any]:
    """The fields of a body that has them for `upstream`."""
    fields = body.model_dump(exclude_unset=True, exclude_none=False)
    fields = {name: value for name, value in fields.items() if value is not None and name not in ("messages", "stream")}
    return {**fields, "model": await upstream.model_name(body.model)}
