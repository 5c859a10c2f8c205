"""docs/robustness.md has the rows of today."""

from __future__ import annotations

from scripts.robustness_table import PAGE, import_rows, page


def test_the_page_has_the_rows_of_today() -> None:
    import_rows()
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python scripts/robustness_table.py"
