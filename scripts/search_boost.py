"""A hook of mkdocs: in the search of the documentation, guides come before the reference and the design.

Each parameter and field of the reference is an entry of its own, so that without this a search for "retry" finds
everything whose name begins so, and then the guide.
"""

from __future__ import annotations

from typing import Any

BOOSTS = {"guides/": 2.0, "reference/": 0.5, "design/": 0.5}
"""Factors for what is found in these folders."""


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Sets what Material's search reads; called by mkdocs for each page."""
    for folder, boost in BOOSTS.items():
        if page.file.src_uri.startswith(folder):
            page.meta.setdefault("search", {})["boost"] = boost
    return markdown
