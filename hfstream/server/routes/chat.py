"""OpenAI's chat completions, streamed or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hfstream.types import (
    ChatCompletion,
    ChatCompletionChoice,
    ChatCompletionChunk,
    ChatCompletionChunkChoice,
    ChatCompletionLogprob,
    ChatCompletionLogprobs,
    ChatCompletionTopLogprob,
    StreamResponse,
    Token,
    Usage,
)

from ..engine.protocol import Grammar
from ..schemas.openai import ChatRequest, TemplatedRequest
from ..service.backend import Backend
from ..service.output_stream import CompleteOutput, OutputEvent
from ..text.chat_template import ChatTemplate
from .formats import PlainStream, RouteFormat
from .message_deltas import MessageDeltas
from .openai_responses import (
    DONE_EVENT,
    ResponseMeta,
    StreamedUsage,
    error_json,
    parse_error_json,
    usage,
)


async def render_chat(body: ChatRequest, backend: Backend) -> TemplatedRequest:
    """The conversation as the model's chat template renders it, with the request's parameters.

    Raises:
        ValidationError: the model has no template, or the template refuses the conversation.
    """
    use = body.tool_use()

    def render(template: ChatTemplate) -> tuple[str, Grammar | None]:
        call_format = backend.call_format
        prompt = template.render(
            body.template_messages(),
            continue_final_message=body.continues_final_message,
            add_generation_prompt=body.add_generation_prompt,
            variables=body.chat_template_kwargs,
            tools=use.tools if use else (),
            call_format=call_format,
        )
        if use is None or not use.required:
            return prompt, None
        specials = backend.model.tokenizer.specials
        return prompt, call_format.grammar(list(use.functions.items()), parallel=use.parallel, specials=specials)

    inputs, grammar = await backend.render_prompt(render)
    parameters = body.to_parameters(backend.sampling_defaults)
    if grammar is not None:
        parameters = parameters.model_copy(update={"grammar": grammar})
    return TemplatedRequest(inputs=inputs, parameters=parameters)


@dataclass(frozen=True, kw_only=True)
class ChatFormatter(PlainStream):
    """A `ResponseFormatter` whose events are chunks of a message."""

    request: TemplatedRequest
    stream: bool
    meta: ResponseMeta
    streamed_usage: StreamedUsage | None
    """None: the stream does not report it."""
    include_logprobs: bool
    messages: Sequence[MessageDeltas]
    """One for each choice."""
    token_bytes: Callable[[int, str], bytes]
    """The bytes of a token, from its id and its text."""

    @property
    def requests(self) -> Sequence[TemplatedRequest]:
        return [self.request]

    def format_event(self, output: OutputEvent) -> Iterable[str]:
        # Fields that were set to None stay: OpenAI's clients read them.
        return (chunk.model_dump_json(exclude_unset=True) for chunk in self.chunks(output))

    def format_response(self, outputs: Sequence[CompleteOutput]) -> str:
        return self.completion(outputs).model_dump_json(exclude_unset=True)

    def chunks(self, output: OutputEvent) -> Iterable[ChatCompletionChunk]:
        """What one more token adds to the stream."""
        event, message = output.event, self.messages[output.generation]
        logprobs = self._logprobs([event])
        deltas = message.push(event)
        if not deltas and (logprobs or event.details):
            deltas = [message.empty()]
        for number, delta in enumerate(deltas, 1):
            reason = message.finish_reason(event) if number == len(deltas) else None
            choice = ChatCompletionChunkChoice(
                index=output.generation, delta=delta, finish_reason=reason, logprobs=logprobs if number == 1 else None
            )
            yield self._chunk([choice], None)
        if self.streamed_usage and (tokens := self.streamed_usage.push(output)):
            yield self._chunk([], tokens)

    def completion(self, outputs: Sequence[CompleteOutput]) -> ChatCompletion:
        """The response that is not streamed."""
        return ChatCompletion(
            id=self.meta.id,
            object="chat.completion",
            created=self.meta.created,
            model=self.meta.model,
            choices=[self._choice(index, output.events) for index, output in enumerate(outputs)],
            usage=usage(*(output.events[-1] for output in outputs), choices=len(outputs)),
            system_fingerprint=self.meta.system_fingerprint,
        )

    def _choice(self, index: int, events: Sequence[StreamResponse]) -> ChatCompletionChoice:
        message = self.messages[index]
        return ChatCompletionChoice(
            index=index,
            message=message.whole(events),
            finish_reason=message.finish_reason(events[-1]),
            logprobs=self._logprobs(events),
        )

    def _chunk(self, choices: list[ChatCompletionChunkChoice], tokens: Usage | None) -> ChatCompletionChunk:
        return ChatCompletionChunk(
            id=self.meta.id,
            object="chat.completion.chunk",
            created=self.meta.created,
            model=self.meta.model,
            choices=choices,
            usage=tokens,
            system_fingerprint=self.meta.system_fingerprint,
        )

    def _logprobs(self, events: Sequence[StreamResponse]) -> ChatCompletionLogprobs | None:
        if not self.include_logprobs:
            return None
        content = [self._logprob(event) for event in events if not event.token.special]
        return ChatCompletionLogprobs(content=content) if content else None

    def _logprob(self, event: StreamResponse) -> ChatCompletionLogprob:
        token = event.token
        return ChatCompletionLogprob(
            token=token.text,
            logprob=token.logprob,
            bytes=self._bytes(token),
            top_logprobs=[
                ChatCompletionTopLogprob(token=top.text, logprob=top.logprob, bytes=self._bytes(top))
                for top in event.top_tokens or []
            ],
        )

    def _bytes(self, token: Token) -> list[int]:
        return list(self.token_bytes(token.id, token.text))


async def make_chat_formatter(body: ChatRequest, backend: Backend) -> ChatFormatter:
    """The format of the response to a chat. Raises what `render_chat` raises."""
    use = body.tool_use()
    request = await render_chat(body, backend)
    choices = request.parameters.generations
    return ChatFormatter(
        request=request,
        stream=bool(body.stream),
        meta=ResponseMeta.new("chatcmpl", body.model or backend.settings.model_name),
        streamed_usage=StreamedUsage(choices, choices) if body.include_usage else None,
        include_logprobs=bool(body.logprobs),
        messages=[MessageDeltas(body.stop, use, backend.call_format) for _ in range(choices)],
        token_bytes=backend.model.tokenizer.token_bytes,
    )


CHAT = RouteFormat(
    request_model=ChatRequest,
    make_formatter=make_chat_formatter,
    format_error=error_json,
    format_parse_error=parse_error_json,
    done_event=DONE_EVENT,
    renders=True,
    field_names=ChatRequest.field_names,
)
