"""The bodies of TGI's own routes, read as strictly as TGI reads them.

Fields that TGI does not know are ignored, as TGI does. OpenAI's bodies (`openai`) become a `GenerateRequest` too.

Does not depend on HTTP; whether a value makes sense is checked in `validation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel

from .serde_types import F32, I32, U32, U64, Bool, Str, StrList, Usize


class GenerateParameters(BaseModel):
    """TGI's parameters. Where `None` is not among a field's types, TGI does not accept ``null`` either."""

    best_of: Usize | None = None
    temperature: F32 | None = None
    repetition_penalty: F32 | None = None
    frequency_penalty: F32 | None = None
    top_k: I32 | None = None
    top_p: F32 | None = None
    min_p: F32 | None = None
    """Not TGI's: vLLM's, and transformers'."""
    typical_p: F32 | None = None
    do_sample: Bool = False
    max_new_tokens: U32 | None = None
    return_full_text: Bool | None = None
    stop: StrList = []
    truncate: Usize | None = None
    watermark: Bool = False
    details: Bool = False
    decoder_input_details: Bool = False
    seed: U64 | None = None
    top_n_tokens: U32 | None = None
    grammar: Any = None
    adapter_id: Str | None = None

    @property
    def sampled(self) -> bool:
        """Whether tokens are sampled. As in TGI, most sampling parameters switch it on without `do_sample`."""
        given = self.top_k, self.top_p, self.min_p, self.typical_p
        return self.do_sample or self.temperature not in (None, 1.0) or given != (None, None, None, None)

    @property
    def generations(self) -> int:
        """How many times the prompt is continued."""
        return self.best_of or 1  # TGI takes 0 for 1

    @property
    def prompt_logprobs(self) -> bool:
        """Whether the log-probabilities of the prompt's tokens are reported."""
        return self.decoder_input_details

    @property
    def presence(self) -> float | None:
        """The presence penalty, which only OpenAI's routes have."""
        return None

    @property
    def top_n_limit(self) -> int | None:
        """How many of the likeliest tokens may be reported; None: as many as the server's setting says."""
        return None

    @property
    def biases(self) -> Mapping[str, float]:
        """What is added to the logits of some tokens, by their ids. Only OpenAI's routes have it."""
        return {}

    @property
    def unsupported(self) -> Sequence[str]:
        """Messages about what was requested, beyond TGI's parameters, and is not supported here."""
        return ()


class GenerateRequest(BaseModel):
    """The body of /generate, /generate_stream and /tokenize."""

    returns_full_text: ClassVar[bool] = False
    """Whether the response repeats the prompt unless `return_full_text` says otherwise."""
    add_special_tokens: ClassVar[bool] = True
    """Whether the tokenizer adds the model's special tokens, such as the first one, to `inputs`."""

    @property
    def token_ids(self) -> Sequence[int] | None:
        """The prompt, where it was given as token ids, and `inputs` is their text."""
        return None

    inputs: Str
    # Not the same as `{}`: in TGI a request without parameters is sampled.
    parameters: GenerateParameters = GenerateParameters(do_sample=True)


class TokenIdsRequest(GenerateRequest):
    """A request whose prompt was given as token ids, which only OpenAI's completions have."""

    ids: list[int]

    @property
    def token_ids(self) -> Sequence[int]:
        return self.ids


class CompatGenerateRequest(GenerateRequest):
    """The body of /. It repeats the prompt, as TGI's does for a model whose pipeline is text-generation."""

    returns_full_text: ClassVar[bool] = True

    stream: Bool = False
