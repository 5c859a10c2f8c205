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
    endpoint: Endpoint,
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
    params = {name: value for name, value in parameters.items() if value is not None}
    if "stop_sequences" in params:
        if "stop" in params:
            raise TypeError("`stop_sequences` is the older name of `stop`: pass only one of them")
        params["stop"] = params.pop("stop_sequences")
    response_model = find_model_class(params.get("grammar"))
    if is_model_class(params.get("grammar")):
        params["grammar"] = {"type": "json", "value": response_model}
    options = _Options(prompt, params, dict(extra_body or {}), response_model, stream, details, resume and stream)
    body, make_decoder, parse_response, transcript = (_openai if endpoint.openai else _tgi)(endpoint, options)

    def parse(body_bytes: bytes) -> list[Any]:
        response = parse_response(body_bytes)
        return [response.with_response_model(response_model) if details else response.generated_text]

    return RequestSpec(
        url=endpoint.url,
        body=encode_json(body),
        headers=headers,
        streamed=stream,
        make_decoder=make_decoder if stream else lambda: JSONBodyDecoder(parse),
        make_accumulator=transcript if stream else SingleResult,
        resume=options.resume,
        continuation=_continuation(endpoint, prompt, body, headers) if options.resume else None,
    )


def _continuation(
    endpoint: Endpoint, prompt: str, body: Mapping[str, Any], headers: Mapping[str, str]
) -> Continuation | None:
    if endpoint.openai or endpoint.stream_in_body:
        return None  # what answers there may be anything
    plain = {name: value for name, value in headers.items() if name.lower() not in ("accept", "prefer")}
    url = service_url(endpoint.url, "/tokenize")
    return Continuation(prompt, body["parameters"], url, {**plain, "Accept": "application/json"})


@dataclass(frozen=True)
class _Options:
    prompt: str
    params: dict[str, Any]
    extra_body: dict[str, Any]
    response_model: type[BaseModel] | None
    stream: bool
    details: bool
    resume: bool


_Ways = tuple[dict[str, Any], Callable[[], Any], Callable[[bytes], TextGenerationResponse], Callable[[], Any]]
"""The body; how a stream of answers is read, or a whole one; and what keeps the stream's."""


def _tgi(endpoint: Endpoint, options: _Options) -> _Ways:
    """TGI's own route."""
    # A stream asks for details always: without them its last event says neither why it ended nor how long it was.
    details = {"details": True} if options.details or options.stream else {}
    parameters = {**options.params, **details, **options.extra_body.pop("parameters", {})}
    body: dict[str, Any] = {"inputs": options.prompt, "parameters": parameters}
    if endpoint.stream_in_body:
        body["stream"] = options.stream

    def transcript() -> Any:
        if options.details:
            return DetailsAccumulator(options.response_model, keep_ids=options.resume)
        return TextAccumulator(keep_ids=options.resume)

    return body | options.extra_body, TGIStreamDecoder, _response, transcript


def _openai(endpoint: Endpoint, options: _Options) -> _Ways:
    """OpenAI's `/v1/completions`."""
    stop, with_top_tokens = options.params.get("stop") or (), bool(options.params.get("top_n_tokens"))
    model_field = {"model": endpoint.model} if endpoint.model else {}
    body = completion_body(options.prompt, options.params, stream=options.stream, details=options.details)

    def transcript() -> Any:
        if options.details:
            return CompletionDetailsAccumulator(
                stop, with_top_tokens=with_top_tokens, response_model=options.response_model
            )
        return CompletionTextAccumulator(stop)

    def parse_response(body_bytes: bytes) -> TextGenerationResponse:
        return parse_completion(body_bytes, stop, details=options.details, with_top_tokens=with_top_tokens)

    return model_field | body | options.extra_body, CompletionStreamDecoder, parse_response, transcript


def _response(body: bytes) -> TextGenerationResponse:
    # TGI's `/` answers with a list of one.
    if body.lstrip()[:1] == b"[":
        answers = json.loads(body)
        if len(answers) != 1:
            raise ValueError(f"{len(answers)} answers to one prompt")
        return TextGenerationResponse.model_validate(answers[0])
    return TextGenerationResponse.model_validate_json(body)
