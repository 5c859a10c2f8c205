"""The route of OpenAI's chat, streamed or whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hfstream.types import (
    ChatCompletion,
    ChatCompletionChoice,
    ChatCompletionChunk,
    ChatCompletionChunkChoice,
    ChatCompletionDelta,
    ChatCompletionLogprob,
    ChatCompletionLogprobs,
    ChatCompletionMessage,
    ChatCompletionTopLogprob,
    StreamResponse,
    Token,
    Usage,
)

from ..schemas.openai import ChatRequest, TemplatedRequest
from ..service.backend import Backend
from ..text.chat_template import ChatTemplate
from .formats import RouteFormat
from .openai_common import (
    DONE_EVENT,
    ResponseMeta,
    StopStringFilter,
    error_json,
    finish_reason,
    parse_error_json,
    usage_of,
)


async def chat_prompt(body: ChatRequest, backend: Backend) -> TemplatedRequest:
    """The conversation of a request as the model reads it, and how it is to be answered.

    Raises:
        ValidationError: there is no template, or none for this.
    """

    def render(template: ChatTemplate) -> str:
        return template.render(body.template_messages(), continue_final_message=body.messages[-1].is_continued)

    return TemplatedRequest(inputs=await backend.render_prompt(render), parameters=body.parameters())


@dataclass(frozen=True, kw_only=True)
class _ChatFormatter:
    """A `ResponseFormatter` whose events are chunks of a message."""

    request: TemplatedRequest
    streamed: bool
    meta: ResponseMeta
    with_usage: bool
    with_logprobs: bool
    stop_filter: StopStringFilter

    def events(self, event: StreamResponse) -> Iterable[str]:
        text = self.stop_filter.push(event)
        # The role comes once: TGI repeats it, and who adds deltas up gets "assistantassistant".
        first = event.index == 1
        delta = ChatCompletionDelta(role="assistant", content=text) if first else ChatCompletionDelta(content=text)
        choice = ChatCompletionChunkChoice(
            index=0, delta=delta, finish_reason=finish_reason(event), logprobs=self._logprobs([event])
        )
        yield self._chunk([choice], None)
        if self.with_usage and (usage := usage_of(event)):
            yield self._chunk([], usage)

    def format_response(self, events: Sequence[StreamResponse]) -> str:
        last = events[-1]
        choice = ChatCompletionChoice(
            index=0,
            message=ChatCompletionMessage(role="assistant", content=self.stop_filter.strip(last.generated_text or "")),
            finish_reason=finish_reason(last),
            logprobs=self._logprobs(events),
        )
        answer = ChatCompletion(
            id=self.meta.id,
            object="chat.completion",
            created=self.meta.created,
            model=self.meta.model,
            choices=[choice],
            usage=usage_of(last),
            system_fingerprint=self.meta.system_fingerprint,
        )
        return answer.model_dump_json(exclude_unset=True)

    def _chunk(self, choices: list[ChatCompletionChunkChoice], usage: Usage | None) -> str:
        chunk = ChatCompletionChunk(
            id=self.meta.id,
            object="chat.completion.chunk",
            created=self.meta.created,
            model=self.meta.model,
            choices=choices,
            usage=usage,
            system_fingerprint=self.meta.system_fingerprint,
        )
        return chunk.model_dump_json(exclude_unset=True)  # what was set to None stays: OpenAI's clients look for it

    def _logprobs(self, events: Sequence[StreamResponse]) -> ChatCompletionLogprobs | None:
        if not self.with_logprobs:
            return None
        content = [_logprob(event) for event in events if not event.token.special]
        return ChatCompletionLogprobs(content=content) if content else None


def _logprob(event: StreamResponse) -> ChatCompletionLogprob:
    token = event.token
    return ChatCompletionLogprob(
        token=token.text,
        logprob=token.logprob,
        bytes=_bytes(token),
        top_logprobs=[
            ChatCompletionTopLogprob(token=top.text, logprob=top.logprob, bytes=_bytes(top))
            for top in event.top_tokens or []
        ],
    )


def _bytes(token: Token) -> list[int]:
    return list(token.text.encode())


async def _make_chat_formatter(body: ChatRequest, backend: Backend) -> _ChatFormatter:
    return _ChatFormatter(
        request=await chat_prompt(body, backend),
        streamed=bool(body.stream),
        meta=ResponseMeta.new("chatcmpl", body.model or backend.settings.model),
        with_usage=body.with_usage,
        with_logprobs=bool(body.logprobs),
        stop_filter=StopStringFilter(body.stop),
    )


CHAT = RouteFormat(
    request_model=ChatRequest,
    make_formatter=_make_chat_formatter,
    error=error_json,
    format_parse_error=parse_error_json,
    done_event=DONE_EVENT,
)
