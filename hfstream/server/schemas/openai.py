"""OpenAI's two bodies, and the TGI request that each of them comes to: so TGI's rules hold for them, in TGI's words.

A null means "not given" wherever a field may be left out: OpenAI's clients send them, and TGI's reader, which refuses
some, is alone with that. Refuses to know templates: a conversation is handed on as what a template reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Self, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FailFast, model_validator

from hfstream.errors import ValidationError

from .serde_errors import duplicate, serde_error, wrong_type
from .tgi import (
    F32,
    I32,
    U32,
    U64,
    Bool,
    GenerateParameters,
    GenerateRequest,
    Str,
    StrList,
    Usize,
)

# --- what they come to -----------------------------------------------------------------------------------------------


class OpenAIParameters(GenerateParameters):
    """TGI's parameters, and what OpenAI's bodies can say beyond them."""

    presence_penalty: F32 | None = None
    greedy: bool = False
    """A temperature of 0: no other wish switches sampling on."""
    unsupported: tuple[str, ...] = ()

    @property
    def sampled(self) -> bool:
        return not self.greedy and super().sampled

    @property
    def presence(self) -> float | None:
        return self.presence_penalty

    @property
    def unsupported_reasons(self) -> Sequence[str]:
        return self.unsupported


class TemplatedRequest(GenerateRequest):
    """A conversation as its template writes it, special tokens included."""

    add_special_tokens: ClassVar[bool] = False


# --- what they have in common ----------------------------------------------------------------------------------------


def _one_or_more(expected: str, item: Callable[[str], object] = str, *, null: bool = True) -> BeforeValidator:
    """Makes a list of a string, and of null where it may be one."""

    def read(value: object) -> object:
        match value:
            case str():
                return [item(value)]
            case list():
                return cast("object", value)
            case None if null:
                return []
            case _:
                raise wrong_type(value, expected)

    return BeforeValidator(read)


class StreamOptions(BaseModel):
    """What a stream is to say besides the answer."""

    include_usage: Bool | None = None


class OpenAIRequest(BaseModel):
    """The fields that both bodies have. A top_p of 1 leaves nothing out: here it is off, TGI refuses it."""

    model: Str | None = None
    stream: Bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: U32 | None = None
    temperature: F32 | None = None
    top_p: F32 | None = None
    seed: U64 | None = None
    stop: Annotated[StrList, _one_or_more("a string or a list of strings")] = []
    frequency_penalty: F32 | None = None
    presence_penalty: F32 | None = None
    n: U32 | None = None
    logit_bias: Any = None
    grammar: Any = None
    response_format: Any = None

    @property
    def with_usage(self) -> bool:
        """Whether a stream is to end with an account of its tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def parameters(self) -> OpenAIParameters:
        """How to answer, in TGI's terms."""
        greedy = self.temperature == 0
        return OpenAIParameters(
            max_new_tokens=self.max_tokens,
            do_sample=True,
            greedy=greedy,
            temperature=None if greedy else self.temperature,
            top_p=None if self.top_p == 1 else self.top_p,
            seed=self.seed,
            stop=self.stop,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            details=True,  # the last event is to say why the answer ended, and what it took
            grammar=self._grammar(),
            unsupported=tuple(self._unsupported()),
        )

    def _grammar(self) -> Any:
        match self.response_format:
            case {"type": "text"}:
                return self.grammar
            case form:
                return form if self.grammar is None else self.grammar

    def _unsupported(self) -> list[str]:
        found: list[str] = []
        if self.n not in (None, 1):
            found.append("`n` != 1 is not supported")
        if self.logit_bias:
            found.append("`logit_bias` is not supported")
        return found


# --- chat ------------------------------------------------------------------------------------------------------------


class ContentPart(BaseModel):
    """A piece of a message's content."""

    type: Str
    text: Str | None = None


def _text_part(text: str) -> ContentPart:
    return ContentPart(type="text", text=text)


