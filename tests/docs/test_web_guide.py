"""The web application and the page of docs/guides/async.md, in a browser: it asks once, however the answer ends."""

from __future__ import annotations

import re
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from playwright.sync_api import Browser

from hfstream.testing import Fault, Response, ScriptedServer, token_event, token_events
from tests.helpers.browsers import BROWSER_TIMEOUT, chromium
from tests.helpers.scripted_engine import eventually

pytestmark = pytest.mark.slow

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "async.md").read_text(encoding="utf-8")
PAGE = '<body><p id="output"></p><script>const question = "Why?";\n{}\n</script>'


def block(language: str, word: str) -> str:
    """The one block of code in the guide that has a word."""
    found: str
    [found] = [code for code in re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL) if word in code]
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@contextmanager
def application(model_url: str) -> Generator[str]:
    """The guide's application, with the guide's page at its root, on a port of its own."""
    names: dict[str, Any] = {}
    exec(block("python", "FastAPI").replace("http://127.0.0.1:8080", model_url), names)
    app: FastAPI = names["app"]

    def page() -> HTMLResponse:
        return HTMLResponse(PAGE.format(block("javascript", "EventSource")))

    app.get("/")(page)
    # Without a configuration of its loggers, which other tests read.
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert eventually(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


ANSWERS = {
    "whole": (token_events("Hello", ",", " you"), "Hello, you", False),
    "the connection is lost": ([token_event(1, "Hello"), Fault.DROP], "Hello", True),
    "nothing but an error": ([b'data: {"error":"no such model","error_type":"validation"}\n\n'], "", False),
}


@pytest.mark.parametrize(("body", "text", "lost"), ANSWERS.values(), ids=ANSWERS)
def test_the_page_asks_once(browser: Browser, body: list[Any], text: str, lost: bool) -> None:
    with ScriptedServer(Response(body)) as model, application(model.url) as url:
        page = browser.new_page()
        page.set_default_timeout(BROWSER_TIMEOUT)
        page.goto(url)
        page.wait_for_function("source.readyState === EventSource.CLOSED")  # one that is closed never asks again
        shown = page.text_content("#output")
        # A browser may learn that a connection was lost before it has read what came last.
        assert shown == text or (lost and shown == "")
        page.close()
        assert len(model.requests) == 1
