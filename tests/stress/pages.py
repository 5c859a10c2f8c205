"""Measured tables in pages of the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["replace_tables"]


def replace_tables(page: Path, tables: Mapping[str, str]) -> None:
    """Puts each table between ``<!-- name -->`` and ``<!-- /name -->``, where the page must have a place for it."""
    text = page.read_text("utf-8")
    for name, table in tables.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"\n<!-- /{name} -->")
        assert mark, f"{page.name} has no place for {name}"
        assert end, f"{page.name}: the place for {name} has no end"
        text = f"{before}{mark}\n{table}\n{end}{after}"
    page.write_text(text, "utf-8")
