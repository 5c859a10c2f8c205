"""The body of OpenAI's completions, and the TGI request that it becomes. Does not depend on HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator

from hfstream.errors import ValidationError

from .openai import OpenAIParameters, OpenAIRequest
from .sampling_defaults import SamplingDefaults
from .serde_errors import serde_error
from .serde_types import U32, Bool, StrList, Usize, string_or_list


def _not_empty(prompts: list[str]) -> list[str]:
    if not prompts:
        raise serde_error("Empty array detected. Do not use an empty array for the prompt.")
    return prompts


class CompletionRequest(OpenAIRequest):
    """The body of /v1/completions. The last four fields are TGI's: @huggingface/inference sends them to this route."""

    prompt: Annotated[StrList, AfterValidator(_not_empty), string_or_list("a string or a list of strings", null=False)]
    suffix: Any = None
    echo: Bool | None = None
    best_of: Usize | None = None
    logprobs: U32 | None = None
    truncate: Usize | None = None
    watermark: Bool | None = None
    do_sample: Bool | None = None

    def field_names(self) -> dict[str, str]:
        return {**super().field_names(), "inputs": "prompt", "top_n_tokens": "logprobs"}

    def single_prompt(self) -> str:
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

    def to_parameters(self, defaults: SamplingDefaults | None = None) -> OpenAIParameters:
        parameters = super().to_parameters(defaults)
        update = {
            "best_of": self.best_of,
            "top_n_tokens": self.logprobs,
            "truncate": self.truncate,
            "watermark": bool(self.watermark),
            "do_sample": self.do_sample is not False,
        }
        return parameters.model_copy(update=update)

    def _unsupported(self) -> list[str]:
        return ["`echo` is not supported"] * bool(self.echo) + super()._unsupported()
