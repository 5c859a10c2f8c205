"""The body of OpenAI's chats, what it has in common with others of OpenAI's, and the TGI request that each becomes.

So TGI's rules and messages hold for them.

A null means "not given" wherever a field may be left out. OpenAI's clients send such nulls; TGI refuses some of them.

Does not depend on HTTP or on chat templates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, FailFast, model_validator

from hfstream.errors import ValidationError

from .grammar import parse_grammar
from .messages import Message
from .sampling_defaults import SamplingDefaults
from .serde_errors import duplicate_field
from .serde_types import F32, I32, U32, U64, Bool, FloatMap, Str, StrList, string_or_list
from .tgi import GenerateParameters, GenerateRequest
from .tools import ToolUse, parse_tools

MAX_MODEL_NAME = 1_024
"""Characters of `model`, which each event of a response repeats."""
MAX_TOP_LOGPROBS = 20
"""OpenAI's limit of a chat's `top_logprobs`."""
MAX_CHOICES = 128
"""OpenAI's limit of `n`."""
ValueT = TypeVar("ValueT")

# --- what they become ------------------------------------------------------------------------------------------------


class OpenAIParameters(GenerateParameters):
    """TGI's parameters, and what OpenAI's bodies can request beyond them."""

    presence_penalty: F32 | None = None
    logit_bias: FloatMap | None = None
    max_top_n_tokens: int | None = None
    reports_prompt: bool = False
    """Whether the log-probabilities of the prompt's tokens are part of the response."""
    generations_per_prompt: int = 1
    """How many times the prompt is continued."""
    greedy: bool = False
    """The temperature is 0: no other parameter switches sampling on."""
    unsupported_options: tuple[str, ...] = ()

    @property
    def sampled(self) -> bool:
        return not self.greedy and super().sampled

    @property
    def generations(self) -> int:
        return self.generations_per_prompt

    @property
    def prompt_logprobs(self) -> bool:
        return self.reports_prompt

    @property
    def presence(self) -> float | None:
        return self.presence_penalty

    @property
    def top_n_limit(self) -> int | None:
        return self.max_top_n_tokens

    @property
    def biases(self) -> Mapping[str, float]:
        return self.logit_bias or {}

    @property
    def unsupported(self) -> Sequence[str]:
        return self.unsupported_options


class TemplatedRequest(GenerateRequest):
    """A conversation as its chat template renders it, special tokens included."""

    add_special_tokens: ClassVar[bool] = False


def _first(value: ValueT | None, default: ValueT | None) -> ValueT | None:
    return default if value is None else value


# --- what they have in common ----------------------------------------------------------------------------------------


class StreamOptions(BaseModel):
    """What a stream reports besides the text."""

    include_usage: Bool | None = None


