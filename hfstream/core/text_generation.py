"""The call for text generation, in its four forms, at either kind of server. Refuses to know clients and time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ..types import TextGenerationResponse
from .accumulators import DetailsAccumulator, SingleResult, TextAccumulator
from .completions import CompletionDetailsAccumulator, CompletionTextAccumulator, completion_body, parse_completion
from .decoders import JSONBodyDecoder
from .parameters import TextGenerationParameters
from .request_spec import RequestSpec, check_parameter_names, encode_json, find_model_class, is_model_class
from .resume import Continuation
from .stream_decoders import CompletionStreamDecoder, TGIStreamDecoder
from .urls import Endpoint, service_url

__all__ = ["text_generation"]


def text_generation(
    target: Endpoint,
    prompt: str,
    parameters: Mapping[str, Any],
    *,
    stream: bool,
    details: bool,
    headers: Mapping[str, str],
    extra_body: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> RequestSpec[Any, Any, Any]:
    """The call for one prompt.

    Raises:
        TypeError: a parameter that does not exist, or a value that JSON cannot say.
    """
    check_parameter_names("text_generation", parameters, TextGenerationParameters.__annotations__)
    wanted = {name: value for name, value in parameters.items() if value is not None}
    if "stop_sequences" in wanted:
        if "stop" in wanted:
            raise TypeError("`stop_sequences` is the older name of `stop`: pass only one of them")
        wanted["stop"] = wanted.pop("stop_sequences")
    form = find_model_class(wanted.get("grammar"))
    if is_model_class(wanted.get("grammar")):
        wanted["grammar"] = {"type": "json", "value": form}
    asked = _Asked(prompt, wanted, dict(extra_body or {}), form, stream, details, resume and stream)
    body, expected, whole, transcript = (_completion if target.openai else _generation)(target, asked)

    def parse(answer: bytes) -> list[Any]:
        response = whole(answer)
        return [response.with_response_model(form) if details else response.generated_text]

    return RequestSpec(
        url=target.url,
        body=encode_json(body),
        headers=headers,
        streamed=stream,
        make_decoder=expected if stream else lambda: JSONBodyDecoder(parse),
        make_accumulator=transcript if stream else SingleResult,
        resume=asked.resume,
        continuation=_continuation(target, prompt, body, headers) if asked.resume else None,
    )


def _continuation(
    target: Endpoint, prompt: str, body: Mapping[str, Any], headers: Mapping[str, str]
) -> Continuation | None:
    if target.openai or target.stream_in_body:
        return None  # what answers there may be anything
    plain = {name: value for name, value in headers.items() if name.lower() not in ("accept", "prefer")}
    url = service_url(target.url, "/tokenize")
    return Continuation(prompt, body["parameters"], url, {**plain, "Accept": "application/json"})


@dataclass(frozen=True)
class _Asked:
    prompt: str
    wanted: dict[str, Any]
    extra: dict[str, Any]
    form: type[BaseModel] | None
    stream: bool
    details: bool
    resume: bool


_Ways = tuple[dict[str, Any], Callable[[], Any], Callable[[bytes], TextGenerationResponse], Callable[[], Any]]
"""The body; how a stream of answers is read, or a whole one; and what keeps the stream's."""


def _generation(target: Endpoint, asked: _Asked) -> _Ways:
    """TGI's own route."""
    # A stream asks for details always: without them its last event says neither why it ended nor how long it was.
    details = {"details": True} if asked.details or asked.stream else {}
    parameters = {**asked.wanted, **details, **asked.extra.pop("parameters", {})}
    body: dict[str, Any] = {"inputs": asked.prompt, "parameters": parameters}
    if target.stream_in_body:
        body["stream"] = asked.stream

    def transcript() -> Any:
        if asked.details:
            return DetailsAccumulator(asked.form, keep_ids=asked.resume)
        return TextAccumulator(keep_ids=asked.resume)

    return body | asked.extra, TGIStreamDecoder, _response, transcript


def _completion(target: Endpoint, asked: _Asked) -> _Ways:
    """OpenAI's `/v1/completions`."""
    stop, tops = asked.wanted.get("stop") or (), bool(asked.wanted.get("top_n_tokens"))
    named = {"model": target.model} if target.model else {}
    body = completion_body(asked.prompt, asked.wanted, stream=asked.stream, details=asked.details)

    def transcript() -> Any:
        if asked.details:
            return CompletionDetailsAccumulator(stop, tops=tops, form=asked.form)
        return CompletionTextAccumulator(stop)

    def whole(answer: bytes) -> TextGenerationResponse:
        return parse_completion(answer, stop, details=asked.details, tops=tops)

    return named | body | asked.extra, CompletionStreamDecoder, whole, transcript


def _response(body: bytes) -> TextGenerationResponse:
    # TGI's `/` answers with a list of one.
    if body.lstrip()[:1] == b"[":
        answers = json.loads(body)
        if len(answers) != 1:
            raise ValueError(f"{len(answers)} answers to one prompt")
        return TextGenerationResponse.model_validate(answers[0])
    return TextGenerationResponse.model_validate_json(body)
