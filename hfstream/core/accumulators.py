"""What has been said so far. It refuses to know who is listening, and how the words came."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from ..types import Details, FinishReason, StreamDetails, StreamResponse, TextGenerationResponse, Token, Usage

__all__ = ["Accumulator", "DetailsAccumulator", "SingleResult", "TextAccumulator"]

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
        """Why the answer ended, once it has."""
        ...

    @property
    def usage(self) -> Usage | None:
        """Tokens of prompt and answer, once the server has counted them."""
        ...

    def add(self, items: list[EventT]) -> list[ItemT]:
        """Notes what was said; returns what the caller sees of it."""
        ...

    def result(self) -> ResultT_co:
        """The whole answer. Only to be asked for when the answer is complete."""
        ...


class _StreamAccumulator:
    """The text of a stream: one piece for each token that is text, and what the last event says of it all.

    `ids` of all tokens are kept only where the answer may have to be gone on with.
    """

    def __init__(self, *, keep_ids: bool = False) -> None:
        self.ids: list[int] | None = [] if keep_ids else None
        self._fragments: list[str] = []
        self._last: StreamResponse | None = None

    @property
    def text(self) -> str:
        self._fragments = ["".join(self._fragments)]
        return self._fragments[0]

    @property
    def details(self) -> StreamDetails | None:
        return self._last.details if self._last else None

    @property
    def finish_reason(self) -> FinishReason | str | None:
        return self.details.finish_reason if self.details else None

    @property
    def usage(self) -> Usage | None:
        if not self.details:
            return None
        prompt, answer = self.details.input_length or 0, self.details.generated_tokens
        return Usage(prompt_tokens=prompt, completion_tokens=answer, total_tokens=prompt + answer)

    def _record(self, items: list[StreamResponse]) -> list[str]:
        fragments: list[str] = []
        for response in items:
            token = response.token
            if not token.special:
                fragments.append(token.text)
            self._last = response
        if self.ids is not None:
            self.ids += [response.token.id for response in items]
        self._fragments += fragments
        return fragments

    def _full_text(self) -> str:
        # The server's own text is what counts: it may differ from the joined tokens, by a leading space or the prompt.
        whole = self._last.generated_text if self._last else None
        return self.text if whole is None else whole


class TextAccumulator(_StreamAccumulator):
    """Of a stream of text."""

    def add(self, items: list[StreamResponse]) -> list[str]:
        return self._record(items)

    def result(self) -> str:
        return self._full_text()


_PackedToken = tuple[int, str, float | None, bool]
"""A `Token` while it waits for `final`: the garbage collector leaves a tuple of plain values alone, while thousands of
kept objects make it work, for as long again as all else that is done for a token."""


class DetailsAccumulator(_StreamAccumulator):
    """Of a stream of `StreamResponse`: keeps the tokens too, for the whole answer's details."""

    def __init__(self, response_model: type[BaseModel] | None = None, *, keep_ids: bool = False) -> None:
        super().__init__(keep_ids=keep_ids)
        self._response_model = response_model
        self._tokens: list[_PackedToken | Token] = []
        self._top_tokens: list[list[Token] | None] = []

    def add(self, items: list[StreamResponse]) -> list[StreamResponse]:
        self._record(items)
        for response in items:
            token = response.token
            extra = token.__pydantic_extra__  # a server's own fields are kept, with their object
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
            # TGI leaves empty ones out of a stream, but not out of a whole answer.
            top_tokens=[top or [] for top in self._top_tokens] if any(self._top_tokens) else None,
        )
        return TextGenerationResponse(generated_text=self._full_text(), details=details).with_response_model(
            self._response_model
        )


def _token(id: int, text: str, logprob: float | None, special: bool) -> Token:  # noqa: A002  Token's own fields
    return Token(id=id, text=text, logprob=logprob, special=special)


class SingleResult:
    """Of an answer in one piece."""

    text = ""
    finish_reason = None
    usage = None

    def __init__(self) -> None:
        self._result: Any = None

    def add(self, items: list[ItemT]) -> list[ItemT]:
        if items:
            self._result = items[-1]
        return items

    def result(self) -> Any:
        return self._result
