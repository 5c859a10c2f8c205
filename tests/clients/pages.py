"""The blocks of docs/frameworks.md, each run where its framework is installed. Does not depend on hfstream."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"
URL = "http://127.0.0.1:8080"


def run_blocks(word: str, url: str) -> None:
    """Runs all blocks of Python that have `word`, with another URL; there is at least one."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    found = [block for block in blocks if word in block]
    assert found
    for block in found:
        exec(compile(block.replace(URL, url), PAGE, "exec", dont_inherit=True), {"__name__": "__main__"})
