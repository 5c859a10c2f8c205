"""Measured tables in pages of the documentation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["replace_tables"]


def replace_tables(page: Path, tables: Mapping[str, str]) -> None:
    """Puts each table between ``<!-- name -->`` and ``<!-- /name -->``, where the page must have a place for it."""
    text = page.read_text("utf-8")
    for name, table in tables.items():
        places = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        text, count = places.subn(lambda found, table=table: f"{found[1]}\n{table}\n{found[2]}", text)
        assert count == 1, f"{page.name} has {count} places for {name}"
    page.write_text(text, "utf-8")
