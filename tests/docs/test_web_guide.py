"""The web application and the page of docs/guides/web.md, in a browser: it asks once, however the answer ends."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from playwright.sync_api import Browser, Page

from hfstream.testing import Fault, Response, ScriptedServer, token_event, token_events
from tests.helpers.browsers import BROWSER_TIMEOUT, chromium
from tests.helpers.web_applications import running

pytestmark = pytest.mark.slow

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "web.md").read_text(encoding="utf-8")
OTHER_PAGE = '<body><p id="output"></p><p id="state"></p><script>const question = "Why?";\n%s\n</script>'


def block(language: str, word: str) -> str:
    """The one block of code in the guide that has a word."""
    found: str
    [found] = [code for code in re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL) if word in code]
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@contextmanager
def opened(browser: Browser, url: str) -> Generator[Page]:
    page = browser.new_page()
    page.set_default_timeout(BROWSER_TIMEOUT)
    page.goto(url)
    if not url.endswith("/other"):
        page.click("text=Ask")
    try:
        yield page
    finally:
        page.close()


@contextmanager
def application(model_url: str, script: str | None = None) -> Generator[str]:
    """The URL of the guide's page, or of one with another script, in the guide's application on a port of its own."""
    names: dict[str, Any] = {}
    exec(block("python", "FastAPI").replace("http://127.0.0.1:8080", model_url), names)
    app: FastAPI = names["app"]

    def other() -> HTMLResponse:
        return HTMLResponse(OTHER_PAGE % script)

    app.get("/other")(other)
    with running(app) as url:
        yield f"{url}/" if script is None else f"{url}/other"


INVALID = b'data: {"error":"no such model","error_type":"validation"}\n\n'

ANSWERS = {
    "whole": (token_events("Hello", ",", " you"), "Hello, you", ""),
    "the connection is lost": ([token_event(1, "Hello"), Fault.DROP], "Hello", "the model server failed"),
    "an error after the first token": ([token_event(1, "Hello"), INVALID], "Hello", "no such model"),
    "nothing but an error": ([INVALID], "", "no answer"),
}


@pytest.mark.parametrize(("body", "text", "state"), ANSWERS.values(), ids=ANSWERS)
def test_the_page_asks_once(browser: Browser, body: list[Any], text: str, state: str) -> None:
    with ScriptedServer(Response(body)) as model, application(model.url) as url, opened(browser, url) as page:
        page.wait_for_function("source.readyState === EventSource.CLOSED")  # one that is closed never asks again
        assert page.text_content("#output") == text
        assert page.text_content("#state") == state
        assert len(model.requests) == 1


def test_a_page_that_does_not_close_its_event_source_asks_once_too(browser: Browser) -> None:
    """It connects again, and is told to stop."""
    script = """const source = new EventSource("/ask?question=x");
        source.onmessage = (event) => output.append(JSON.parse(event.data));"""
    with (
        ScriptedServer(Response(token_events("Hello"))) as model,
        application(model.url, script) as url,
        opened(browser, url) as page,
    ):
        page.wait_for_function("source.readyState === EventSource.CLOSED")
        assert page.text_content("#output") == "Hello"
        assert len(model.requests) == 1


CALL = """
const stop = new AbortController();
ask(question, { onToken: (token) => output.append(token), signal: stop.signal })
  .then(() => state.textContent = "done", (error) => state.textContent = `${error.message} ${error.cause?.status}`);
"""

FETCHED = {
    "whole": (Response(token_events("Hello", ",", "\n\n you")), "Hello,\n\n you", "done"),
    "an error after the first token": (
        Response([token_event(1, "Hello"), INVALID]),
        "Hello",
        "no such model undefined",
    ),
    "a refusal": (Response.error(422, "too long", "validation"), "", "too long 422"),
}


@pytest.mark.parametrize(("answer", "text", "state"), FETCHED.values(), ids=FETCHED)
def test_the_page_that_fetches(browser: Browser, answer: Response, text: str, state: str) -> None:
    script = block("javascript", "fetch(") + CALL
    with ScriptedServer(answer) as model, application(model.url, script) as url, opened(browser, url) as page:
        page.wait_for_function("state.textContent")
        assert page.text_content("#output") == text
        assert page.text_content("#state") == state
        assert len(model.requests) == 1


@pytest.mark.parametrize("leave", ["text=Stop", "stop.abort()", "close"])
def test_the_models_stream_is_closed_when_the_page_is_left(browser: Browser, leave: str) -> None:
    script = block("javascript", "fetch(") + CALL if leave == "stop.abort()" else None
    answer = Response([token_event(1, "Hello"), Fault.STALL])
    with ScriptedServer(answer) as model, application(model.url, script) as url, opened(browser, url) as page:
        page.wait_for_function("output.textContent")
        assert model.running == 1
        if leave == "close":
            page.close()
        elif script is None:
            page.click(leave)
        else:
            page.evaluate(leave)
        assert model.wait_until_running(0)