class Message(BaseModel):
    """What somebody has said. Fields that are not known here, such as `tool_calls`, are the template's to read."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    role: Str
    content: Annotated[list[ContentPart], FailFast(), _one_or_more("a string or a list of parts", _text_part)] = []

    @property
    def is_continued(self) -> bool:
        """Whether, as the last one, it is the beginning of the answer."""
        return self.role == "assistant" and bool(self.content)

    def to_template(self) -> dict[str, Any]:
        """The message as templates read it: one text, and nothing that says nothing (they ask for ``tool_calls in``).

        Raises:
            ValidationError: some of it is no text.
        """
        for part in self.content:
            if part.type != "text":
                raise ValidationError(
                    f"Input validation error: `messages` with parts of type `{part.type}` are not supported, "
                    "this model reads text only"
                )
        text = "".join(part.text or "" for part in self.content) if self.content else None
        fields = {name: value for name, value in (self.model_extra or {}).items() if value not in (None, [])}
        return {**fields, "role": self.role, "content": text}


class ChatRequest(OpenAIRequest):
    """The body of /v1/chat/completions and /chat_tokenize."""

    messages: Annotated[list[Message], FailFast()]
    max_completion_tokens: U32 | None = None
    logprobs: Bool | None = None
    top_logprobs: U32 | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise duplicate("max_tokens", "max_tokens", "max_completion_tokens")
        return self

    def template_messages(self) -> list[dict[str, Any]]:
        """The messages, as templates read them.

        Raises:
            ValidationError: there are none, or some are no text.
        """
        if not self.messages:
            raise ValidationError("Input validation error: `messages` cannot be empty")
        return [message.to_template() for message in self.messages]

    def parameters(self) -> OpenAIParameters:
        params = super().parameters()
        length = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return params.model_copy(update={"max_new_tokens": length, "top_n_tokens": self.top_logprobs})

    def _unsupported(self) -> list[str]:
        tools = ["grammar is not supported, and `tools` need one"] if self.tools and self.tool_choice != "none" else []
        return tools + super()._unsupported()


# --- completions -----------------------------------------------------------------------------------------------------


def _not_empty(prompts: list[str]) -> list[str]:
    if not prompts:
        raise serde_error("Empty array detected. Do not use an empty array for the prompt.")
    return prompts


class CompletionRequest(OpenAIRequest):
    """The body of /v1/completions. The last six are TGI's: @huggingface/inference posts what is meant for TGI here."""

    prompt: Annotated[StrList, AfterValidator(_not_empty), _one_or_more("a string or a list of strings", null=False)]
    suffix: Any = None
    echo: Bool | None = None
    best_of: Usize | None = None
    logprobs: U32 | None = None
    repetition_penalty: F32 | None = None
    top_k: I32 | None = None
    typical_p: F32 | None = None
    truncate: Usize | None = None
    watermark: Bool | None = None
    do_sample: Bool | None = None

    def text(self) -> str:
        """The one prompt.

        Raises:
            ValidationError: there is more than one, or a suffix.
        """
        if self.suffix is not None:
            raise ValidationError(
                "Suffix is not supported and can be achieved by preprocessing the prompt.",
                error_type="suffix not supported",
            )
        if len(self.prompt) > 1:
            raise ValidationError(
                "Number of prompts exceeds the maximum allowed batch size of 1", error_type="batch size exceeded"
            )
        return self.prompt[0]

    def parameters(self) -> OpenAIParameters:
        own = {
            "best_of": self.best_of,
            "top_n_tokens": self.logprobs,
            "repetition_penalty": self.repetition_penalty,
            "top_k": self.top_k,
            "typical_p": self.typical_p,
            "truncate": self.truncate,
            "watermark": bool(self.watermark),
            "do_sample": self.do_sample is not False,
        }
        return super().parameters().model_copy(update=own)

    def _unsupported(self) -> list[str]:
        return ["`echo` is not supported"] * bool(self.echo) + super()._unsupported()
