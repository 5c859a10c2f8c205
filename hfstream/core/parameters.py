"""What calls take by name: each parameter once, for editors, type checkers, and the check of a mistyped name.

None is the same as leaving one out. Values are judged by the server, in its words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from pydantic import BaseModel

from ..types import (
    ChatCompletionInputGrammarType,
    ChatCompletionInputMessage,
    ChatCompletionInputStreamOptions,
    ChatCompletionInputTool,
    ChatCompletionInputToolChoiceClass,
    ChatCompletionInputToolChoiceEnum,
    ChatCompletionMessage,
    TextGenerationInputGrammarType,
)
from .timeouts import Timeouts

__all__ = [
    "ChatCompletionOptions",
    "ChatCompletionParameters",
    "Messages",
    "TextGenerationOptions",
    "TextGenerationParameters",
]

Messages = Iterable[ChatCompletionInputMessage | ChatCompletionMessage | Mapping[str, Any]]
"""A conversation: literals, and messages of earlier answers as they are."""


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
    grammar: TextGenerationInputGrammarType | Mapping[str, Any] | type[BaseModel] | None
    """Constrain the answer: ``{"type": "json" | "regex", "value": ...}``, or a pydantic class, for JSON that fits it;
    with `details` the answer then has it as `parsed`."""
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


class _RequestOptions(TypedDict, total=False):
    model: str | None
    """A URL or a model id, for this call."""
    timeout: Timeouts | float | None
    """Limits in seconds, for this call; None: the client's."""
    extra_body: Mapping[str, Any] | None
    """Merged into the JSON body: what this server takes and others do not."""
    extra_headers: Mapping[str, str] | None
    """Sent with this request, and win over the client's."""


class TextGenerationOptions(TextGenerationParameters, _RequestOptions, total=False):
    """What `text_generation` takes by name: the server's parameters, and what concerns this one request."""


class ChatCompletionParameters(TypedDict, total=False):
    """OpenAI's chat parameters, as TGI, vLLM and others have them. None is the same as leaving one out."""

    frequency_penalty: float | None
    """Makes tokens less likely the more often they have come, -2 to 2."""
    logit_bias: Mapping[str, float] | Sequence[float] | None
    """Added to the logits of tokens, by their ids."""
    logprobs: bool | None
    """Tell the log probability of every token."""
    max_completion_tokens: int | None
    """Length limit of the answer, in tokens, reasoning included; the newer name of `max_tokens`."""
    max_tokens: int | None
    """Length limit of the answer, in tokens."""
    n: int | None
    """How many answers to make."""
    parallel_tool_calls: bool | None
    """Whether the model may call several tools at once."""
    presence_penalty: float | None
    """Makes tokens that have come less likely, -2 to 2."""
    reasoning_effort: str | None
    """How long the model may think: ``"low"``, ``"medium"``, ``"high"``, or a server's own word."""
    response_format: ChatCompletionInputGrammarType | Mapping[str, Any] | type[BaseModel] | None
    """Constrain the answer: OpenAI's form or TGI's, sent as it is; or a pydantic class, sent in OpenAI's form, and the
    answer has it as `parsed`."""
    seed: int | None
    """Makes sampling repeatable."""
    stop: Sequence[str] | str | None
    """The answer ends before the first of these that would appear in it (after it, at TGI)."""
    stream_options: ChatCompletionInputStreamOptions | Mapping[str, Any] | None
    """What a stream tells besides: ``{"include_usage": True}``."""
    temperature: float | None
    """0 takes the likeliest token each time; below 1 keeps to the likely, above 1 goes wild."""
    tool_choice: ChatCompletionInputToolChoiceClass | ChatCompletionInputToolChoiceEnum | Mapping[str, Any] | str | None
    """Whether a tool may, must or must not be used, or which one must."""
    tool_prompt: str | None
    """Text before the tools in the prompt, at TGI."""
    tools: Sequence[ChatCompletionInputTool | Mapping[str, Any]] | None
    """Functions that the model may want called."""
    top_logprobs: int | None
    """Tell the so many likeliest tokens at every place; needs `logprobs`."""
    top_p: float | None
    """Draw from the likeliest tokens that together have this probability, 0 to 1."""
    user: str | None
    """Your name for the end user, for the server's records."""


class ChatCompletionOptions(ChatCompletionParameters, _RequestOptions, total=False):
    """What `chat_completion` takes by name: the server's parameters, and what concerns this one request."""
