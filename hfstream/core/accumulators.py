"""Accumulators: what has been received so far, and the final result of a call.

Does not depend on wire formats, nor on how items reach the caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from ..types import Details, FinishReason, StreamDetails, StreamResponse, TextGenerationResponse, Token, Usage
from .string_builder import StringBuilder

__all__ = ["Accumulator", "DetailsAccumulator", "TextAccumulator"]

EventT = TypeVar("EventT")
ResultT_co = TypeVar("ResultT_co", covariant=True)
ItemT = TypeVar("ItemT")


class Accumulator(Protocol[EventT, ItemT, ResultT_co]):
    """Takes what a decoder returns (`EventT`), returns what the caller iterates over (`ItemT`), ends as `ResultT`."""

    @property
    def text(self) -> str:
        """The text so far."""
        ...

    @property
    def finish_reason(self) -> FinishReason | str | None:
        """Why generation ended; None until it has."""
        ...

    @property
    def finish_reasons(self) -> Sequence[FinishReason | str]:
        """Why each choice ended, of those that have."""
        ...

    @property
    def usage(self) -> Usage | None:
        """Token counts of prompt and response; None until the server has sent them."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the server says of the whole response, such as its `id` and the `model`; TGI's API says nothing."""
        ...

    def add(self, items: list[EventT]) -> list[ItemT]:
        """Records decoded items; returns what the caller gets for them."""
        ...

    def result(self) -> ResultT_co:
        """The final result. Valid only when the response is complete."""
        ...


class _StreamAccumulator:
    """The text of a stream, of all tokens that are not special, and the last event.

    The `ids` of all tokens are kept only if `keep_ids` is set: they are needed to continue a lost stream.
    """

    metadata: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *, keep_ids: bool = False) -> None:
        self.ids: list[int] | None = [] if keep_ids else None
        self._text = StringBuilder()
        self._last: StreamResponse | None = None

    @property
    def text(self) -> str:
        return self._text.text

    @property
    def details(self) -> StreamDetails | None:
        return self._last.details if self._last else None

    @property
    def finish_reason(self) -> FinishReason | str | None:
        return (self.details and self.details.finish_reason) or None

    @property
    def finish_reasons(self) -> Sequence[FinishReason | str]:
        return [self.finish_reason] if self.finish_reason else []

    @property
    def usage(self) -> Usage | None:
        if not self.details:
            return None
        prompt, completion = self.details.input_length or 0, self.details.generated_tokens
        return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)

    def _record(self, items: list[StreamResponse]) -> list[str]:
        fragments: list[str] = []
        for response in items:
            token = response.token
            if not token.special:
                fragments.append(token.text)
            self._last = response
        if self.ids is not None:
            self.ids += [response.token.id for response in items]
        self._text.extend(fragments)
        return fragments

    def _full_text(self) -> str:
        # The server's text wins: it may differ from the joined tokens, by a leading space or the prompt.
        generated_text = self._last.generated_text if self._last else None
        return self.text if generated_text is None else generated_text


class TextAccumulator(_StreamAccumulator):
    """Accumulates a stream of text."""

    def add(self, items: list[StreamResponse]) -> list[str]:
        return self._record(items)

    def result(self) -> str:
        return self._full_text()


_PackedToken = tuple[int, str, float | None, bool]
"""The fields of a `Token` that is kept until `result` is called.

The garbage collector stops tracking a tuple of plain values, but not a pydantic object: each of its passes visits all
objects that are kept. With thousands of tokens these passes took as long as all other work on a token together.
"""


class DetailsAccumulator(_StreamAccumulator):
    """Accumulates a stream of `StreamResponse`: keeps the tokens too, for the details of the result."""

    def __init__(self, response_model: Any = None, *, keep_ids: bool = False) -> None:
        super().__init__(keep_ids=keep_ids)
        self._response_model = response_model
        self._tokens: list[_PackedToken | Token] = []
        self._top_tokens: list[list[Token] | None] = []

    def add(self, items: list[StreamResponse]) -> list[StreamResponse]:
        self._record(items)
        for response in items:
            token = response.token
            extra = token.__pydantic_extra__  # fields that only the object can hold: then it is kept as it is
            self._tokens.append(token if extra else (token.id, token.text, token.logprob, token.special))
            self._top_tokens.append(response.top_tokens)
        return items

    def result(self) -> TextGenerationResponse:
        last = self.details
        details = last and Details(
            finish_reason=last.finish_reason,
            generated_tokens=last.generated_tokens,
            seed=last.seed,
            prefill=[],
            tokens=[_token(*packed) if isinstance(packed, tuple) else packed for packed in self._tokens],
            # TGI leaves empty lists out of a stream, but not out of a response that is not streamed.
            top_tokens=[top or [] for top in self._top_tokens] if any(self._top_tokens) else None,
        )
        return TextGenerationResponse(generated_text=self._full_text(), details=details).with_response_model(
            self._response_model
        )


def _token(id: int, text: str, logprob: float | None, special: bool) -> Token:  # noqa: A002  Token's own fields
    return Token(id=id, text=text, logprob=logprob, special=special)
