"""What the rest of the server knows of an engine: requests and sampling parameters in, token ids and failures out.

Does not depend on torch, text or HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class UnsupportedModelError(ValueError):
    """A model whose text would come out wrong here; the message says why."""


class EngineStoppedError(RuntimeError):
    """The engine was closed, or its model could not be loaded; the cause, if any, is `__cause__`."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """One request's wishes, already validated. `None` is off; temperature, top_k, top_p count only with `do_sample`."""

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    """Any u64; required with `do_sample`."""
    top_n_tokens: int = 0

    @property
    def has_penalties(self) -> bool:
        """Whether the tokens read and said so far matter to the next one."""
        return (self.repetition_penalty, self.frequency_penalty, self.presence_penalty) != (1.0, 0.0, 0.0)

    @property
    def has_truncation(self) -> bool:
        """Whether some tokens are excluded before one is drawn."""
        return self.top_k is not None or self.top_p is not None


@dataclass(slots=True, eq=False)
class EngineRequest:
    """One answer being made. Its identity is its key; the engine keeps no other."""

    prompt: Sequence[int]
    """1 to `max_total_tokens` ids."""
    max_new_tokens: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    cancelled: bool = False
    """Set by `Engine.cancel`."""


@dataclass(frozen=True, slots=True)
class TokenOutput:
    """One more token of a job. Log-probabilities (natural) are of the distribution as warped; `None` if not finite."""

    request: EngineRequest
    token: int
    logprob: float | None
    top: tuple[tuple[int, float | None], ...]
    """(id, logprob) of the likeliest tokens, likeliest first, if the job asked for them."""
    last: bool
    """No more will come: `max_new_tokens` or the context is used up, or `token` is an EOS id."""


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """The end of a job that could not be finished."""

    request: EngineRequest
    error: Exception


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What was loaded."""

    architecture: str
    """transformers' model_type, such as "llama"."""
    max_total_tokens: int
    """Tokens of prompt and answer together."""
    eos_ids: frozenset[int]
    vocab_size: int
    dtype: str
    device: str
    parameters: int


OnOutputs = Callable[[list[TokenOutput | RequestFailed]], None]
OnReady = Callable[[ModelInfo], None]
OnFailure = Callable[[BaseException], None]


class EngineProtocol(Protocol):
    """What is asked of an engine (`engine.Engine`; tests have their own)."""

    def start(
        self,
        *,
        on_outputs: Callable[[list[TokenOutput | RequestFailed]], None],
        on_ready: Callable[[ModelInfo], None],
        on_failure: Callable[[BaseException], None],
    ) -> None: ...

    def submit(self, request: EngineRequest) -> None: ...

    def cancel(self, request: EngineRequest) -> None: ...

    def close(self, timeout: float | None = ...) -> None: ...

    @property
    def running(self) -> int: ...
