"""A long prompt on a real model: memory, the gaps of a stream beside it, and the first token of a chat's second turn.

    python tests/stress/long_prompt.py MODEL [--prompt-tokens 4450]

MODEL is what ``hfstream serve --model`` takes; other options go to that command. The server is a process of its own.
Reports resident memory of all its processes before, at most and when it is idle again; the time between two tokens of a
stream, alone and while a prompt is read; and how long the first token took in the first and the second turn of a chat
of 1,200 tokens.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from hfstream import InferenceClient, RetryPolicy
from hfstream.retry import retry_on_overload

__all__ = ["main"]


def resident(pid: int) -> int:
    """MiB of a process and all below it, shared pages counted once (PSS)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended since it was listed
            for child in (task / "children").read_text("ascii").split():
                total += resident(int(child))
    (pss,) = re.findall(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text("ascii"), re.MULTILINE)
    return total + int(pss) // 1024


def prompt_of(client: InferenceClient, tokens: int, salt: str) -> str:
    """A text of about so many tokens that no other begins like."""
    words = f"{salt}: " + " ".join(f"Item {number} costs {number * 7 % 100} coins." for number in range(tokens // 5))
    known = client.tokenize(words)
    assert len(known) > tokens, len(known)
    return words[: known[tokens].start]


def gaps(stream: object, seconds: float) -> list[float]:
    """Milliseconds between the tokens of a stream, for so many seconds."""
    found: list[float] = []
    last = began = time.monotonic()
    for _ in stream:  # type: ignore[attr-defined]
        now = time.monotonic()
        found.append((now - last) * 1000)
        last = now
        if now - began > seconds:
            break
    return found[1:]


def measure(client: InferenceClient, pid: int, tokens: int) -> None:
    ask = retry_on_overload(attempts=5)(client.text_generation)
    ask("Hello", max_new_tokens=5)
    start = resident(pid)
    peak = start
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.05):
            peak = max(peak, resident(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    ask(prompt_of(client, tokens, "A"), max_new_tokens=2)
    spent = time.monotonic() - began
    ended.set()
    watcher.join()
    time.sleep(70)  # the memory is kept for a minute
    print(f"memory: {start} MiB, at most {peak} with a prompt of {tokens} tokens ({spent:.1f} s), idle {resident(pid)}")

    stream = client.text_generation("Tell me of the sea.", max_new_tokens=3000, stream=True)
    alone = gaps(stream, 8)
    reader = threading.Thread(target=ask, args=(prompt_of(client, tokens - 450, "B"),), kwargs={"max_new_tokens": 2})
    reader.start()
    beside: list[float] = []
    while reader.is_alive():
        beside += gaps(stream, 1)
    stream.close()
    median = statistics.median(alone)
    print(f"time between tokens: alone {median:.0f} ms; beside a prompt {statistics.median(beside):.0f} ms, at most")
    print(f"    {max(beside):.0f} ms, of {len(beside)} tokens, {sum(gap > 250 for gap in beside)} above 250;")
    print(f"    250 ms or three steps are {max(250, 3 * median):.0f} ms")

    messages = [{"role": "user", "content": prompt_of(client, 1150, "C")}]
    first_tokens: list[float] = []
    for question in ("And which costs most?", "Why?"):
        chat = client.chat_completion(messages, max_tokens=8, stream=True)
        answer = chat.final()
        first_tokens.append((chat.metrics.time_to_first_token or 0.0) * 1000)
        messages += [{"role": "assistant", "content": answer.choices[0].message.content or ""}]
        messages += [{"role": "user", "content": question}]
    print(f"time to first token: turn 1 {first_tokens[0]:.0f} ms, turn 2 {first_tokens[1]:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--prompt-tokens", type=int, default=4450)
    arguments, options = parser.parse_known_args()
    command = [sys.executable, "-m", "hfstream", "serve", "--port", "0", "--model", arguments.model, *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            url = next(found[0] for line in process.stderr if (found := re.search(r"http://[\d.:]+", line)))
            threading.Thread(target=process.stderr.read, daemon=True).start()
            retry = RetryPolicy(attempts=100, max_wait=5)
            with InferenceClient(url, timeout=600, retry=retry) as client:
                measure(client, process.pid, arguments.prompt_tokens)
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