class OpenAIRequest(BaseModel):
    """The fields that both bodies have. Those after `logit_bias` are not OpenAI's, but TGI's or vLLM's.

    A `top_p` or `typical_p` of 1 excludes no token: here it means off, TGI refuses it.
    """

    model: Str | None = None
    stream: Bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: U32 | None = None
    temperature: F32 | None = None
    top_p: F32 | None = None
    seed: U64 | None = None
    stop: Annotated[StrList, string_or_list("a string or a list of strings")] = []
    frequency_penalty: F32 | None = None
    presence_penalty: F32 | None = None
    n: U32 | None = None
    logit_bias: FloatMap | None = None
    repetition_penalty: F32 | None = None
    top_k: I32 | None = None
    min_p: F32 | None = None
    typical_p: F32 | None = None
    grammar: Any = None
    response_format: Any = None

    def field_names(self) -> dict[str, str]:
        """The fields by the names of the parameters of TGI's that they become."""
        names = {"max_new_tokens": "max_tokens"}
        return names if self.grammar is not None else {**names, "grammar": "response_format"}

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that reports the number of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def to_parameters(self, defaults: SamplingDefaults | None = None) -> OpenAIParameters:
        """The request's options as TGI's parameters. `defaults`: the model's, for what the request leaves out.

        Raises:
            ValidationError: it asks for too many choices, or for none.
        """
        greedy = self.temperature == 0
        defaults = defaults or SamplingDefaults()
        top_p = defaults.top_p if self.top_p is None else self.top_p
        return OpenAIParameters(
            max_new_tokens=self.max_tokens,
            do_sample=True,
            greedy=greedy,
            temperature=None if greedy else defaults.temperature if self.temperature is None else self.temperature,
            top_p=None if top_p == 1 else top_p,
            top_k=_first(self.top_k, defaults.top_k),
            min_p=self.min_p,
            typical_p=None if self.typical_p == 1 else self.typical_p,
            repetition_penalty=_first(self.repetition_penalty, defaults.repetition_penalty),
            seed=self.seed,
            stop=self.stop,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            logit_bias=self.logit_bias,
            generations_per_prompt=self.choices(),
            details=True,  # finish reason and usage are read from the last event's details
            grammar=self._grammar(),
            unsupported_options=tuple(self._unsupported()),
        )

    def choices(self) -> int:
        """How many responses to the same prompt.

        Raises:
            ValidationError: `n` is out of its range.
        """
        if self.n is None:
            return 1
        if not 0 < self.n <= MAX_CHOICES:
            raise ValidationError(f"Input validation error: `n` must be > 0 and <= {MAX_CHOICES}. Given: {self.n}")
        return self.n

    def _grammar(self) -> Any:
        return self.response_format if self.grammar is None else self.grammar

    def _unsupported(self) -> list[str]:
        messages: list[str] = []
        if self.model is not None and len(self.model) > MAX_MODEL_NAME:
            messages.append(f"`model` must have at most {MAX_MODEL_NAME} characters. Given: {len(self.model)}")
        return messages


# --- chat ------------------------------------------------------------------------------------------------------------


class ChatRequest(OpenAIRequest):
    """The body of /v1/chat/completions and /chat_tokenize."""

    messages: Annotated[list[Message], FailFast()]
    max_completion_tokens: U32 | None = None
    logprobs: Bool | None = None
    top_logprobs: U32 | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: Bool | None = None
    add_generation_prompt: Bool | None = None
    continue_final_message: Bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def field_names(self) -> dict[str, str]:
        limit = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        names = {**super().field_names(), "max_new_tokens": limit, "inputs": "messages", "top_n_tokens": "top_logprobs"}
        return names if self._grammar() is not None else {**names, "grammar": "tools"}

    @model_validator(mode="after")
    def _one_token_limit(self) -> Self:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise duplicate_field("max_tokens", "max_tokens", "max_completion_tokens")
        return self

    def template_messages(self) -> list[dict[str, Any]]:
        """The messages as chat templates read them.

        Raises:
            ValidationError: there is no message, or a content part is not text.
        """
        if not self.messages:
            raise ValidationError("Input validation error: `messages` cannot be empty")
        if self.add_generation_prompt and self.continue_final_message:
            raise ValidationError(
                "Input validation error: `add_generation_prompt` and `continue_final_message` cannot both be true"
            )
        return [message.to_template() for message in self.messages]

    @property
    def continues_final_message(self) -> bool:
        """Whether the last message is the beginning of the response. Expects at least one message.

        Without the two fields that vLLM has for it: whether it is one of the assistant, as in TGI.
        """
        if self.continue_final_message is not None or self.add_generation_prompt is not None:
            return bool(self.continue_final_message)
        last = self.messages[-1]
        return last.role == "assistant" and any(part.text for part in last.content)

    def to_parameters(self, defaults: SamplingDefaults | None = None) -> OpenAIParameters:
        limit = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        update = {
            "max_new_tokens": limit,
            "top_n_tokens": self.top_logprobs,
            "max_top_n_tokens": MAX_TOP_LOGPROBS,
        }
        return super().to_parameters(defaults).model_copy(update=update)

    def tool_use(self) -> ToolUse | None:
        """The functions that may be called, if any.

        Raises:
            ValidationError: something is no tool, or there is a grammar as well.
        """
        use = parse_tools(self.tools, self.tool_choice, parallel=self.parallel_tool_calls)
        if use is not None and parse_grammar(self._grammar()) is not None:
            raise ValidationError("Tool error: Grammar and tools are mutually exclusive", error_type="tool_error")
        return use
