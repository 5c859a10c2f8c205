"""Tiny models with random weights, one per architecture, saved as checkpoints; an engine that records its outputs."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Generator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from hfstream.server.engine.engine import Engine
from hfstream.server.engine.model_runner import ModelRunner
from hfstream.server.engine.protocol import (
    EngineOptions,
    EngineRequest,
    ModelInfo,
    Output,
    RequestAccepted,
    RequestFailed,
    TokenOutput,
)
from hfstream.server.engine.worker import Command, Report, run

torch.set_num_threads(1)  # more are slower at this size

VOCAB = 64
CONTEXT = 640
ROWS = 4
"""The batch size of the tests' engines, unless they need another one."""

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "initializer_range": 0.6,  # large, so that tokens differ and ties are improbable
}
_GATED: dict[str, Any] = {**_COMMON, "intermediate_size": 64, "num_key_value_heads": 2}

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _GATED,
    "gpt2": _COMMON,
    "gpt_neox": {**_COMMON, "intermediate_size": 64},
    "opt": {**_COMMON, "ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.6},
    "qwen2": _GATED,
    "qwen3": {**_GATED, "head_dim": 16},
    "mistral": {**_GATED, "sliding_window": None},
    "mixtral": {**_GATED, "sliding_window": None, "num_local_experts": 4, "num_experts_per_tok": 2},
    "phi3": _GATED,
    "smollm3": _GATED,
    "olmo2": _GATED,
    "falcon": {**_COMMON, "alibi": False, "multi_query": True},
}
"""Supported architectures: model_type to its configuration."""


def make_model(architecture: str = "llama", **changes: Any) -> Any:
    """A model with random weights, the same each time, in eval mode."""
    config = {**CONFIGS.get(architecture, _COMMON), **changes}
    torch.manual_seed(1)
    auto: Any = AutoModelForCausalLM  # transformers is half typed
    model = auto.from_config(AutoConfig.for_model(architecture, **config))
    return model.float().eval()


def save_model(
    folder: Path, architecture: str = "llama", *, dtype: torch.dtype = torch.float32, **changes: Any
) -> Path:
    """Save such a model as a checkpoint in `folder`, stored in `dtype`; returns the folder."""
    make_model(architecture, **changes).to(dtype).save_pretrained(folder)
    return folder


def reference(model: Any, prompt: list[int], steps: int, **params: Any) -> list[int]:
    """The tokens of transformers' own `generate()`, greedy unless `params` say otherwise."""
    ids = torch.tensor([prompt])
    params = {"do_sample": False, "max_new_tokens": steps, "pad_token_id": 0, **params}
    tokens: list[list[int]] = model.generate(ids, attention_mask=torch.ones_like(ids), **params).tolist()
    return tokens[0][len(prompt) :]


