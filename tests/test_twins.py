"""The sync and the async face are twins: a dozen substitutions turn one into the other, text for text.

python tests/test_twins.py      writes hfstream/_sync anew from hfstream/_async
"""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "hfstream"

SUBSTITUTIONS = [
    (r'^"""The asynchronous ', '"""The plain '),
    (r"^`_sync` is this package without its ``await``", "`_async` is this package with ``await``"),
    (r"^    close = aclose .*\n\n", ""),
    (r"^from \.\._stream_manager import AsyncStreamManager\n", ""),
    (r"return AsyncStreamManager\(token_stream\) if", "return token_stream.open() if"),
    (r"AsyncStreamManager\[", "TokenStream["),
    (r"Coroutine, ", ""),
    (r"Coroutine\[Any, Any, (.+?)\](?=:| \|)", r"\1"),
    (r"Async(?=HTTP|StreamedResponse)", "Sync"),
    (r"Async(?=TokenStream|InferenceClient|Client|Chat|Iterator\[)|AsyncIterator, ", ""),
    (r"(?<![\w`])(async|await) ", ""),
    (r"__a(?=iter__|next__|enter__|exit__)", "__"),
    (r"\ba(?=close\b|next\()", ""),
    (r"StopAsyncIteration", "StopIteration"),
    (r"-> \(\n +(.+)\n +\):", r"-> \1:"),  # what fits on one line now
]


def sync_of(text: str) -> str:
    for pattern, replacement in SUBSTITUTIONS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


def rooms(variant: str) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((PACKAGE / variant).glob("*.py"))}


def test_the_faces_are_twins() -> None:
    assert {name: sync_of(text) for name, text in rooms("_async").items()} == rooms("_sync")


if __name__ == "__main__":
    (PACKAGE / "_sync").mkdir(exist_ok=True)
    for name, text in rooms("_async").items():
        (PACKAGE / "_sync" / name).write_text(sync_of(text))
