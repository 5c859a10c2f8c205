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
from .openai_responses import LAST_WORDS, ResponseMeta, StopStringFilter, error_json, finish_reason, malformed_json, usage


async def chat_prompt(asked: ChatRequest, backend: Backend) -> TemplatedRequest:
    """The conversation of a request as the model reads it, and how it is to be answered.

    Raises:
        ValidationError: there is no template, or none for this.
    """

    def write(template: ChatTemplate) -> str:
        return template.render(asked.conversation(), continued=asked.messages[-1].continued)

    return TemplatedRequest(inputs=await backend.prompt(write), parameters=asked.parameters())


@dataclass(frozen=True, kw_only=True)
class _Chat:
    """A `ResponseFormatter` whose events are chunks of a message."""

    request: TemplatedRequest
    streamed: bool
    imprint: ResponseMeta
    usage_wanted: bool
    logprobs_wanted: bool
    withheld: StopStringFilter

    def events(self, event: StreamResponse) -> Iterable[str]:
        text = self.withheld.say(event)
        # The role comes once: TGI repeats it, and who adds deltas up gets "assistantassistant".
        first = event.index == 1
        delta = ChatCompletionDelta(role="assistant", content=text) if first else ChatCompletionDelta(content=text)
        choice = ChatCompletionChunkChoice(
            index=0, delta=delta, finish_reason=finish_reason(event), logprobs=self._logprobs([event])
        )
        yield self._chunk([choice], None)
        if self.usage_wanted and (account := usage(event)):
            yield self._chunk([], account)

    def whole(self, events: Sequence[StreamResponse]) -> str:
        last = events[-1]
        choice = ChatCompletionChoice(
            index=0,
            message=ChatCompletionMessage(role="assistant", content=self.withheld.cut(last.generated_text or "")),
            finish_reason=finish_reason(last),
            logprobs=self._logprobs(events),
        )
        answer = ChatCompletion(
            id=self.imprint.id,
            object="chat.completion",
            created=self.imprint.created,
            model=self.imprint.model,
            choices=[choice],
            usage=usage(last),
            system_fingerprint=self.imprint.system_fingerprint,
        )
        return answer.model_dump_json(exclude_unset=True)

    def _chunk(self, choices: list[ChatCompletionChunkChoice], account: Usage | None) -> str:
        chunk = ChatCompletionChunk(
            id=self.imprint.id,
            object="chat.completion.chunk",
            created=self.imprint.created,
            model=self.imprint.model,
            choices=choices,
            usage=account,
            system_fingerprint=self.imprint.system_fingerprint,
        )
        return chunk.model_dump_json(exclude_unset=True)  # what was set to None stays: OpenAI's clients look for it

    def _logprobs(self, events: Sequence[StreamResponse]) -> ChatCompletionLogprobs | None:
        if not self.logprobs_wanted:
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


async def _chat(asked: ChatRequest, backend: Backend) -> _Chat:
    return _Chat(
        request=await chat_prompt(asked, backend),
        streamed=bool(asked.stream),
        imprint=ResponseMeta.new("chatcmpl", asked.model or backend.settings.model),
        usage_wanted=asked.usage_wanted,
        logprobs_wanted=bool(asked.logprobs),
        withheld=StopStringFilter(asked.stop),
    )


CHAT = RouteFormat(form=ChatRequest, voice=_chat, error=error_json, malformed=malformed_json, last_words=LAST_WORDS)
