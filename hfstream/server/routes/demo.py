"""The page at /demo: one document, and a Content-Security-Policy that allows no script or style but its own."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

_FOLDER = Path(__file__).with_name("demo_page")
_SCRIPTS = ("events", "requests", "pane", "raw", "text", "tokens", "chat", "tools", "json", "page")
"""In the order in which they are run."""


async def demo(request: Request) -> Response:
    """The page that shows an answer, tool calls and JSON while they are streamed."""
    page, headers = _page()
    return HTMLResponse(page, headers=headers)


@cache
def _page() -> tuple[str, dict[str, str]]:
    style, script = _read("page.css"), "\n".join(_read(f"{name}.js") for name in _SCRIPTS)
    page = _read("page.html")
    page = page.replace("<style></style>", f"<style>\n{style}</style>")
    page = page.replace("<script></script>", f"<script>\n{script}</script>")
    policy = {
        "default-src": "'none'",
        "script-src": _hash_source(f"\n{script}"),
        "style-src": _hash_source(f"\n{style}"),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return page, {
        "content-security-policy": "; ".join(f"{directive} {source}" for directive, source in policy.items()),
        "cache-control": "no-cache",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash_source(text: str) -> str:
    """The policy's source expression for an element of the page with this text."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
