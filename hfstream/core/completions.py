"""Text generation on a server with OpenAI's `/v1/completions` (vLLM, llama.cpp, Ollama): both directions.

TGI's parameters are sent under OpenAI's names; the chunks that come back become the same `StreamResponse` and `str` as
those of a TGI stream. A parameter that the route does not have is an error, never left out silently. Does not depend on
where anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel

from ..types import APIModel, Details, FinishReason, StreamDetails, StreamResponse, TextGenerationResponse, Token, Usage
from .accumulators import DetailsAccumulator, TextAccumulator

__all__ = [
    "CompletionChunk",
    "CompletionDetailsAccumulator",
    "CompletionTextAccumulator",
    "completion_body",
    "parse_completion",
]

UNKNOWN_ID = -1
"""The id of a token whose server tells texts only."""


# The request --------------------------------------------------------------------------------------------------------

_RENAMED = {"max_new_tokens": "max_tokens"}
_UNCHANGED = ("best_of", "frequency_penalty", "repetition_penalty", "seed", "stop", "temperature", "top_k", "top_p")
_HANDLED_HERE = {"details", "do_sample", "grammar", "top_n_tokens"}


def completion_body(prompt: str, params: Mapping[str, Any], *, stream: bool, details: bool) -> dict[str, Any]:
    """The body for one prompt, from TGI's parameters without nulls.

    Raises:
        TypeError: a parameter that this route does not have.
    """
    unsupported = [
        name for name, value in params.items() if value and name not in {*_RENAMED, *_UNCHANGED, *_HANDLED_HERE}
    ]
    if unsupported:
        raise TypeError(
            f"a server's /v1/completions has no `{unsupported[0]}`: leave it out, use TGI's own route, or send "
            "this server's name for it with extra_body="
        )
    body: dict[str, Any] = {"prompt": prompt, "stream": stream}
    body |= {_RENAMED.get(name, name): params[name] for name in params if name in _RENAMED or name in _UNCHANGED}
    if params.get("do_sample") is False:
        body.setdefault("temperature", 0)
    if details:
        body["logprobs"] = params.get("top_n_tokens") or 1
    if "grammar" in params:
        body["response_format"] = _response_format(params["grammar"])
    if stream:
        body["stream_options"] = {"include_usage": True}
    return body


def _response_format(grammar: Any) -> dict[str, Any]:
    grammar_fields: Mapping[str, Any] = cast("Mapping[str, Any]", grammar) if isinstance(grammar, Mapping) else {}
    kind, value = grammar_fields.get("type"), grammar_fields.get("value")
    if kind in ("json", "json_object"):
        value = {"name": "answer", "schema": value}
    elif kind != "json_schema":
        raise TypeError(f"a server's /v1/completions takes no grammar of type {kind!r}: send its own with extra_body=")
    return {"type": "json_schema", "json_schema": value}


# The response --------------------------------------------------------------------------------------------------------


class CompletionLogprobs(APIModel):
    """OpenAI's older form: parallel lists, one entry for each token."""

    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float | None] | None] | None = None


class CompletionChoice(APIModel):
    """One answer, or what a chunk adds to it."""

    index: int = 0
    text: str = ""
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    """vLLM: which stop string or token it was; None for the model's own end."""
    logprobs: CompletionLogprobs | None = None
    token_ids: list[int] | None = None
    """vLLM, if `return_token_ids` was asked for."""


class CompletionChunk(APIModel):
    """One event of a stream, or a whole answer: they have the same shape."""

    choices: list[CompletionChoice]
    usage: Usage | None = None
    token: Token | None = None
    """hfstream's own server tells TGI's token too."""


class CompletionAdapter:
    """Hears chunks as tokens."""

    def __init__(self, *, stops: Sequence[str], with_top_tokens: bool) -> None:
        self._stops = stops
        self._with_top_tokens = with_top_tokens
        self._count = 0
        self._finished = False
        self.usage: Usage | None = None

    def add(self, chunks: list[CompletionChunk]) -> list[StreamResponse]:
        """A response for each token of the chunks; the last one has `details`, but no `generated_text`."""
        responses: list[StreamResponse] = []
        for chunk in chunks:
            self.usage = chunk.usage or self.usage
            choice = next((choice for choice in chunk.choices if choice.index == 0), None)
            if choice is not None and not self._finished:  # a usage may follow with a choice beside it
                responses += self._responses(chunk, choice)
        return responses

    def _responses(self, chunk: CompletionChunk, choice: CompletionChoice) -> list[StreamResponse]:
        if chunk.token is None:
            tokens = _tokens(choice, with_top_tokens=self._with_top_tokens)
        else:
            token = chunk.token if chunk.token.special else chunk.token.model_copy(update={"text": choice.text})
            tokens = [(token, _top(choice, 0) if self._with_top_tokens else None)]
        responses: list[StreamResponse] = []
        for token, top in tokens:
            self._count += token.id != UNKNOWN_ID or not token.special
            responses.append(StreamResponse(index=self._count, token=token, top_tokens=top))
        if choice.finish_reason:
            self._finished = True
            responses[-1] = responses[-1].model_copy(update={"details": self._details(choice)})
        return responses

    def _details(self, choice: CompletionChoice) -> StreamDetails:
        return StreamDetails(
            finish_reason=_map_finish_reason(choice, self._stops),
            generated_tokens=(self.usage and self.usage.completion_tokens) or self._count,
            input_length=(self.usage and self.usage.prompt_tokens) or None,
        )


