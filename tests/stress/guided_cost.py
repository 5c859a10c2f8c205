"""Cost of guided decoding: milliseconds for each step of a batch, some or all of whose rows follow a grammar.

    python tests/stress/guided_cost.py [--rows 16] [--tokens 400] [--rounds 5]

The engine alone, without HTTP, in a process of its own as in a server. Kinds of batches take turns, and each counts
with its best round. All have as many rows, which all generate up to their token limit. So the time of a step, divided
by that of the unguided batch, is what a token costs.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Sequence
from itertools import pairwise

from tokenizers import Tokenizer

from hfstream.server import Settings
from hfstream.server.engine.engine import Engine
from hfstream.server.engine.protocol import (
    EngineOptions,
    EngineRequest,
    Grammar,
    ModelInfo,
    Output,
    RequestFailed,
    SamplingParams,
    TokenOutput,
)
from hfstream.server.model_files import find_model

SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 30},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "unit": {"enum": ["celsius", "fahrenheit"]},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 10}, "maxItems": 4},
        },
        "required": ["name", "age", "unit", "tags"],
    },
    "minItems": 1_000,
}
GRAMMAR = Grammar("json_schema", json.dumps(SCHEMA))


class Batches:
    """The engine, and the times at which the outputs of each step came."""

    def __init__(self, rows: int, tokens: int) -> None:
        self._rows, self._tokens = rows, tokens
        self._ready, self._done = threading.Event(), threading.Event()
        self._unfinished: set[EngineRequest] = set()
        self._times: list[float] = []
        path = find_model(Settings().model)
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        self._prompt = tokenizer.encode("How do you make cheese?").ids
        self._tokenizer = tokenizer.to_str()
        self.engine = Engine(EngineOptions(path, max_batch_size=rows))
        self.engine.start(
            on_outputs=self._on_outputs, on_ready=self._on_ready, on_restart=self._on_end, on_failure=self._on_end
        )
        self._ready.wait()

    def run(self, guided: int, sampling: SamplingParams) -> float:
        """Seconds for a step of a batch in which so many rows follow the grammar: the median of those with all rows."""
        grammars = [GRAMMAR] * guided + [None] * (self._rows - guided)
        requests = [EngineRequest(self._prompt, self._tokens, sampling, grammar=grammar) for grammar in grammars]
        self._unfinished, self._times = set(requests), []
        self._done.clear()
        for request in requests:
            self.engine.submit(request)
        self._done.wait()
        gaps = sorted(later - earlier for earlier, later in pairwise(self._times))
        return gaps[len(gaps) // 2]

    def _on_ready(self, info: ModelInfo) -> None:
        self.engine.set_tokenizer(self._tokenizer, info.eos_ids)
        self._ready.set()

    def _on_end(self, reason: BaseException) -> None:
        raise RuntimeError("the engine has ended") from reason

    def _on_outputs(self, outputs: Sequence[Output]) -> None:
        if sum(isinstance(output, TokenOutput) for output in outputs) == self._rows:
            self._times.append(time.perf_counter())
        for output in outputs:
            if isinstance(output, RequestFailed) or (isinstance(output, TokenOutput) and output.last):
                self._unfinished.discard(output.request)
        if not self._unfinished:
            self._done.set()


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    batches = Batches(options.rows, options.tokens)
    bias = ((2, -100.0),)  # the end of a text: unguided rows would end earlier. It costs the same in all batches
    kinds = {
        "greedy": SamplingParams(logit_bias=bias),
        "sampled": SamplingParams(do_sample=True, temperature=1.0, top_p=0.95, seed=1, logit_bias=bias),
    }
    counts = [0, 1, options.rows // 2, options.rows]
    best: dict[tuple[str, int], float] = {}
    for _ in range(options.rounds):
        for name, sampling in kinds.items():
            for guided in counts:
                seconds = batches.run(guided, sampling)
                best[name, guided] = min(seconds, best.get((name, guided), seconds))
    batches.engine.close()
    print(f"| ms a step, {options.rows} rows | " + " | ".join(f"{guided} guided" for guided in counts) + " |")
    print("|---|" + "---|" * len(counts))
    for name in kinds:
        base = best[name, 0]
        cells = [f"{best[name, guided] * 1e3:.2f} ({best[name, guided] / base:.2f} x)" for guided in counts]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
