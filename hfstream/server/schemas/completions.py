"""The body of OpenAI's completions, and the TGI request that it becomes. Does not depend on HTTP."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import BeforeValidator, FailFast, PlainValidator

from hfstream.errors import ValidationError

from .openai import OpenAIParameters, OpenAIRequest
from .sampling_defaults import SamplingDefaults
from .serde_errors import serde_error, wrong_type
from .serde_types import U32, Bool, Usize

MAX_BEST_OF = 20
"""OpenAI's limit of `best_of`."""
MAX_ID = 2**32 - 1


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _prompts(value: object) -> object:
    """One prompt, a text or a list of token ids, becomes a list of one."""
    match value:
        case str():
            return [value]
        case []:
            raise serde_error("Empty array detected. Do not use an empty array for the prompt.")
        case list():
            items = cast("list[object]", value)
            return [items] if _is_id(items[0]) else items
        case _:
            raise wrong_type(value, "a string or a list of strings")


def _prompt(value: object) -> object:
    match value:
        case str():
            return value
        case list():
            ids = cast("list[object]", value)
            for each in ids:
                if not _is_id(each):
                    raise wrong_type(each, "a token id")
            return ids
        case _:
            raise wrong_type(value, "a string or a list of token ids")


_PROMPT_TYPES: Any = str | list[str] | list[int] | list[list[int]]
Prompt = Annotated[str | list[int], PlainValidator(_prompt, json_schema_input_type=str | list[int])]


class CompletionRequest(OpenAIRequest):
    """The body of /v1/completions. The last four fields are TGI's: @huggingface/inference sends them to this route."""

    prompt: Annotated[list[Prompt], FailFast(), BeforeValidator(_prompts, json_schema_input_type=_PROMPT_TYPES)]
    """A text, or a list of token ids; or several of these."""
    suffix: Any = None
    echo: Bool | None = None
    best_of: Usize | None = None
    logprobs: U32 | None = None
    truncate: Usize | None = None
    watermark: Bool | None = None
    do_sample: Bool | None = None

    def field_names(self) -> dict[str, str]:
        return {**super().field_names(), "inputs": "prompt", "top_n_tokens": "logprobs"}

    def prompts(self, *, max_prompts: int = 1) -> list[str | list[int]]:
        """The prompts: texts, or token ids.

        Raises:
            ValidationError: they are too many, or there is a suffix.
        """
        if self.suffix is not None:
            raise ValidationError(
                "Suffix is not supported and can be achieved by preprocessing the prompt.",
                error_type="suffix not supported",
            )
        if len(self.prompt) > max_prompts:
            raise ValidationError(
                f"Number of prompts exceeds the maximum allowed batch size of {max_prompts}",
                error_type="batch size exceeded",
            )
        return self.prompt

    @property
    def generates_nothing(self) -> bool:
        """Whether only the prompt is returned, perhaps with its log-probabilities: `echo` and no tokens."""
        return bool(self.echo) and self.max_tokens == 0

    def _generations(self) -> int:
        """How many generations the choices are the best of."""
        choices = self.choices()
        best_of = self.best_of or choices
        if best_of > MAX_BEST_OF and best_of > choices:
            raise ValidationError(
                f"Input validation error: `best_of` must be > 0 and <= {MAX_BEST_OF}. Given: {best_of}"
            )
        if best_of < choices:
            raise ValidationError(f"Input validation error: `best_of` must be >= `n`. Given: {best_of} and {choices}")
        if best_of > choices and self.stream:
            raise ValidationError("Input validation error: `best_of` > `n` is not supported when streaming tokens")
        return best_of

    def to_parameters(self, defaults: SamplingDefaults | None = None) -> OpenAIParameters:
        parameters = super().to_parameters(defaults)
        update = {
            "generations_per_prompt": self._generations(),
            "top_n_tokens": self.logprobs,
            "truncate": self.truncate,
            "watermark": bool(self.watermark),
            "do_sample": self.do_sample is not False,
            "return_full_text": bool(self.echo),
            "reports_prompt": bool(self.echo) and self.logprobs is not None,
            # The engine generates one token at least; it is not returned then.
            "max_new_tokens": 1 if self.generates_nothing else parameters.max_new_tokens,
        }
        return parameters.model_copy(update=update)
