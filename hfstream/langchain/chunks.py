"""The chunks of a stream as LangChain has them. Does not depend on how the stream is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from ..core.tool_calls import ToolCallsBuilder
from ..types import ChatCompletionChunk, ChatCompletionDelta
from .messages import extra_fields, usage_metadata
from .stop_strings import StopStrings

__all__ = ["ChunkConverter"]


class ChunkConverter:
    """One stream: `feed` each of its chunks, then `finish`."""

    def __init__(self, strings: StopStrings) -> None:
        self._strings = strings
        self._calls = ToolCallsBuilder()
        self._sent_calls: list[dict[str, Any]] = []
        self._model = ""

    def feed(self, chunk: ChatCompletionChunk) -> Iterator[ChatGenerationChunk]:
        """What a chunk adds to the first choice, unless that is nothing."""
        self._model = self._model or chunk.model
        for choice in chunk.choices[:1]:
            content, calls = self._strings.feed(choice.delta.content or ""), self._tool_call_chunks(choice.delta)
            extra = extra_fields(choice.delta)
            metadata = {"logprobs": choice.logprobs.model_dump()} if choice.logprobs is not None else {}
            if content or calls or extra or metadata:
                message = AIMessageChunk(content=content, tool_call_chunks=calls, additional_kwargs=extra)
                yield ChatGenerationChunk(message=message, generation_info=metadata)

    def finish(self, stream: Any) -> ChatGenerationChunk:
        """The last chunk: what was held back, why the stream ended, and its usage."""
        message = AIMessageChunk(
            content=self._strings.finish(), usage_metadata=usage_metadata(stream.usage), chunk_position="last"
        )
        info = {"finish_reason": stream.finish_reason, "model_name": self._model}
        return ChatGenerationChunk(
            message=message, generation_info={name: value for name, value in info.items() if value}
        )

    def _tool_call_chunks(self, delta: ChatCompletionDelta) -> list[ToolCallChunk]:
        """What a delta adds to the calls, numbered in the order in which they began.

        LangChain joins chunks by their index alone. Some servers leave it out, give each call the same one, or repeat
        names, ids or arguments: the client's builder knows these.
        """
        if not delta.tool_calls:
            return []
        self._calls.add(delta.tool_calls)
        chunks: list[ToolCallChunk] = []
        for index, call in enumerate(self._calls.build() or []):
            if index == len(self._sent_calls):
                self._sent_calls.append({"id": "", "name": "", "arguments": ""})
            sent, arguments = self._sent_calls[index], call["function"]["arguments"]
            if arguments == "{}" and not sent["arguments"]:
                arguments = ""  # some servers send this before the arguments; without any, it is what LangChain assumes
            now = {"id": call["id"], "name": call["function"]["name"], "arguments": arguments}
            if now != sent:
                added = {name: value[len(sent[name]) :] or None for name, value in now.items()}
                chunks.append(
                    tool_call_chunk(name=added["name"], args=added["arguments"] or "", id=added["id"], index=index)
                )
                self._sent_calls[index] = now
        return chunks
