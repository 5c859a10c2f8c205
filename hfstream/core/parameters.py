"""The keyword parameters of calls, each declared once: for editors, type checkers, and the check for mistyped names.

None is the same as leaving one out. The server validates the values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from .. import types
from ..types.inputs import (
    ChatCompletionInputGrammarType,
    ChatCompletionInputStreamOptions,
    ChatCompletionInputTool,
    ChatCompletionInputToolChoiceClass,
    ChatCompletionInputToolChoiceEnum,
    TextGenerationInputGrammarType,
)
from .timeouts import TimeoutTypes

__all__ = [
    "ChatCompletionOptions",
    "ChatCompletionParameters",
    "RunToolsOptions",
    "TextGenerationOptions",
    "TextGenerationParameters",
]


class TextGenerationParameters(TypedDict, total=False):
    """TGI's generation parameters. None is the same as leaving one out; the server validates the values."""

    adapter_id: str | None
    """LoRA adapter to use."""
    best_of: int | None
    """Generate this many responses and return the most likely one. Not with `stream`."""
    decoder_input_details: bool | None
    """Return the tokens of the prompt, too. Not with `stream`."""
    do_sample: bool | None
    """Sample tokens by their probability, instead of taking the most likely one each time."""
    frequency_penalty: float | None
    """Makes tokens less likely the more often they have occurred, -2 to 2."""
    grammar: TextGenerationInputGrammarType | Mapping[str, Any] | types.SchemaType | None
    """Constrains the text: ``{"type": "json" | "regex", "value": ...}``; or a type, for JSON that fits it: a pydantic
    class, a dataclass, ``list[City]``, a union, or whatever else pydantic's TypeAdapter takes. Then the response with
    `details` has the object as `parsed`."""
    max_new_tokens: int | None
    """Maximum number of tokens to generate. None: up to the end of the model's context."""
    repetition_penalty: float | None
    """Above 1 makes repeated tokens less likely."""
    return_full_text: bool | None
    """Puts the prompt before `generated_text`."""
    seed: int | None
    """Makes sampling repeatable, 0 to 2**64 - 1."""
    stop: list[str] | None
    """Generation ends with the first of these strings that occurs in the text."""
    stop_sequences: list[str] | None
    """The older name of `stop`."""
    temperature: float | None
    """Above 0; values below 1 make likely tokens more likely, values above 1 less. Setting it enables sampling."""
    top_k: int | None
    """Sample from the k most likely tokens only."""
    top_n_tokens: int | None
    """Return the n most likely tokens at every position."""
    top_p: float | None
    """Sample from the most likely tokens that together have this probability, 0 to 1."""
    truncate: int | None
    """Keep only this many tokens of the prompt, the last ones."""
    typical_p: float | None
    """Typical decoding mass, 0 to 1."""
    watermark: bool | None
    """Watermark the text."""


class _RequestOptions(TypedDict, total=False):
    model: str | None
    """A URL or a model id, for this call."""
    timeout: TimeoutTypes
    """Timeouts in seconds, for this call; None: the client's."""
    extra_body: Mapping[str, Any] | None
    """Merged into the JSON body, for parameters that only this server has."""
    extra_headers: Mapping[str, str | None] | None
    """Sent with this request; they override the client's, and None takes one of them away."""


class TextGenerationOptions(TextGenerationParameters, _RequestOptions, total=False):
    """The keyword parameters of `text_generation`: the server's, and those of the request itself."""


class _ChatParametersWithoutTools(TypedDict, total=False):
    """`run_tools` has `tools` as a parameter of its own."""

    frequency_penalty: float | None
    """Makes tokens less likely the more often they have occurred, -2 to 2."""
    logit_bias: Mapping[str, float] | Sequence[float] | None
    """Added to the logits of tokens, by token id."""
    logprobs: bool | None
    """Return the log probability of every token."""
    max_completion_tokens: int | None
    """Maximum number of tokens to generate, reasoning included; the newer name of `max_tokens`."""
    max_tokens: int | None
    """Maximum number of tokens to generate."""
    n: int | None
    """Number of choices to generate."""
    parallel_tool_calls: bool | None
    """Whether the model may call several tools at once."""
    presence_penalty: float | None
    """Makes tokens that have occurred less likely, -2 to 2."""
    reasoning_effort: str | None
    """How much the model reasons: ``"low"``, ``"medium"``, ``"high"``, or a value of the server's own."""
    response_format: ChatCompletionInputGrammarType | Mapping[str, Any] | types.SchemaType | None
    """Constrains the content: OpenAI's format or TGI's, sent as it is; or a type, sent in OpenAI's format: a pydantic
    class, a dataclass, ``list[City]``, a union, or whatever else pydantic's TypeAdapter takes. Then the response has
    the object as `parsed`."""
    seed: int | None
    """Makes sampling repeatable."""
    stop: Sequence[str] | str | None
    """Generation ends before the first of these strings that would occur in the content (at TGI, after it)."""
    stream_options: ChatCompletionInputStreamOptions | Mapping[str, Any] | None
    """``{"include_usage": True}`` adds the usage at the end of a stream."""
    temperature: float | None
    """0 takes the most likely token each time; values below 1 make likely tokens more likely, values above 1 less."""
    tool_choice: (
        ChatCompletionInputToolChoiceClass
        | ChatCompletionInputToolChoiceEnum
        | Mapping[str, Any]
        | Callable[..., Any]
        | str
        | None
    )
    """Whether the model may, must or must not call a tool, or the one that it must call, by name or as in `tools`."""
    tool_prompt: str | None
    """TGI: text before the tools in the prompt."""
    top_logprobs: int | None
    """Return this many of the most likely tokens at every position; needs `logprobs`."""
    top_p: float | None
    """Sample from the most likely tokens that together have this probability, 0 to 1."""
    user: str | None
    """An id of your end user, for the server's records."""


class ChatCompletionParameters(_ChatParametersWithoutTools, total=False):
    """OpenAI's chat parameters, as TGI, vLLM and others take them. None is the same as leaving one out."""

    tools: Sequence[ChatCompletionInputTool | Mapping[str, Any] | Callable[..., Any]] | None
    """Functions that the model may call: in OpenAI's format, or as Python functions and pydantic classes, whose name,
    docstring and annotations are sent."""


class ChatCompletionOptions(ChatCompletionParameters, _RequestOptions, total=False):
    """The keyword parameters of `chat_completion`: the server's, and those of the request itself."""


class RunToolsOptions(_ChatParametersWithoutTools, _RequestOptions, total=False):
    """The keyword parameters of `run_tools`: those of `chat_completion`."""
