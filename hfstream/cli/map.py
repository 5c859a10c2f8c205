"""`hfstream map`: asks the prompts of a file, one on each line, and prints one line of JSON for each."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO, cast

from tenacity import stop_after_delay

from .. import AsyncInferenceClient, AsyncMapResults, MapResult, RetryPolicy
from .api_keys import api_key
from .terminal import RETRY_SECONDS, Terminal

__all__ = ["map"]


def map(arguments: argparse.Namespace, terminal: Terminal) -> int:  # noqa: A001  the command's name
    """Prints the results, in the order of the prompts or as they come.

    Returns 1 if a prompt failed, 130 after Ctrl-C.
    """
    with contextlib.ExitStack() as stack:
        file = _open(arguments, terminal, stack)
        url = stack.enter_context(terminal.backend(arguments))
        return asyncio.run(_Command(arguments, terminal).run(url, file))


def _open(arguments: argparse.Namespace, terminal: Terminal, stack: contextlib.ExitStack) -> TextIO:
    if arguments.file == "-":
        if sys.stdin.isatty():
            terminal.print_note('Type prompts as JSON, one on each line: "How do you make cheese?". Ctrl-D ends them.')
        return sys.stdin
    try:
        # As stdin: with bytes that are no UTF-8, which are the failure of their line. PowerShell writes a mark first.
        return stack.enter_context(Path(arguments.file).open(encoding="utf-8-sig", errors="surrogateescape"))
    except OSError as error:
        raise ValueError(f"cannot read {arguments.file}: {error.strerror}") from error


class _Command:
    """One run of the command."""

    def __init__(self, arguments: argparse.Namespace, terminal: Terminal) -> None:
        self._arguments = arguments
        self._terminal = terminal
        self._unasked: dict[int, str] = {}
        """By the number of the prompt: why a line that was read could not be asked."""

    async def run(self, url: str, file: TextIO) -> int:
        arguments = self._arguments
        began = time.monotonic()
        retry = RetryPolicy(stop=stop_after_delay(RETRY_SECONDS))
        async with AsyncInferenceClient(url, token=api_key(arguments, url), retry=retry, resume=True) as client:
            ask: Any = client.map  # untyped: what a line has is known at run time
            results: AsyncMapResults[Any] = ask(
                # A disk is not waited for. What comes through a pipe may be late, and results must not wait for it.
                self._prompts(file) if _is_on_disk(file) else self._prompts_as_they_come(file),
                details=arguments.details,
                max_concurrency=arguments.concurrency,
                ordered=not arguments.as_completed,
                journal=arguments.journal,
                progress=not self._terminal.is_interactive,  # else the answers show it
            )
            try:
                async for result in results:
                    self._terminal.write(json.dumps(self._line(result), ensure_ascii=False) + "\n")
            except (KeyboardInterrupt, asyncio.CancelledError):  # Ctrl-C
                await results.aclose()
                self._summarize(results, time.monotonic() - began)
                hint = "" if arguments.journal else "; with --journal FILE, a run can go on where it stopped"
                self._terminal.print_note(f"interrupted{hint}")
                raise
        self._summarize(results, time.monotonic() - began)
        return int(results.failed > 0)

    def _line(self, result: MapResult[Any]) -> dict[str, Any]:
        error = result.error
        if error is None:
            output: Any = result.output
            return {"index": result.index, "output": output if isinstance(output, str) else _as_dict(output)}
        message = self._unasked.pop(result.index, str(error))
        described = {"type": type(error).__name__, "message": message, "status_code": error.status_code}
        return {"index": result.index, "error": described}

    def _summarize(self, results: AsyncMapResults[Any], seconds: float) -> None:
        answered = results.done - results.failed
        reused = f" ({results.reused} from the journal)" if results.reused else ""
        self._terminal.print_note(f"{answered} answered{reused}, {results.failed} failed, {seconds:.1f} s")

    def _prompts(self, lines: Iterable[str]) -> Iterator[Any]:
        index = 0
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield self._prompt(line, number, index)
                index += 1

    async def _prompts_as_they_come(self, file: TextIO) -> AsyncIterator[Any]:
        index = number = 0
        async for line in _lines_of_pipe(file):
            number += 1
            if line.strip():
                yield self._prompt(line, number, index)
                index += 1

    def _prompt(self, line: str, number: int, index: int) -> Any:
        """The prompt of a line, with the options of the command line; None if it cannot be asked."""
        try:
            value: Any = json.loads(line)
        except ValueError as error:
            self._unasked[index] = f"line {number} is not JSON: {error}"
            return None
        if isinstance(value, str):
            value = {"prompt": value}
        elif isinstance(value, list):
            value = {"messages": cast("list[Any]", value)}
        if not isinstance(value, dict):
            return value  # refused, in words
        prompt = cast("dict[str, Any]", value)
        if "://" in str(prompt.get("model")):  # the file's author would get the API key
            self._unasked[index] = f"line {number} has a URL as `model`: prompts go to the server of --url only"
            return None
        arguments = self._arguments
        length = "max_tokens" if "messages" in prompt else "max_new_tokens"
        options = {
            length: arguments.max_new_tokens,
            "temperature": arguments.temperature,
            "seed": arguments.seed,
            "model": arguments.served_model,
        }
        return {name: option for name, option in options.items() if option is not None} | prompt


def _as_dict(output: Any) -> Any:
    return json.loads(output.model_dump_json(warnings=False))


def _is_on_disk(file: TextIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (OSError, io.UnsupportedOperation):
        return False


async def _lines_of_pipe(file: TextIO) -> AsyncIterator[str]:
    """The lines, as they come; the next one is read when the last one was taken.

    By a thread that nothing waits for: a read from a pipe or a terminal cannot be interrupted.
    """
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str | Exception | None]()
    wanted = threading.Semaphore(0)

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is over
            try:
                for line in file:
                    loop.call_soon_threadsafe(lines.put_nowait, line)
                    wanted.acquire()
            except Exception as error:  # noqa: BLE001  raised below
                loop.call_soon_threadsafe(lines.put_nowait, error)
            loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, daemon=True, name="hfstream-lines").start()
    while (line := await lines.get()) is not None:
        if isinstance(line, Exception):
            raise line
        wanted.release()
        yield line
