"""OpenAI's `/v1/completions` (vLLM, llama.cpp, Ollama): the request body for TGI's parameters, and the response types.

A parameter that the route does not have is an error: it is never left out silently. Does not depend on where a request
is sent, nor on what becomes of the response.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from ..types import ChatCompletionLogprob, Token, Usage
from ..types._base import APIModel, FieldRepair
from ..types._chat_repairs import COMPLETION_REPAIRS

__all__ = ["CompletionChoice", "CompletionChunk", "CompletionLogprobs", "completion_body"]

# The request --------------------------------------------------------------------------------------------------------

_RENAMED = {"max_new_tokens": "max_tokens"}
_UNCHANGED = ("best_of", "frequency_penalty", "repetition_penalty", "seed", "stop", "temperature", "top_k", "top_p")
_CONVERTED = {"details", "do_sample", "grammar", "top_n_tokens"}
"""Parameters that become others, below."""


def completion_body(prompt: str, params: Mapping[str, Any], *, stream: bool, details: bool) -> dict[str, Any]:
    """The body for one prompt; `params` are TGI's parameters, without nulls.

    Raises:
        TypeError: a parameter that this route does not have.
    """
    unsupported = [
        name for name, value in params.items() if value and name not in {*_RENAMED, *_UNCHANGED, *_CONVERTED}
    ]
    if unsupported:
        raise TypeError(
            f"/v1/completions has no `{unsupported[0]}`: leave it out, use TGI's own route, or send "
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
        raise TypeError(
            f"/v1/completions takes no grammar of type {kind!r}: send the server's own parameter with extra_body="
        )
    return {"type": "json_schema", "json_schema": value}


# The response --------------------------------------------------------------------------------------------------------


class CompletionLogprobs(APIModel):
    """OpenAI's older format: parallel lists, one entry for each token; or `content`, as in a chat."""

    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float | None] | None] | None = None
    content: list[ChatCompletionLogprob] | None = None
    """llama.cpp: one object for each token, with its id."""


class CompletionChoice(APIModel):
    """One response, or what a chunk adds to it."""

    index: int = 0
    text: str = ""
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    """vLLM: the stop string or token that ended generation; None for the end-of-sequence token."""
    logprobs: CompletionLogprobs | None = None
    token_ids: list[int] | None = None
    """vLLM, if `return_token_ids` was set."""


class CompletionChunk(APIModel):
    """One event of a stream, or a complete response: both have the same fields."""

    _field_repairs: ClassVar[Mapping[str, FieldRepair]] = COMPLETION_REPAIRS

    choices: list[CompletionChoice]
    usage: Usage | None = None
    token: Token | None = None
    """Sent by hfstream's own server: the token as TGI describes it."""
