"""`hfstream serve` beside `transformers serve`, over HTTP: the same model, the same machine, one after the other.

    python -m tests.stress.serve_beside [--model PATH] [--concurrency 1,4,16,32] [--tokens 64] [--rounds 2]

Each server is asked for chats by ``hfstream bench``, with as many requests at each concurrency as there are streams at
once, times `--requests`. `--model` is a folder with safetensors (the bundled model by default) or a GGUF file, which is
converted first. Reports a Markdown table: tokens a second, and the median time to the first token.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hfstream.server.model_files import BUNDLED
from tests.helpers.ports import unused_port

SERVERS = {
    "hfstream serve": ["hfstream", "serve", "--model"],
    "transformers serve": ["transformers.cli.transformers", "serve", "--device", "cpu"],
    "transformers serve --continuous-batching": [
        "transformers.cli.transformers", "serve", "--device", "cpu", "--continuous-batching",
    ],
}  # fmt: skip


@contextlib.contextmanager
def serving(command: list[str], model: Path) -> Iterator[str]:
    """The URL of a server in a process of its own, when it answers."""
    port = unused_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, str(model), "--port", str(port)],
            env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 300
            while True:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{url}/health", timeout=5).close()
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise SystemExit(f"{' '.join(command)} does not answer:\n{log.read().decode()[-2000:]}")
                time.sleep(0.5)
            yield url
        finally:
            process.terminate()
            process.wait()


def measured(url: str, model: Path, concurrency: int, requests: int, tokens: int) -> tuple[float, float]:
    """Tokens a second of all streams together, and the median time to the first token in milliseconds."""
    options = ["--api", "chat", "--model", str(model), "--concurrency", str(concurrency), "--json", "-"]
    options += ["--requests", str(requests * concurrency), "--max-new-tokens", str(tokens)]
    done = subprocess.run(
        [sys.executable, "-m", "hfstream", "bench", f"{url}/v1", *options], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    results: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    (level,) = results["levels"]
    return level["output_throughput"], level["median_ttft_ms"]


def converted(model: Path, folder: str) -> Path:
    """A GGUF file as a folder that both servers read."""
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415  takes seconds

    source = {"gguf_file": model.name, "dtype": "float32"}
    loaded: Any = AutoModelForCausalLM.from_pretrained(str(model.parent), **source)
    loaded.hf_quantizer = None  # it is in float32 now, and could not be saved as quantised
    if hasattr(loaded.config, "quantization_config"):
        del loaded.config.quantization_config
    loaded.save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(model.parent), gguf_file=model.name).save_pretrained(folder)
    return Path(folder)


def table(figures: dict[str, dict[int, tuple[float, float]]]) -> str:
    levels = list(next(iter(figures.values())))
    head = ["| | " + " | ".join(f"{level} streams" if level > 1 else "1 stream" for level in levels) + " |"]
    head.append("|---" * (len(levels) + 1) + "|")
    rows = [
        f"| {name} | " + " | ".join(f"{by[level][0]:.0f} ({by[level][1]:.0f} ms)" for level in levels) + " |"
        for name, by in figures.items()
    ]
    return "\n".join([*head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--concurrency", default="1,4,16,32")
    parser.add_argument("--requests", type=int, default=3, help="for each stream")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer at most")
    parser.add_argument("--rounds", type=int, default=2, help="of which the best counts")
    parser.add_argument("--servers", nargs="+", choices=list(SERVERS), default=list(SERVERS), metavar="SERVER")
    arguments = parser.parse_args()
    figures: dict[str, dict[int, tuple[float, float]]] = {name: {} for name in arguments.servers}
    with tempfile.TemporaryDirectory() as folder:
        model = converted(arguments.model, folder) if arguments.model.suffix == ".gguf" else arguments.model
        for _ in range(arguments.rounds):
            for name in arguments.servers:
                with serving(SERVERS[name], model) as url:
                    for level in map(int, arguments.concurrency.split(",")):
                        speed, first = measured(url, model, level, arguments.requests, arguments.tokens)
                        print(f"{name}, {level} streams: {speed:.0f} tokens/s, {first:.0f} ms", file=sys.stderr)
                        known = figures[name].get(level, (0.0, float("inf")))
                        figures[name][level] = max(known[0], speed), min(known[1], first)
    print(f"{model.name}, Python {platform.python_version()}, {os.cpu_count()} processors\n\n{table(figures)}")


if __name__ == "__main__":
    main()
