"""The request of text generation, streamed or not, with details or not, for TGI's route or OpenAI's.

Does not depend on clients, retries and time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from ..errors.response_bodies import from_finish_reason
from ..types import TextGenerationResponse
from ..types._lenient import load_json
from .accumulators import Accumulator, DetailsAccumulator, TextAccumulator
from .answer_errors import error_beside
from .completion_responses import CompletionDetailsAccumulator, CompletionTextAccumulator, parse_completion
from .completions import completion_body
from .decoders import JSONBodyDecoder, ResponseDecoder
from .parameters import TextGenerationParameters
from .request_spec import RequestSpec, check_parameter_names, encode_json
from .resume import Continuation
from .schemas import find_schema_type, is_schema_type
from .single_result import SingleResult
from .stream_decoders import CompletionStreamDecoder, TGIStreamDecoder
from .urls import Endpoint, service_url

__all__ = ["relocated", "text_generation"]


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
    """The request for one prompt.

    Raises:
        TypeError: a parameter that does not exist, a prompt that is not a text, or a value that is not
            JSON-serializable.
    """
    check_parameter_names("text_generation", parameters, TextGenerationParameters.__annotations__)
    if not isinstance(cast("Any", prompt), str):
        raise TypeError(
            f"`prompt` is one text, not a {type(prompt).__name__}: map() takes several prompts, and chat_completion() "
            "messages"
        )
    params = {name: value for name, value in parameters.items() if value is not None}
    if "stop_sequences" in params:
        if "stop" in params:
            raise TypeError("`stop_sequences` is the older name of `stop`: pass only one of them")
        params["stop"] = params.pop("stop_sequences")
    response_model = find_schema_type(params.get("grammar"))
    if is_schema_type(params.get("grammar")):
        params["grammar"] = {"type": "json", "value": response_model}
    options = _Options(prompt, params, dict(extra_body or {}), response_model, stream, details, resume and stream)
    route = (_openai_route if endpoint.openai else _tgi_route)(endpoint, options)

    def parse(response_body: bytes) -> list[Any]:
        response = route.parse_response(response_body)
        return [response.with_response_model(response_model) if details else response.generated_text]

    return RequestSpec(
        url=endpoint.url,
        body=encode_json(route.body),
        headers=headers,
        streamed=stream,
        make_decoder=route.make_decoder if stream else lambda: JSONBodyDecoder(parse),
        make_accumulator=route.make_accumulator if stream else SingleResult,
        resume=options.resume,
        continuation=_continuation(endpoint, prompt, route.body, headers) if options.resume else None,
        operation="text_generation",
        model=endpoint.model,
    )


def _continuation(
    endpoint: Endpoint, prompt: str, body: Mapping[str, Any], headers: Mapping[str, str]
) -> Continuation | None:
    if endpoint.openai or endpoint.stream_in_body:
        return None  # the server may be another than TGI
    return Continuation(prompt, body["parameters"], *_tokenize_target(endpoint.url, headers))


def _tokenize_target(url: str, headers: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    plain = {name: value for name, value in headers.items() if name.lower() not in ("accept", "prefer")}
    return service_url(url, "/tokenize"), {**plain, "Accept": "application/json"}


def relocated(
    spec: RequestSpec[Any, Any, Any],
    url: str,
    headers: Mapping[str, str],
    relocate: Callable[[str], RequestSpec[Any, Any, Any]],
) -> RequestSpec[Any, Any, Any]:
    """The request `spec`, also one of chat completion, at another server of the same kind."""
    continuation: Continuation | None = spec.continuation
    if continuation is not None:
        tokenize_url, tokenize_headers = _tokenize_target(url, headers)
        continuation = replace(continuation, tokenize_url=tokenize_url, headers=tokenize_headers)
    return replace(spec, url=url, headers=headers, continuation=continuation, relocate=relocate)


@dataclass(frozen=True)
class _Options:
    prompt: str
    params: dict[str, Any]
    extra_body: dict[str, Any]
    response_model: Any
    stream: bool
    details: bool
    resume: bool


@dataclass(frozen=True)
class _Route:
    """What depends on the server's API: the request body, and how the response is read."""

    body: dict[str, Any]
    make_decoder: Callable[[], ResponseDecoder[Any]]
    """Of a stream."""
    make_accumulator: Callable[[], Accumulator[Any, Any, Any]]
    """Of a stream."""
    parse_response: Callable[[bytes], TextGenerationResponse]
    """Of a response that is not streamed."""


def _tgi_route(endpoint: Endpoint, options: _Options) -> _Route:
    """TGI's own API."""
    # A stream always requests details: without them its last event has neither a finish reason nor token counts.
    details = {"details": True} if options.details or options.stream else {}
    parameters = {**options.params, **details, **options.extra_body.pop("parameters", {})}
    body: dict[str, Any] = {"inputs": options.prompt, "parameters": parameters}
    if endpoint.stream_in_body:
        body["stream"] = options.stream

    def make_accumulator() -> Any:
        if options.details:
            return DetailsAccumulator(options.response_model, keep_ids=options.resume)
        return TextAccumulator(keep_ids=options.resume)

    return _Route(body | options.extra_body, TGIStreamDecoder, make_accumulator, _parse_tgi_response)


def _openai_route(endpoint: Endpoint, options: _Options) -> _Route:
    """OpenAI's `/v1/completions`."""
    stop, with_top_tokens = options.params.get("stop") or (), bool(options.params.get("top_n_tokens"))
    if options.extra_body.get("n") not in (None, 1):
        raise TypeError("text_generation() returns one text: leave out `n`, and call it once for each text")
    model_field = {"model": endpoint.model} if endpoint.model else {}
    body = completion_body(options.prompt, options.params, stream=options.stream, details=options.details)

    def make_accumulator() -> Any:
        if options.details:
            return CompletionDetailsAccumulator(
                stop, with_top_tokens=with_top_tokens, response_model=options.response_model
            )
        return CompletionTextAccumulator(stop)

    def parse_response(response_body: bytes) -> TextGenerationResponse:
        return parse_completion(response_body, stop, details=options.details, with_top_tokens=with_top_tokens)

    return _Route(model_field | body | options.extra_body, CompletionStreamDecoder, make_accumulator, parse_response)


def _parse_tgi_response(body: bytes) -> TextGenerationResponse:
    # TGI's `/` sends a list of one.
    payload = load_json(body)
    if isinstance(payload, list) and len(cast("list[Any]", payload)) == 1:
        payload = cast("list[Any]", payload)[0]
    response = TextGenerationResponse.validate_lenient(payload)
    reason = response.details.finish_reason if response.details else ""
    error = error_beside(response.__pydantic_extra__) or from_finish_reason(reason)
    if error is not None:
        error.partial_text = response.generated_text
        raise error
    return response
