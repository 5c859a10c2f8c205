"""The sync and the async driver are twins: a dozen substitutions turn one into the other, text for text.

python tests/test_twins.py      writes hfstream/_sync.py anew from hfstream/_async.py
"""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "hfstream"

SUBSTITUTIONS = [
    (r'^"""The asynchronous driver', '"""The plain driver'),
    (r"^`_sync.py` is this file without its ``await``", "`_async.py` is this file with ``await``"),
    (r"^    close = aclose .*\n\n", ""),
    (r"^from \._opening import Opening\n", ""),
    (r"return Opening\(answer\) if", "return answer.open() if"),
    (r"Opening\[", "TokenStream["),
    (r"Coroutine, ", ""),
    (r"Coroutine\[Any, Any, (.+?)\](?=:| \|)", r"\1"),
    (r"Async(?=Wire|Line)", "Sync"),
    (r"Async(?=TokenStream|InferenceClient|Client|Iterator\[)|AsyncIterator, ", ""),
    (r"(?<![\w`])(async|await) ", ""),
    (r"__a(?=iter__|next__|enter__|exit__)", "__"),
    (r"\ba(?=close\b|next\()", ""),
    (r"StopAsyncIteration", "StopIteration"),
]


def sync_of(text: str) -> str:
    for pattern, replacement in SUBSTITUTIONS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


def test_the_drivers_are_twins() -> None:
    assert sync_of((PACKAGE / "_async.py").read_text()) == (PACKAGE / "_sync.py").read_text()


if __name__ == "__main__":
    (PACKAGE / "_sync.py").write_text(sync_of((PACKAGE / "_async.py").read_text()))
