"""The demo page as it is served. What a browser makes of it is tested in test_demo_page.py beside this."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

from starlette.requests import Request

from hfstream.server.routes.demo import demo


async def test_the_policy_allows_the_pages_own_script_and_style_only() -> None:
    response = await demo(Request({"type": "http", "headers": []}))
    page = bytes(response.body).decode()
    directives = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    for element in ("script", "style"):
        [_, rest] = page.split(f"<{element}>")
        text, _, _ = rest.partition(f"</{element}>")
        digest = b64encode(sha256(text.encode()).digest()).decode()
        assert directives[f"{element}-src"] == f"'sha256-{digest}'"
    assert directives["default-src"] == directives["form-action"] == directives["frame-ancestors"] == "'none'"
    assert directives["connect-src"] == "'self'"


async def test_headers_of_the_page() -> None:
    response = await demo(Request({"type": "http", "headers": []}))
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