_Tokens = list[tuple[Token, list[Token] | None]]


def _tokens(choice: CompletionChoice, *, with_top_tokens: bool, whole: bool = False) -> _Tokens:
    """The tokens of a choice, each with the likeliest at its place. A chunk that only says the end is a special one."""
    texts = choice.logprobs.tokens if choice.logprobs else []
    logprobs = choice.logprobs.token_logprobs if choice.logprobs else []
    ids = choice.token_ids or []
    is_plain = "".join(texts) == choice.text
    is_end = (
        bool(choice.finish_reason) and not is_plain and "".join(texts[:-1]) == choice.text
    )  # with what ended it all
    if not texts or not (is_plain or is_end or whole):  # some tell a token's bytes
        is_end_only = not choice.text and bool(choice.finish_reason)
        token = Token(
            id=ids[0] if len(ids) == 1 else UNKNOWN_ID,
            text=choice.text,
            logprob=logprobs[0] if len(logprobs) == 1 else None,
            special=is_end_only,
        )
        return [(token, _top(choice, 0) if with_top_tokens else None)]
    if len(ids) != len(texts):
        ids = [UNKNOWN_ID] * len(texts)
    return [
        (
            Token(
                id=token,
                text=text,
                logprob=logprobs[position] if position < len(logprobs) else None,
                special=is_end and position == len(texts) - 1,
            ),
            _top(choice, position) if with_top_tokens else None,
        )
        for position, (token, text) in enumerate(zip(ids, texts, strict=True))
    ]


def _top(choice: CompletionChoice, position: int) -> list[Token] | None:
    top_logprobs = (choice.logprobs and choice.logprobs.top_logprobs) or []
    if position >= len(top_logprobs):
        return None
    return [
        Token(id=UNKNOWN_ID, text=text, logprob=logprob) for text, logprob in (top_logprobs[position] or {}).items()
    ]


def _map_finish_reason(choice: CompletionChoice, stops: Sequence[str]) -> FinishReason | str:
    """TGI's word for it. OpenAI's "stop" may be the model's own end or a stop string; where nothing tells, it stays."""
    reason = choice.finish_reason or ""
    if reason in ("stop", "eos_token"):
        if isinstance(choice.stop_reason, str):
            return FinishReason.StopSequence
        if reason == "eos_token" or not stops or "stop_reason" in choice.model_fields_set:
            return FinishReason.EndOfSequenceToken
        return reason
    return FinishReason(reason) if reason in ("length", "stop_sequence") else reason


class CompletionTextAccumulator(TextAccumulator):
    """Of a stream of text."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        super().__init__()
        self._adapter = CompletionAdapter(stops=stops, with_top_tokens=False)

    @property
    def usage(self) -> Usage | None:
        return self._adapter.usage or super().usage

    def add(self, items: list[Any]) -> list[str]:
        return super().add(self._adapter.add(items))


class CompletionDetailsAccumulator(DetailsAccumulator):
    """Of a stream of `StreamResponse`."""

    def __init__(
        self, stops: Sequence[str] = (), *, with_top_tokens: bool = False, response_model: type[BaseModel] | None = None
    ) -> None:
        super().__init__(response_model)
        self._adapter = CompletionAdapter(stops=stops, with_top_tokens=with_top_tokens)

    @property
    def usage(self) -> Usage | None:
        return self._adapter.usage or super().usage

    @property
    def details(self) -> StreamDetails | None:
        details, usage = super().details, self._adapter.usage
        if details is None or usage is None:
            return details
        counts = {"generated_tokens": usage.completion_tokens, "input_length": usage.prompt_tokens}
        return details.model_copy(update={name: count for name, count in counts.items() if count})

    def add(self, items: list[Any]) -> list[StreamResponse]:
        responses = self._adapter.add(items)
        if responses and responses[-1].details:
            new = "".join(response.token.text for response in responses if not response.token.special)
            responses[-1] = responses[-1].model_copy(update={"generated_text": self.text + new})
        return super().add(responses)


def parse_completion(
    body: bytes, stops: Sequence[str], *, details: bool, with_top_tokens: bool
) -> TextGenerationResponse:
    """A whole answer, as TGI would have given it.

    Raises:
        ValueError: this is none.
    """
    completion = CompletionChunk.read(body)
    choice = min(completion.choices, key=lambda choice: choice.index, default=None)
    if choice is None:
        raise ValueError("an answer without choices")
    if not details:
        return TextGenerationResponse(generated_text=choice.text)
    tokens = (
        _tokens(choice, with_top_tokens=with_top_tokens, whole=True)
        if choice.logprobs and choice.logprobs.tokens
        else []
    )
    completion_details = Details(
        finish_reason=_map_finish_reason(choice, stops),
        generated_tokens=completion.usage.completion_tokens if completion.usage else len(tokens),
        tokens=[token for token, _ in tokens],
        top_tokens=[top or [] for _, top in tokens] if with_top_tokens else None,
    )
    return TextGenerationResponse(generated_text=choice.text, details=completion_details)
