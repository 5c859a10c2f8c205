"""Generates the synchronous code from the asynchronous code: a few substitutions turn one into the other.

python scripts/generate_sync.py            writes hfstream/_sync and hfstream/_transport/_sync
python scripts/generate_sync.py --check    exits with 1 and shows the difference if they are out of date
"""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = {
    ROOT / "hfstream" / "_async": ROOT / "hfstream" / "_sync",
    ROOT / "hfstream" / "_transport" / "_async": ROOT / "hfstream" / "_transport" / "_sync",
}

SUBSTITUTIONS = [
    (r"\bThe asynchronous\b", "The synchronous"),
    (r"\bfor async code\b", "for plain code"),
    (r"\bone asynchronous\b", "one synchronous"),
    (r"\bOne asynchronous\b", "One synchronous"),
    (r"\bfor the asynchronous client\b", "for the synchronous client"),
    (r"`(_transport/)?_sync` is generated from this package", r"This package is generated from `\1_async`"),
    # the client: what an async call with stream=True returns is the stream itself in plain code
    (r"^    close = aclose .*\n\n", ""),
    (r"^from \.\._stream_manager import AsyncStreamManager\n", ""),
    (r"^    from \.\._stream_manager import AsyncStreamManager\n", "    from .stream import TokenStream\n"),
    (r"return AsyncStreamManager\(token_stream\) if", "return token_stream.open() if"),
    (r"AsyncStreamManager\[", "TokenStream["),
    (r"return tool_stream if", "return tool_stream.open() if"),
    (r"^    def __await__.*\n.*\n\n", ""),
    (r"AsyncIterator, Generator, ", "Iterator, "),
    (r"may_await=True", "may_await=False"),
    (r"is_async=True", "is_async=False"),
    (r"^    @coroutine_function\n", ""),
    (r"import coroutine_function, ", "import "),
    (r"Coroutine, ", ""),
    (r"^from collections.abc import Coroutine\n", ""),
    (r"AsyncIterable, ", ""),
    (r" \| AsyncIterable\[(Any|str|Sequence\[Mapping\[str, Any\]\])\]", ""),
    (r"Coroutine\[Any, Any, (.+?)\](?=:| \||\n)", r"\1"),
    # the transport
    (r"^import anyio\n", ""),
    (r", anyio\.move_on_after\(CANCEL_TIMEOUT\)", ""),
    (r"httpx\.AsyncByteStream", "httpx.SyncByteStream"),
    (r"(httpx|httpcore)\.Async", r"\1."),
    (r"handle_async_request", "handle_request"),
    (r"\basync_(?=exhaust|time_limit|body|backend|call_tool)", "sync_"),
    (r"aiter_raw", "iter_raw"),
    (r"\._async\b", "._sync"),
    # names and keywords
    (
        r"Async(?=HTTP|Stream\b|SocketInfo|Transport|Router|Backend|\w*Body|\w+ed(Response)?\b|\w+States|Wakeup|Worker|Prompts)",
        "Sync",
    ),
    (r"Async(?=TokenStream|Map(?:Results|pingClient)|InferenceClient|Client|Chat|Iterator\[)|AsyncIterator, ", ""),
    (r"Async(?=Models|ToolRunStream|ToolsClient)", ""),
    (r"AsyncIterator", "Iterator"),
    (r"(?<![\w`])(async|await) ", ""),
    (r"\(await ", "("),
    (r"__a(?=iter__|next__|enter__|exit__)", "__"),
    (r"\ba(?=close\b|next\(|iter\()", ""),
    (r"StopAsyncIteration", "StopIteration"),
    (r"-> \(\n +(.+)\n +(\| .+)\n +(\| .+)\n +\):", r"-> \1 \2 \3:"),  # what fits on one line now
    (r"def (make_pool|tokenize)\(\n +(.+)\n *\)", r"def \1(\2)"),
    (r"\((self\._states\.current\(\))\)\.", r"\1."),
]


def to_sync(text: str) -> str:
    """The synchronous code for asynchronous code."""
    for pattern, replacement in SUBSTITUTIONS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


def generated() -> dict[Path, str]:
    """All generated files and their texts."""
    return {
        target / path.name: to_sync(path.read_text(encoding="utf-8"))
        for source, target in PACKAGES.items()
        for path in sorted(source.glob("*.py"))
    }


def differences() -> list[str]:
    """What differs between the generated files and those of today, as a diff; also files that are not generated."""
    lines: list[str] = []
    files = generated()
    for path in sorted({*files, *(path for target in PACKAGES.values() for path in target.glob("*.py"))}):
        name = str(path.relative_to(ROOT))
        today = path.read_text(encoding="utf-8") if path.is_file() else ""
        lines += difflib.unified_diff(
            today.splitlines(), files.get(path, "").splitlines(), name, "generated", lineterm=""
        )
    return lines


def main() -> int:
    """Writes the files; with ``--check`` compares them only."""
    if "--check" in sys.argv[1:]:
        lines = differences()
        if lines:
            print(*lines, "out of date: run python scripts/generate_sync.py", sep="\n")
        return bool(lines)
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
