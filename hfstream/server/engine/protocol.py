"""The interface of an engine: requests and sampling parameters in, token ids and failures out.

Does not depend on torch, text or HTTP, so that the rest of the server can import it cheaply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Literal, NamedTuple, Protocol


class UnsupportedModelError(ValueError):
    """A model that would generate wrong tokens here; the message says why."""


class EngineStoppedError(RuntimeError):
    """The engine was closed, or its model could not be loaded; the cause, if any, is `__cause__`."""


class ModelProcessError(RuntimeError):
    """The model process has ended by itself; the message says how."""


class GrammarError(RuntimeError):
    """A grammar that could not be followed any further; the message says why."""


class InvalidGrammarError(ValueError):
    """A grammar that no output can be made to fit here; the message says which part of it, and why."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Which model an engine runs, and how.

    Raises:
        ValueError: `max_batch_size` is out of range. What else is wrong is found when the model is loaded.
    """

    path: str | PathLike[str]
    """A checkpoint directory."""
    max_batch_size: int = 32
    """Requests that run at once; more wait for their turn."""
    dtype: str = "float32"
    """float32, bfloat16 or float16, whatever the checkpoint is stored in."""
    device: str = "cpu"
    threads: int = 1
    """torch's intra-op threads; one is fastest for small models."""
    max_total_tokens: int | None = None
    """A context shorter than the model's own."""
    kv_cache_memory: int | None = None
    """Bytes that keys and values may take, those included that are kept for later requests. None: a quarter of the
    memory. If it is less than a whole context needs, the context is shorter."""

    def __post_init__(self) -> None:
        if self.max_batch_size < 1:
            raise ValueError(f"max_batch_size must be at least 1, not {self.max_batch_size}")


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one request's tokens are chosen; already validated.

    `None` means off. `temperature`, `top_k`, `top_p`, `min_p` and `typical_p` count only with `do_sample`; otherwise
    decoding is greedy.
    """

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float = 0.0
    typical_p: float | None = None
    watermark: bool = False
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Ids below the model's `vocab_size`, and what is added to their logits."""
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    """Any u64; required with `do_sample`."""
    top_n_tokens: int = 0
    """How many of the likeliest tokens are reported at each step."""

    @property
    def has_penalties(self) -> bool:
        """Whether the next token depends on how often each token occurred so far."""
        return (self.repetition_penalty, self.frequency_penalty, self.presence_penalty) != (1.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a request's output must fit."""

    kind: Literal["json_schema", "regex", "lark"]
    source: str
    """A JSON schema as JSON, a regular expression, or a grammar in llguidance's variant of Lark's format."""


@dataclass(slots=True, eq=False)
class EngineRequest:
    """One generation. Requests are compared and hashed by identity; the engine gives them no other id."""

    prompt: Sequence[int]
    """1 to `max_total_tokens` ids."""
    max_new_tokens: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    prompt_logprobs: bool = False
    """Whether the log-probabilities of the prompt's tokens are reported with the first token."""
    grammar: Grammar | None = None
    """Whether it can be followed is known later: its first output is a `RequestAccepted`, or fails it."""
    cancelled: bool = False
    """Set by `cancel`."""


class PromptLogprob(NamedTuple):
    """The log-probability of one token of a prompt, given those before it: the model's, without sampling parameters."""

    logprob: float | None
    """None for the first token, and if not finite."""
    top: tuple[tuple[int, float | None], ...] = ()
    """(id, logprob) of the likeliest tokens in its place, likeliest first; empty without `top_n_tokens`."""


@dataclass(frozen=True, slots=True)
class RequestAccepted:
    """The grammar of a request has been compiled, and the request waits for its turn. Tokens follow."""

    request: EngineRequest


@dataclass(frozen=True, slots=True)
class TokenOutput:
    """One generated token of a request.

    Log-probabilities are natural, of the distribution after biases, penalties and warpers; `None` if not finite.
    """

    request: EngineRequest
    token: int
    logprob: float | None
    top: tuple[tuple[int, float | None], ...]
    """(id, logprob) of the likeliest tokens, likeliest first; empty without `top_n_tokens`."""
    last: bool
    """No more tokens follow: `max_new_tokens` or the context is used up, or `token` is an EOS id."""
    prompt: tuple[PromptLogprob, ...] = ()
    """One for each token of the prompt, with the first output of a request with `prompt_logprobs`."""


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """A request that could not be finished; no more tokens follow."""

    request: EngineRequest
    error: Exception


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Properties of the loaded model."""

    architecture: str
    """transformers' model_type, such as "llama"."""
    max_total_tokens: int
    """The context length: tokens of prompt and output together. Not more than the memory for keys and values holds."""
    eos_ids: frozenset[int]
    vocab_size: int
    dtype: str
    device: str
    parameters: int
    cache_tokens: int = 0
    """Tokens of all requests whose keys and values fit into memory together."""


Output = TokenOutput | RequestAccepted | RequestFailed
OnOutputs = Callable[[list[Output]], None]
OnReady = Callable[[ModelInfo], None]
OnRestart = Callable[[BaseException], None]
OnFailure = Callable[[BaseException], None]


class EngineProtocol(Protocol):
    """What the server needs of an engine: `engine.Engine`, or a scripted one in tests."""

    def start(
        self, *, on_outputs: OnOutputs, on_ready: OnReady, on_restart: OnRestart, on_failure: OnFailure
    ) -> None: ...

    def set_tokenizer(self, tokenizer: str, eos_ids: frozenset[int]) -> None:
        """What grammars are compiled with: the content of tokenizer.json, and the tokens that end a text.

        Called after each `on_ready`, before requests with a grammar are submitted.
        """
        ...

    def submit(self, request: EngineRequest) -> None: ...

    def cancel(self, request: EngineRequest) -> None: ...

    def close(self, timeout: float | None = ...) -> None: ...

    @property
    def running(self) -> int: ...