def prompt_of(length: int, seed: int = 0) -> list[int]:
    """`length` ids, the same for the same seed."""
    return torch.randint(0, VOCAB, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


class WorkerOnThread:
    """A worker on the engine's own thread, where tests can reach into it."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._inbox: SimpleQueue[Command | None] = SimpleQueue()

    def send(self, command: Command) -> None:
        self._inbox.put(command)

    def reports(self) -> Generator[Report]:
        return run(self._options, self._inbox)

    def kill(self) -> None:
        self._inbox.put(None)

    def close(self) -> None:
        """Nothing belongs to it."""


class RunningEngine:
    """An engine that runs while its `with` block lasts, and everything it has delivered."""

    def __init__(
        self,
        path: Path,
        *,
        on_delivery: Callable[[list[Output]], None] | None = None,
        launch: Callable[[EngineOptions], Any] = WorkerOnThread,
        **options: Any,
    ) -> None:
        """`on_delivery`: called on the engine's thread with what is delivered next. `options`: those of the engine."""
        self._other_threads = engine_threads()
        self.engine = Engine(EngineOptions(path, **options), launch=launch)
        self.deliveries: list[list[Output]] = []
        self.info: ModelInfo | None = None
        self.failure: BaseException | None = None
        self.restarts: list[BaseException] = []
        self.on_delivery = on_delivery
        self._outputs: dict[EngineRequest, list[Output]] = defaultdict(list)
        self._changed = threading.Condition()
        self._submitting = threading.RLock()

    def start(self) -> None:
        """Start without waiting for the model."""
        self.engine.start(
            on_outputs=self._on_outputs,
            on_ready=self._on_ready,
            on_restart=self._on_restart,
            on_failure=self._on_failure,
        )

    def __enter__(self) -> Self:
        self.start()
        self.wait_until(lambda: self.info is not None or self.failure is not None)
        if self.failure is not None:
            raise self.failure
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        assert not self.threads()

    def threads(self) -> set[threading.Thread]:
        """The live engine threads that did not exist before; other tests have engines too, some for a whole session."""
        return engine_threads() - self._other_threads

    def wait_until(self, condition: Callable[[], bool], timeout: float = 120.0) -> None:
        """Wait for something that a callback makes true."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout), f"not true after {timeout} seconds"

    def submit(self, *requests: EngineRequest) -> None:
        """Submit several requests together: the engine delivers at most one step before it has the last of them."""
        with self._submitting:
            for request in requests:
                self.engine.submit(request)

    def cancel(self, request: EngineRequest) -> None:
        self.engine.cancel(request)

    def close(self) -> None:
        self.engine.close()

    @property
    def running(self) -> int:
        return self.engine.running

    def outputs(self, request: EngineRequest) -> list[Output]:
        """All that was delivered for a request, once it has ended."""
        self.wait_until(lambda: any(map(_is_last, self._outputs[request])))
        return self._outputs[request]

    def token_outputs(self, request: EngineRequest) -> list[TokenOutput]:
        """The outputs of a request that must not fail."""
        return [_token_output(output) for output in self.outputs(request) if not isinstance(output, RequestAccepted)]

    def tokens(self, request: EngineRequest) -> list[int]:
        """The tokens of a request that must not fail."""
        return [output.token for output in self.token_outputs(request)]

    def error(self, request: EngineRequest) -> Exception:
        """The error of a request that must fail."""
        (*_, failure) = self.outputs(request)
        assert isinstance(failure, RequestFailed)
        return failure.error

    def generate(self, request: EngineRequest) -> list[int]:
        """Submit a request, and wait for its tokens."""
        self.submit(request)
        return self.tokens(request)

    def deliveries_of(self, request: EngineRequest) -> list[int]:
        """The indices of the deliveries that had an output of this request."""
        return [i for i, outputs in enumerate(self.deliveries) if any(output.request is request for output in outputs)]

    def _on_outputs(self, outputs: list[Output]) -> None:
        with self._submitting:
            if self.on_delivery is not None:
                self.on_delivery(outputs)
        with self._changed:
            self.deliveries.append(outputs)
            for output in outputs:
                self._outputs[output.request].append(output)
            self._changed.notify_all()

    def _on_ready(self, info: ModelInfo) -> None:
        with self._changed:
            self.info = info
            self._changed.notify_all()

    def _on_restart(self, reason: BaseException) -> None:
        with self._changed:
            self.info = None
            self.restarts.append(reason)
            self._changed.notify_all()

    def _on_failure(self, error: BaseException) -> None:
        with self._changed:
            self.failure = error
            self._changed.notify_all()


def _is_last(output: Output) -> bool:
    return isinstance(output, RequestFailed) or (isinstance(output, TokenOutput) and output.last)


def _token_output(output: TokenOutput | RequestFailed) -> TokenOutput:
    if isinstance(output, RequestFailed):
        raise output.error
    return output


def is_clean(runner: ModelRunner) -> bool:
    """Whether no row of the slabs is taken, and the memory of all rows is zero."""
    slabs = [slab for slabs in runner.cache._slabs.values() for slab in slabs]
    return all(slab.unused for slab in slabs) and not any(
        states.any() for slab in slabs for states in (*slab.keys, *slab.values)
    )


def engine_threads() -> set[threading.Thread]:
    """The live engine threads of this process, including those of other tests."""
    return {thread for thread in threading.enumerate() if thread.name == "hfstream-engine"}
