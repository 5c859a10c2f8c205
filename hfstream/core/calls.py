"""What we ask: the request, and how to read its answer. Refuses to know clients, retries and time."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypedDict, TypeVar

from ..types import TextGenerationResponse
from .replies import Document, Reply, TokenEvents
from .routes import Target, origin
from .timeouts import Timeouts
from .transcript import DetailsTranscript, DocumentTranscript, TextTranscript, Transcript

__all__ = ["Call", "TextGenerationOptions", "TextGenerationParameters", "text_generation"]

S = TypeVar("S")
I = TypeVar("I")  # noqa: E741  an item of the stream
W = TypeVar("W")


@dataclass(frozen=True)
class Call(Generic[S, I, W]):
    """One question: `S` is what the reply says, `I` what a caller iterates over, `W` the whole answer."""

    url: str
    reply: Callable[[], Reply[S]]
    transcript: Callable[[], Transcript[S, I, W]]
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    streamed: bool = False
    method: str = "POST"

    def __str__(self) -> str:
        return f"{self.method} {origin(self.url)}"

    __repr__ = __str__  # headers hold the token, the URL may hold a key, the body is the user's: none goes into a log


class TextGenerationParameters(TypedDict, total=False):
    """TGI's generation parameters. None is the same as leaving one out; values are judged by the server."""

    adapter_id: str | None
    """LoRA adapter to use."""
    best_of: int | None
    """Sample so many answers and keep the likeliest. Not while streaming."""
    decoder_input_details: bool | None
    """Tell the prompt's tokens too. Not while streaming."""
    do_sample: bool | None
    """Draw tokens by their probability, instead of taking the likeliest each time."""
    frequency_penalty: float | None
    """Make tokens less likely the more often they have come, -2 to 2."""
    grammar: Mapping[str, Any] | None
    """Constrain the answer: ``{"type": "json" | "regex", "value": ...}``."""
    max_new_tokens: int | None
    """Length limit of the answer, in tokens. None: as far as the model's context goes."""
    repetition_penalty: float | None
    """Above 1 makes repeated tokens less likely."""
    return_full_text: bool | None
    """Put the prompt before `generated_text`."""
    seed: int | None
    """Makes sampling repeatable, 0 to 2**64 - 1."""
    stop: list[str] | None
    """The answer ends with the first of these that appears in it."""
    stop_sequences: list[str] | None
    """The older name of `stop`."""
    temperature: float | None
    """Above 0; below 1 keeps to the likely, above 1 goes wild. Setting it switches sampling on."""
    top_k: int | None
    """Draw from the k likeliest tokens only."""
    top_n_tokens: int | None
    """Tell the n likeliest tokens at every place."""
    top_p: float | None
    """Draw from the likeliest tokens that together have this probability, 0 to 1."""
    truncate: int | None
    """Keep only the last so many tokens of the prompt."""
    typical_p: float | None
    """Typical decoding mass, 0 to 1."""
    watermark: bool | None
    """Watermark the answer."""


class TextGenerationOptions(TextGenerationParameters, total=False):
    """What `text_generation` takes by name: the server's parameters, and what concerns this one request."""

    model: str | None
    """A URL or a model id, for this call."""
    timeout: Timeouts | float | None
    """Limits in seconds, for this call; None: the client's."""
    extra_body: Mapping[str, Any] | None
    """Merged into the JSON body; its `parameters` are merged into ours."""
    extra_headers: Mapping[str, str] | None
    """Sent with this request, and win over the client's."""


def text_generation(
    target: Target,
    prompt: str,
    parameters: Mapping[str, Any],
    *,
    stream: bool,
    details: bool,
    headers: Mapping[str, str],
    extra_body: Mapping[str, Any] | None = None,
) -> Call[Any, Any, Any]:
    """The call for one prompt, in any of its four forms.

    Raises:
        TypeError: a parameter that does not exist, or a value that JSON cannot say.
    """
    _check_names(parameters)
    wanted = {name: value for name, value in parameters.items() if value is not None}
    if "stop_sequences" in wanted:
        if "stop" in wanted:
            raise TypeError("`stop_sequences` is the older name of `stop`: pass only one of them")
        wanted["stop"] = wanted.pop("stop_sequences")
    # A stream asks for details always: without them its last event says neither why it ended nor how long it was.
    wanted["details"] = details or stream
    extra = dict(extra_body or {})
    body: dict[str, Any] = {"inputs": prompt, "parameters": {**wanted, **extra.pop("parameters", {})}}
    if target.stream_in_body:
        body["stream"] = stream
    return Call(
        url=target.url,
        body=_encoded({**body, **extra}),
        headers=headers,
        streamed=stream,
        reply=TokenEvents if stream else lambda: Document(_whole_details if details else _whole_text),
        transcript=(DetailsTranscript if details else TextTranscript) if stream else DocumentTranscript,
    )


def _check_names(parameters: Mapping[str, Any]) -> None:
    known = TextGenerationParameters.__annotations__
    for name in parameters:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f": did you mean `{close[0]}`?" if close else ""
            raise TypeError(f"text_generation has no parameter `{name}`{hint} (extra_body= sends anything)")


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:  # a set, NaN, half of a surrogate pair
        raise TypeError(f"the request cannot be sent as JSON: {error}") from error


def _whole_details(body: bytes) -> list[TextGenerationResponse]:
    # TGI's `/` answers with a list of one.
    if body.lstrip()[:1] == b"[":
        answers = json.loads(body)
        if len(answers) != 1:
            raise ValueError(f"{len(answers)} answers to one prompt")
        return [TextGenerationResponse.model_validate(answers[0])]
    return [TextGenerationResponse.model_validate_json(body)]


def _whole_text(body: bytes) -> list[str]:
    return [_whole_details(body)[0].generated_text]
