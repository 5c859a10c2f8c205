"""A request to OpenAI's `/v1/completions` with a body of the caller's, whose response is kept as it comes.

`text_generation` makes TGI's objects of such a response; a server that passes it on to clients of the same API must
not. Does not depend on clients, retries and time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

from ..types import Usage
from .answer_errors import raise_if_failed
from .choice_states import requested_choices
from .completion_texts import parse_completion_body
from .completions import CompletionChunk
from .decoders import JSONBodyDecoder
from .request_spec import RequestSpec, encode_json
from .single_result import SingleResult
from .stream_decoders import CompletionStreamDecoder
from .string_builder import StringBuilder
from .usages import latest_usage

__all__ = ["ChunkAccumulator", "completion"]


def completion(
    url: str, body: Mapping[str, Any], *, stream: bool, headers: Mapping[str, str], resume: bool = False
) -> RequestSpec[Any, Any, Any]:
    """The request; its items are `CompletionChunk`s, and so is a response that is not streamed.

    Raises:
        TypeError: a value is not JSON-serializable.
    """
    n = requested_choices(body.get("n")) * _prompts(body.get("prompt"))
    return RequestSpec(
        url=url,
        body=encode_json({**body, "stream": stream}),
        headers=headers,
        streamed=stream,
        make_decoder=lambda: CompletionStreamDecoder(n) if stream else JSONBodyDecoder(_parse),
        make_accumulator=ChunkAccumulator if stream else SingleResult,
        resume=resume and stream,
        operation="text_generation",
        model=body.get("model"),
    )


def _prompts(prompt: Any) -> int:
    """How many prompts `prompt` is: a list of texts, or of lists of token ids, is several."""
    if not isinstance(prompt, list):
        return 1
    return sum(isinstance(each, str | list) for each in cast("list[Any]", prompt)) or 1


def _parse(body: bytes) -> list[CompletionChunk]:
    response = parse_completion_body(body)
    raise_if_failed(response, response.choices[0].text if response.choices else "")
    if not response.choices:
        raise ValueError("a completion without choices")
    return [response]


class ChunkAccumulator:
    """Accumulates the chunks of a stream. `text` and `finish_reason` are those of the first choice."""

    metadata: Mapping[str, Any] = MappingProxyType({})

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self._text = StringBuilder()

    @property
    def text(self) -> str:
        """The text so far."""
        return self._text.text

    @property
    def finish_reasons(self) -> Sequence[str]:
        """Of the first choice."""
        return [self.finish_reason] if self.finish_reason else []

    def add(self, items: list[CompletionChunk]) -> list[CompletionChunk]:
        """Records chunks; the caller gets them as they are."""
        for chunk in items:
            self.usage = latest_usage(self.usage, chunk.usage)
            for choice in chunk.choices:
                if choice.index == 0:
                    self._text.add(choice.text)
                    self.finish_reason = choice.finish_reason or self.finish_reason
        return items

    def result(self) -> str:
        """The text."""
        return self.text
