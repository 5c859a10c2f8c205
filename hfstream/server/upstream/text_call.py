"""Requests to TGI's routes: sent on to a server of TGI's kind as they came, and in OpenAI's terms to one of that kind.

What OpenAI's route cannot express is refused. Does not depend on HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar, cast

from hfstream.core.base_stream import BaseStream
from hfstream.core.request_spec import RequestSpec
from hfstream.errors import ValidationError
from hfstream.types import FinishReason, StreamDetails, StreamResponse, TextGenerationResponse, Token, Usage

from ..routes.responses import event_json, response_json
from ..schemas.tgi import GenerateParameters, GenerateRequest
from .calls import Answer
from .upstream import Upstream

_NOT_AT_OPENAI = ("adapter_id", "decoder_input_details", "truncate", "typical_p", "watermark")
_SAME = (
    "best_of",
    "frequency_penalty",
    "max_new_tokens",
    "repetition_penalty",
    "seed",
    "top_k",
    "top_n_tokens",
    "top_p",
)


class TextCall:
    """One text."""

    is_text: ClassVar[bool] = True
    model: str | None = None

    def __init__(self, request: GenerateRequest, *, stream: bool, in_list: bool = False) -> None:
        """`in_list`: whether a response that is not streamed is a list of one."""
        self.stream: bool = stream
        self._request = request
        self._in_list = in_list
        self._from_openai = False
        self._last: StreamResponse | None = None

    def make_request(self, upstream: Upstream) -> RequestSpec[Any, Any, Any]:
        self._from_openai = upstream.is_openai  # as of all the servers that this call can go to
        details = self.stream or self._wants_details
        options = self._options(upstream)
        return upstream.client.text_request(self._request.inputs, options, stream=self.stream, details=details)

    def format_answer(self, result: Any) -> Answer:
        response = result if self._wants_details else TextGenerationResponse(generated_text=result)
        if self._from_openai:
            response = self._as_tgi(response)
        text = response_json(response)
        return Answer(f"[{text}]" if self._in_list else text, _usage(response))

    def format_item(self, item: StreamResponse) -> Sequence[str]:
        """The event for a token. The last one is kept for `format_end`: its counts may come after it."""
        if item.generated_text is None and item.details is None and self._last is None:
            return [event_json(item)]
        earlier, self._last = self._last, item
        if earlier is None:
            return ()
        return [event_json(earlier.model_copy(update={"generated_text": None, "details": None}))]

    def format_end(self, stream: BaseStream[Any, Any]) -> Sequence[str]:
        """The last event, which has the complete text."""
        event = self._last or StreamResponse(token=Token(text="", special=True))
        text = stream.text if event.generated_text is None else event.generated_text
        details = event.details or StreamDetails()
        if self._from_openai:
            text = self._echo + text
            usage = stream.usage
            counts = {"generated_tokens": usage.completion_tokens, "input_length": usage.prompt_tokens} if usage else {}
            details = details.model_copy(update={**counts, **self._known(details.finish_reason)})
        update = {"generated_text": text, "details": details if self._wants_details else None}
        return [event_json(event.model_copy(update=update))]

    @property
    def _wants_details(self) -> bool:
        parameters = self._request.parameters
        return parameters.details or parameters.decoder_input_details

    @property
    def _echo(self) -> str:
        """What the text begins with."""
        wanted = self._request.parameters.return_full_text
        return self._request.inputs if (self._request.returns_full_text if wanted is None else wanted) else ""

    def _options(self, upstream: Upstream) -> dict[str, Any]:
        parameters = self._request.parameters
        if self._from_openai:
            return _openai_options(parameters, upstream.model_name(self.model), stream=self.stream)
        fields = parameters.model_dump(exclude_unset=True, exclude_none=True)
        if self._echo:
            fields["return_full_text"] = True
        if self.stream:
            fields["details"] = True  # without them the last event has no counts, which the metrics need
        return {"extra_body": {"parameters": fields}}

    def _as_tgi(self, response: TextGenerationResponse) -> TextGenerationResponse:
        update: dict[str, Any] = {"generated_text": self._echo + response.generated_text}
        if response.details:
            known = self._known(response.details.finish_reason)
            if (self._request.parameters.best_of or 1) > 1 and response.details.tokens:
                known["generated_tokens"] = len(response.details.tokens)  # the usage is that of all candidates
            update["details"] = response.details.model_copy(update=known)
        return response.model_copy(update=update)

    def _known(self, reason: FinishReason | str) -> dict[str, Any]:
        """What details have in TGI's terms, beside the counts."""
        parameters = self._request.parameters
        return {"finish_reason": _reason(reason), "seed": parameters.seed if parameters.sampled else None}


def _openai_options(parameters: GenerateParameters, model: str | None, *, stream: bool) -> dict[str, Any]:
    """TGI's parameters as options of the client's call, for OpenAI's route.

    Raises:
        ValidationError: one of them cannot be expressed there.
    """
    for name in _NOT_AT_OPENAI:
        if getattr(parameters, name):
            raise _refused(f"`{name}` is not supported: the model is behind OpenAI's API, which does not have it")
    options: dict[str, Any] = {name: getattr(parameters, name) for name in _SAME}
    options |= {"stop": parameters.stop or None, "grammar": _grammar(parameters.grammar)}
    # In TGI's terms: greedy unless a parameter switches sampling on, and then with the temperature 1.
    options["temperature"] = (parameters.temperature or 1.0) if parameters.sampled else None
    options["do_sample"] = None if parameters.sampled else False
    extra: dict[str, Any] = {"model": model}
    if parameters.min_p is not None:
        extra["min_p"] = parameters.min_p
    if stream and not (parameters.details or parameters.top_n_tokens):
        extra["logprobs"] = None  # not every server has them, and none has them for nothing
    return {**options, "extra_body": extra}


def _grammar(value: Any) -> Any:
    """A grammar that OpenAI's `response_format` can express, with its schema as an object."""
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    if fields.get("type") not in ("json", "json_object", "json_schema"):
        kind = str(fields.get("type"))[:50]
        raise _refused(
            f"`grammar` of type `{kind}` is not supported: the model is behind OpenAI's API, which has `json` only"
        )
    schema = fields.get("value")
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError):
            raise _refused("`grammar` is not valid: a schema that is a string must be JSON") from None
    return {**fields, "value": schema}


def _reason(reason: FinishReason | str) -> FinishReason | str:
    """TGI's finish reason. OpenAI's "stop" may be a stop string or the end of the text: TGI has no word for both."""
    return FinishReason.EndOfSequenceToken if reason in ("stop", "") else reason


def _usage(response: TextGenerationResponse) -> Usage | None:
    if response.details is None:
        return None
    prompt, completion = response.details.input_length or 0, response.details.generated_tokens
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def _refused(message: str) -> ValidationError:
    return ValidationError(f"Input validation error: {message}")
