"""OpenAI's chat completions, streamed or not."""

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
from .openai_responses import (
    DONE_EVENT,
    ResponseMeta,
    StopStringFilter,
    error_json,
    finish_reason,
    parse_error_json,
    usage,
)


async def render_chat(body: ChatRequest, backend: Backend) -> TemplatedRequest:
    """The conversation as the model's chat template renders it, with the request's parameters.

    Raises:
        ValidationError: the model has no template, or the template refuses the conversation.
    """

    def render(template: ChatTemplate) -> str:
        return template.render(
            body.template_messages(),
            continue_final_message=body.continues_final_message,
            add_generation_prompt=body.add_generation_prompt,
            variables=body.chat_template_kwargs,
        )

    inputs = await backend.render_prompt(render)
    return TemplatedRequest(inputs=inputs, parameters=body.to_parameters(backend.sampling_defaults))


@dataclass(frozen=True, kw_only=True)
class _ChatFormatter:
    """A `ResponseFormatter` whose events are chunks of a message."""

    request: TemplatedRequest
    stream: bool
    meta: ResponseMeta
    include_usage: bool
    include_logprobs: bool
    stop_filter: StopStringFilter

    def format_event(self, event: StreamResponse) -> Iterable[str]:
        text = self.stop_filter.push(event)
        # The role is sent once. TGI repeats it, and clients that add up deltas get "assistantassistant".
        first = event.index == 1
        delta = ChatCompletionDelta(role="assistant", content=text) if first else ChatCompletionDelta(content=text)
        choice = ChatCompletionChunkChoice(
            index=0, delta=delta, finish_reason=finish_reason(event), logprobs=self._logprobs([event])
        )
        yield self._chunk([choice], None)
        if self.include_usage and (tokens := usage(event)):
            yield self._chunk([], tokens)

    def format_response(self, events: Sequence[StreamResponse]) -> str:
        last = events[-1]
        choice = ChatCompletionChoice(
            index=0,
            message=ChatCompletionMessage(role="assistant", content=self.stop_filter.strip(last.generated_text or "")),
            finish_reason=finish_reason(last),
            logprobs=self._logprobs(events),
        )
        completion = ChatCompletion(
            id=self.meta.id,
            object="chat.completion",
            created=self.meta.created,
            model=self.meta.model,
            choices=[choice],
            usage=usage(last),
            system_fingerprint=self.meta.system_fingerprint,
        )
        return completion.model_dump_json(exclude_unset=True)

    def _chunk(self, choices: list[ChatCompletionChunkChoice], tokens: Usage | None) -> str:
        chunk = ChatCompletionChunk(
            id=self.meta.id,
            object="chat.completion.chunk",
            created=self.meta.created,
            model=self.meta.model,
            choices=choices,
            usage=tokens,
            system_fingerprint=self.meta.system_fingerprint,
        )
        return chunk.model_dump_json(
            exclude_unset=True
        )  # fields that were set to None stay: OpenAI's clients read them

    def _logprobs(self, events: Sequence[StreamResponse]) -> ChatCompletionLogprobs | None:
        if not self.include_logprobs:
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


async def _make_formatter(body: ChatRequest, backend: Backend) -> _ChatFormatter:
    return _ChatFormatter(
        request=await render_chat(body, backend),
        stream=bool(body.stream),
        meta=ResponseMeta.new("chatcmpl", body.model or backend.settings.model_name),
        include_usage=body.include_usage,
        include_logprobs=bool(body.logprobs),
        stop_filter=StopStringFilter(body.stop),
    )


CHAT = RouteFormat(
    request_model=ChatRequest,
    make_formatter=_make_formatter,
    format_error=error_json,
    format_parse_error=parse_error_json,
    done_event=DONE_EVENT,
)
