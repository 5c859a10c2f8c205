"""Tiny models with random weights, one per architecture, saved as checkpoints; and an engine on one, listened to."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Self

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from hfstream.server.engine.protocol import EngineRequest, ModelInfo, RequestFailed, TokenOutput
from hfstream.server.engine.worker import Engine

torch.set_num_threads(1)  # more only get in each other's way at this size

VOCAB = 64
CONTEXT = 640

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
"""Architectures that are served: model_type to its configuration."""


def make_model(architecture: str = "llama", **changes: Any) -> Any:
    """A model with random weights, the same each time, in eval mode."""
    wishes = {**CONFIGS.get(architecture, _COMMON), **changes}
    torch.manual_seed(1)
    auto: Any = AutoModelForCausalLM  # transformers is half typed
    model = auto.from_config(AutoConfig.for_model(architecture, **wishes))
    return model.float().eval()


def save_model(
    folder: Path, architecture: str = "llama", *, dtype: torch.dtype = torch.float32, **changes: Any
) -> Path:
    """Save such a model as a checkpoint in `folder`, stored in `dtype`; returns the folder."""
    make_model(architecture, **changes).to(dtype).save_pretrained(folder)
    return folder


def reference(model: Any, prompt: list[int], steps: int, **wishes: Any) -> list[int]:
    """The tokens that transformers' own `generate()` says, greedily unless `wishes` say otherwise."""
    ids = torch.tensor([prompt])
    wishes = {"do_sample": False, "max_new_tokens": steps, "pad_token_id": 0, **wishes}
    said: list[list[int]] = model.generate(ids, attention_mask=torch.ones_like(ids), **wishes).tolist()
    return said[0][len(prompt) :]


def prompt_of(length: int, seed: int = 0) -> list[int]:
    """`length` ids, the same for the same seed."""
    return torch.randint(0, VOCAB, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


class Running:
    """An engine between `with` and its end, and everything it has delivered."""

    def __init__(
        self,
        path: Path,
        *,
        on_delivery: Callable[[list[TokenOutput | RequestFailed]], None] | None = None,
        **options: Any,
    ) -> None:
        self._others = engine_threads()
        self.engine = Engine(path, **options)
        self.deliveries: list[list[TokenOutput | RequestFailed]] = []
        self.facts: ModelInfo | None = None
        self.fault: BaseException | None = None
        self.on_delivery = on_delivery
        self._outputs: dict[EngineRequest, list[TokenOutput | RequestFailed]] = defaultdict(list)
        self._news = threading.Condition()
        self._one_by_one = threading.RLock()

    def start(self) -> None:
        """Start without waiting for the model."""
        self.engine.start(on_outputs=self._deliver, on_ready=self._ready, on_failure=self._failed)

    def __enter__(self) -> Self:
        self.start()
        self.until(lambda: self.facts is not None or self.fault is not None)
        if self.fault is not None:
            raise self.fault
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()
        assert not self.threads()

    def threads(self) -> set[threading.Thread]:
        """Those that are alive and were not before; other tests have engines too, some for the whole session."""
        return engine_threads() - self._others

    def until(self, condition: Callable[[], bool], timeout: float = 120.0) -> None:
        """Wait for something that a callback makes true."""
        with self._news:
            assert self._news.wait_for(condition, timeout), "the engine did not get there"

    def submit(self, *jobs: EngineRequest) -> None:
        """All of these together: the engine delivers at most one step before it has the last of them."""
        with self._one_by_one:
            for job in jobs:
                self.engine.submit(job)

    def outcome(self, job: EngineRequest) -> list[TokenOutput | RequestFailed]:
        """All that was delivered for a job, once it has ended."""
        self.until(lambda: any(isinstance(output, RequestFailed) or output.last for output in self._outputs[job]))
        return self._outputs[job]

    def tokens(self, job: EngineRequest) -> list[int]:
        """The answer to a job that must not fail."""
        return [step.token for step in self.steps(job)]

    def steps(self, job: EngineRequest) -> list[TokenOutput]:
        """The same, with all that is known of each token."""
        return [output if isinstance(output, TokenOutput) else _raise(output) for output in self.outcome(job)]

    def error(self, job: EngineRequest) -> Exception:
        """What a job failed with."""
        (*_, failure) = self.outcome(job)
        assert isinstance(failure, RequestFailed)
        return failure.error

    def answer(self, job: EngineRequest) -> list[int]:
        """Submit and wait."""
        self.submit(job)
        return self.tokens(job)

    def _deliver(self, outputs: list[TokenOutput | RequestFailed]) -> None:
        with self._one_by_one:
            if self.on_delivery is not None:
                self.on_delivery(outputs)
        with self._news:
            self.deliveries.append(outputs)
            for output in outputs:
                self._outputs[output.request].append(output)
            self._news.notify_all()

    def _ready(self, facts: ModelInfo) -> None:
        with self._news:
            self.facts = facts
            self._news.notify_all()

    def _failed(self, error: BaseException) -> None:
        with self._news:
            self.fault = error
            self._news.notify_all()


def _raise(failure: RequestFailed) -> NoReturn:
    raise failure.error


def engine_threads() -> set[threading.Thread]:
    """Engine threads alive in this process, those of other tests included."""
    return {thread for thread in threading.enumerate() if thread.name == "hfstream-engine"}
