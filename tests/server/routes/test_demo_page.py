"""The page at /demo: what is served, and what a browser makes of it."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page
from starlette.requests import Request

from hfstream.server import BackgroundServer, Settings
from hfstream.server.engine.protocol import EngineRequest
from hfstream.server.routes.demo import demo
from tests.helpers.browsers import BROWSER_TIMEOUT, chromium
from tests.helpers.scripted_engine import (
    TOKENIZER,
    Script,
    ScriptedEngine,
    eventually,
    http,
    idle,
    ids,
    metric,
    raw_request,
)

pytestmark = pytest.mark.slow

PAGE = bytes(asyncio.run(demo(Request({"type": "http", "headers": []}))).body).decode()
ANSWER = "\nGrüße, 日! " + 4 * "Hello, world! "
KEY = "a key"


seen = threading.Event()
"""The answer to "pause" goes on after this is set."""


def script(job: EngineRequest) -> Script:
    if list(job.prompt) == ids("long"):
        return itertools.cycle([ids("a")[0], *[None] * 9])  # 60 tokens take twelve seconds: longer than any test needs
    if list(job.prompt) == ids("pause"):
        return pausing()
    return [*ids("ab"), RuntimeError("broken")] if list(job.prompt) == ids("break") else ids(ANSWER)


def pausing() -> Script:
    yield from ids(ANSWER)[:10]
    while not seen.is_set():
        yield None
    yield from ids(ANSWER)[10:]


CALL = ids('<tool_call>\n{"name": "calculator", "arguments": {"expression": "17 * 23"}}\n</tool_call>')
OBJECT = ids('{"language": "German", "reply": {"refund": true}}')


def chat_script(job: EngineRequest) -> Script:
    """A call of a function, until the prompt has its result; an object if a schema is asked for."""
    if job.grammar is not None and job.grammar.kind == "json_schema":
        yield from OBJECT[:10]
        while not seen.is_set():
            yield None
        yield from OBJECT[10:]
    elif "391" in TOKENIZER.decode(job.prompt):
        yield from ids("It is 391.")
    else:
        yield from CALL[:-20]
        while not seen.is_set():
            yield None
        yield from CALL[-20:]


@pytest.fixture(scope="module")
def served(model: Path) -> Iterator[str]:
    engine = ScriptedEngine(script, interval=0.02)
    with BackgroundServer(Settings(model=str(model), max_concurrent_requests=2), engine=engine) as server:
        yield server.url


@pytest.fixture
def url(served: str) -> Iterator[str]:
    yield served
    assert eventually(lambda: idle(served)), "every request of a page has ended"


@pytest.fixture(scope="module")
def guarded(model: Path) -> Iterator[str]:
    """Requires a key, and generates without pauses."""
    with BackgroundServer(Settings(model=str(model), api_key=KEY), engine=ScriptedEngine(script)) as server:
        yield server.url


@pytest.fixture(scope="module")
def chat(chat_model: Path) -> Iterator[tuple[str, ScriptedEngine]]:
    """A model that calls a function and fits schemas."""
    engine = ScriptedEngine(chat_script, context=2_000)
    with BackgroundServer(Settings(model=str(chat_model)), engine=engine) as server:
        yield server.url, engine


# --- What is served ---------------------------------------------------------------------------------------------------


def test_the_page_is_served_without_a_key(url: str, guarded: str) -> None:
    for server in (url, guarded):
        response = http.get(server + "/demo")
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.text == PAGE
        assert http.get(server + "/").content == b"", "which is the health check, as before"
        browser = http.get(server + "/", headers={"accept": "text/html,application/xhtml+xml"}, follow_redirects=True)
        assert browser.text == PAGE


def test_the_policy_allows_nothing_but_the_page_itself(url: str) -> None:
    header = http.get(url + "/demo").headers["content-security-policy"]
    policy = dict(part.strip().split(" ", 1) for part in header.split(";"))

    def hash_of(element: str) -> str:
        text = PAGE.split(f"<{element}>")[1].split(f"</{element}>")[0]
        return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert policy == {
        "default-src": "'none'",
        "script-src": hash_of("script"),
        "style-src": hash_of("style"),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_the_page_is_small_and_loads_nothing_else() -> None:
    assert len(PAGE.encode()) < 56_000
    assert not re.findall(r"https?:|//\w|@import|url\(|\bsrc=|\bimport\b", PAGE)
    markup = re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", PAGE)
    assert not markup, "what a model generates is text"


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], bool]] = []
        self._labels = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._labels += tag == "label"
        self.found.append((tag, dict(attrs), self._labels > 0))

    def handle_endtag(self, tag: str) -> None:
        self._labels -= tag == "label"


def test_every_field_has_a_label_and_every_reference_a_target() -> None:
    elements = _Elements()
    elements.feed(PAGE)
    names = [attributes["id"] for _, attributes, _ in elements.found if "id" in attributes]
    assert len(names) == len(set(names))
    labelled = {attributes.get("for") for tag, attributes, _ in elements.found if tag == "label"}
    fields = [
        (attributes, inside) for tag, attributes, inside in elements.found if tag in ("input", "textarea", "select")
    ]
    assert len(fields) == 10
    assert all(inside or attributes["id"] in labelled for attributes, inside in fields)
    for _, attributes, _ in elements.found:
        for reference in ("for", "aria-describedby", "aria-labelledby"):
            assert attributes.get(reference) in (None, *names)
        assert attributes.get("aria-live") in (None, "polite")
        assert attributes.get("role") != "alert"
    assert set(re.findall(r'\$\("(\w+)"\)', PAGE)) <= set(names)


# --- In a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


Open = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Opens the page of a server; at the end of the test no page may have had an error."""
    pages: list[Page] = []
    errors: list[str] = []

    def log(message: ConsoleMessage) -> None:
        # A response with an error status is logged too, and is no error of the page.
        if not message.text.startswith("Failed to load resource"):
            errors.append(message.text)

    def opened(url: str, mode: str = "", *, dark: bool = False, width: int = 1100, height: int = 1000) -> Page:
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            is_mobile=width < 500,
        )
        pages.append(page)
        page.set_default_timeout(BROWSER_TIMEOUT)
        page.on("console", log)  # what the policy of the page forbids is logged here
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{url}/demo#{mode}")
        until(page, "document.getElementById('served').textContent")  # moves the page's content down: wait for it
        most = 600 if mode else 60  # without chats, the scripted model has a small context
        page.evaluate(f"document.getElementById('most').value = {most}")
        return page

    yield opened
    for page in pages:
        page.close()
    assert not errors


def until(page: Page, condition: str) -> Any:
    """Waits until some JavaScript is true, and returns its value.

    Not with playwright's ``wait_for_function``: that calls ``eval`` in the page, which the page's policy forbids.
    """
    end = time.monotonic() + BROWSER_TIMEOUT / 1000
    while not (value := page.evaluate(condition)):
        assert time.monotonic() < end, f"not true within {BROWSER_TIMEOUT} ms: {condition}"
        page.wait_for_timeout(20)
    return value


def point(page: Page, selector: str) -> None:
    """Moves the pointer to an element, after the page has handled its scrolling there, which hides the tooltip."""
    page.locator(selector).first.scroll_into_view_if_needed()
    page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    page.hover(selector)


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def generate(page: Page, prompt: str = "Hi") -> None:
    page.fill("#prompt", prompt)
    page.click("#send")


def test_tokens_are_read_before_the_whole_answer_is_there(url: str, opened: Open) -> None:
    page = opened(url)
    assert until(page, "document.getElementById('served').textContent").startswith("hfstream ")
    seen.clear()
    generate(page, "pause")
    until(page, "streaming.tokens > 4")
    shown = page.evaluate("[waiting.answer.textContent, waiting.asking, streaming.answer.textContent]")
    assert shown[:2] == ["", True]
    assert ANSWER.startswith(shown[2])
    assert len(shown[2]) > 2
    until(page, "streaming.now > 3 * streaming.firstAt")
    seen.set()
    until(page, "!running")
    assert (
        page.evaluate("streaming.answer.textContent")
        == page.evaluate("streaming.text")
        == page.evaluate("waiting.text")
        == ANSWER
    )
    assert page.inner_text("#status").startswith("Reading could begin ")
    assert page.inner_text("#status").endswith(" s earlier. Both texts are the same.")
    assert page.evaluate("streaming.firstAt < 0.5 * streaming.wholeAt && waiting.firstAt === waiting.wholeAt")
    assert 0 < float(page.inner_text("#streaming .pace")) < 60  # of 50 at the most: a busy machine is slower
    assert re.fullmatch(r"\d+ tokens\. Seed \d+\.", page.inner_text("#streaming .note"))
    assert page.inner_text("#streaming .note") == page.inner_text("#waiting .note"), "one seed for both"


def test_stop_frees_the_servers_permits(url: str, opened: Open) -> None:
    page = opened(url)
    generate(page, "long")
    until(page, "streaming.tokens > 2")
    assert eventually(lambda: metric(url, "hfstream_permits_taken") == 2)
    page.click("#stop")
    assert eventually(lambda: metric(url, "hfstream_permits_taken") == 0)
    until(page, "!running")
    assert re.fullmatch(r"Stopped after \d+ tokens\.", page.inner_text("#streaming .note"))
    assert page.inner_text("#waiting .note") == "Stopped. Nothing had come."
    assert page.inner_text("#status") == "Stopped."
    assert page.evaluate("document.getElementById('stop').getAttribute('aria-disabled')") == "true"


def test_generating_again_cancels_the_first_requests(url: str, opened: Open) -> None:
    page = opened(url)
    generate(page, "long")
    until(page, "streaming.tokens > 2")
    generate(page, "Hi")
    until(page, "!running")
    assert page.evaluate("streaming.text") == page.evaluate("waiting.text") == ANSWER
    assert eventually(lambda: idle(url))


def test_pointing_at_a_token_shows_its_probability(url: str, opened: Open) -> None:
    page = opened(url)
    generate(page)
    until(page, "!running")
    assert page.evaluate("document.getElementById('about').hidden")
    point(page, ".token:nth-child(3)")
    until(page, "!document.getElementById('about').hidden")
    shown = page.inner_text("#about")
    token = page.evaluate("facts.get(document.querySelector('.token:nth-child(3)')).token.id")
    assert shown.startswith(f"probability 99.3 %, logprob -0.0074, id {token}")
    assert shown.count("99.3 %") == 1 + 4, "and those of the best four"
    point(page, "h1")
    until(page, "document.getElementById('about').hidden")


def test_tokens_without_a_text_of_their_own_can_be_pointed_at(url: str, opened: Open) -> None:
    page = opened(url)
    generate(page)
    until(page, "!running")
    marks = page.evaluate("[...document.querySelectorAll('.token[data-mark]')].map((token) => token.dataset.mark)")
    assert marks[0] == "↵"
    assert marks[-1] == "<eos>"
    assert "·" in marks, "the first bytes of a character"
    point(page, '.token[data-mark="·"]')
    assert "A part of a character" in until(page, "document.getElementById('about').innerText")


def test_everything_can_be_done_with_the_keyboard(url: str, opened: Open) -> None:
    page = opened(url)
    press(page, "Tab")
    assert page.evaluate("document.activeElement.value") == "text", "the modes are one stop"
    press(page, "Tab")
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.evaluate("document.activeElement.select()")
    page.keyboard.insert_text("long")
    press(page, "Enter")
    until(page, "streaming.tokens > 2")
    press(page, "Tab", "Tab")
    assert page.evaluate("document.activeElement.id") == "stop"
    press(page, "Enter")
    until(page, "!running")
    assert page.evaluate("document.activeElement.id") == "stop"
    for _ in range(20):
        press(page, "Tab")
        if page.evaluate("document.activeElement.matches('.token')"):
            break
    assert "probability 99.3 %" in page.inner_text("#about")
    press(page, "ArrowRight")
    assert page.evaluate("document.activeElement === document.querySelectorAll('.token')[1]")
    assert page.evaluate("document.getElementById('said').textContent").startswith("a: probability 99.3 %")
    press(page, "End")
    assert page.evaluate("document.activeElement === streaming.answer.lastElementChild")
    press(page, "Escape")
    assert page.evaluate("document.getElementById('about').hidden")
    press(page, "Tab", "Tab", "Tab")
    assert page.evaluate("document.activeElement.parentElement.id") == "raw", (
        "all tokens are one stop, as are waiting and parameters"
    )
    press(page, "Enter")
    assert page.evaluate("document.getElementById('raw').open")
    page.evaluate("document.getElementById('prompt').focus()")
    press(page, "Enter")
    until(page, "streaming.tokens > 2")
    press(page, "Escape")
    until(page, "!running")
    assert page.inner_text("#status") == "Stopped."


def test_overload_is_shown_with_a_countdown_until_a_permit_is_free(url: str, opened: Open) -> None:
    page = opened(url)
    held = [raw_request(url, "/generate_stream", {"inputs": "long", "parameters": {}}) for _ in range(2)]
    assert eventually(lambda: metric(url, "hfstream_permits_taken") == 2)
    generate(page)
    pattern = r"Model is overloaded\. Asking again in (\d\.\d) s"
    found = until(page, f"document.getElementById('streaming').innerText.match(/{pattern}/)")
    assert 0 < float(found[1]) <= 1
    assert until(page, f"document.getElementById('waiting').innerText.match(/{pattern}/)")
    assert page.inner_text("#status") == "The server is busy. It is asked again until it answers; Stop ends that."
    press(page, "Escape")
    until(page, "!running")
    assert not re.search(pattern, page.inner_text(".panes"))
    generate(page)
    until(page, "!streaming.busy.hidden && !waiting.busy.hidden")
    for connection in held:
        connection.close()
    until(page, "!running")
    assert page.evaluate("streaming.text") == page.evaluate("waiting.text") == ANSWER
    assert page.inner_text("#streaming .note").endswith(" s of it was waiting for a place.")
    assert page.inner_text("#status").startswith("There was no place for both at once")


def test_errors_are_shown_with_the_servers_message(url: str, opened: Open) -> None:
    page = opened(url)
    page.evaluate("document.getElementById('most').value = 300")
    generate(page)
    until(page, "!running")
    words = "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 100."
    assert page.inner_text("#streaming .fault").startswith(words)
    assert page.inner_text("#waiting .fault").startswith(words)
    page.evaluate("document.getElementById('most').value = 50")
    generate(page, "break")
    until(page, "!running")
    assert "Request failed during generation" in page.inner_text("#streaming .fault")
    assert page.evaluate("streaming.text") == "ab"
    assert page.inner_text("#streaming .note") == "2 tokens had come."


def test_a_key_is_asked_for_and_a_rate_is_recommended(guarded: str, opened: Open) -> None:
    page = opened(guarded)
    generate(page)
    until(page, "document.activeElement.id === 'key' && !running")
    words = "This server requires an API key. Enter it below the prompt, then send again."
    assert page.inner_text("#waiting .fault") == page.inner_text("#streaming .fault") == words
    page.keyboard.insert_text("wrong")
    press(page, "Enter")
    until(page, "!running")
    assert page.inner_text("#waiting .fault") == "The server does not accept this API key."
    page.evaluate("document.activeElement.select()")
    # A clock so slow that any machine is a fast one: a busy one may be as slow as a reader.
    page.evaluate("const clock = performance.now.bind(performance); performance.now = () => clock() / 1000")
    page.keyboard.insert_text(KEY)
    press(page, "Enter")
    until(page, "streaming.wholeAt && waiting.wholeAt && !running")
    assert page.evaluate("streaming.text") == ANSWER
    assert "hfstream serve --tokens-per-second 30" in page.inner_text("#hint")
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_raw_events_are_shown_as_they_came(url: str, opened: Open) -> None:
    page = opened(url)
    generate(page)
    until(page, "!running")
    page.evaluate("document.getElementById('raw').open = true")
    until(page, "document.getElementById('lines').childElementCount")
    lines = page.evaluate("[...document.getElementById('lines').children].map((line) => line.textContent)")
    assert re.fullmatch(r" +0\.\d{3} s  data: \{\"index\":1,.*\}", lines[0])
    assert lines[1] == ""
    assert '"generated_text":"' in lines[-2]


@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_window_is_wide_enough(url: str, opened: Open, dark: bool) -> None:
    page = opened(url, width=360, height=700, dark=dark)
    generate(page)
    until(page, "!running")
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    for count in (1, 7):
        point(page, f".token:nth-child({count})")
        left, right = until(
            page,
            "document.getElementById('about').hidden ? null : (({left, right}) => [left, right])"
            "(document.getElementById('about').getBoundingClientRect())",
        )
        assert 0 <= left < right <= 360
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    colours = page.evaluate("(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))")
    assert colours == (["rgb(19, 20, 22)", "rgb(236, 236, 238)"] if dark else ["rgb(246, 245, 242)", "rgb(29, 29, 31)"])


def test_events_are_read_however_the_stream_is_split(url: str, opened: Open) -> None:
    page = opened(url)
    wire = ': hello\r\n\r\ndata: {"ü": 中}\n\ndata\rdatum: x\rid: 7\r\ndata:a\ndata:  b🙂\r\r\ndata: never ended\n'
    read = f"""
        (() => {{
            const wire = new TextEncoder().encode({wire!r});
            const cuts = [...wire.keys()].map((at) => [at]).concat([[...wire.keys()]]);
            return [...new Set(cuts.map((cut) => {{
                const found = [];
                const reader = new EventReader({{ line: () => {{}}, event: (data) => found.push(data) }});
                [0, ...cut].forEach((at, place) => reader.feed(wire.subarray(at, cut[place] ?? wire.length)));
                return JSON.stringify(found);
            }}))];
        }})()
    """
    assert page.evaluate(read) == ['["{\\"ü\\": 中}","\\na\\n b🙂"]']


# --- Tools and JSON ---------------------------------------------------------------------------------------------------


def test_a_call_its_result_and_the_answer_are_shown(chat: tuple[str, ScriptedEngine], opened: Open) -> None:
    url, _ = chat
    page = opened(url, "tools")
    seen.clear()
    generate(page, "What is 17 * 23?")
    growing = "document.querySelector('#calls pre.growing')?.textContent"
    until(page, f"{growing}?.length > 5")
    assert '{"expression": "17 * 23"}'.startswith(page.evaluate(growing))
    assert page.inner_text("#status") == "The model calls calculator."
    seen.set()
    until(page, "!running")
    steps = page.evaluate(
        "[...document.querySelectorAll('.step')].map((step) => [...step.children].map((e) => e.textContent))"
    )
    assert steps == [
        ["The model calls calculator", '{"expression": "17 * 23"}'],
        ["Result of calculator, sent back", '{"result":391}'],
        ["The model writes", "It is 391."],
    ]
    assert not page.query_selector(".growing")
    assert page.inner_text("#status").startswith("The answer is whole, after 1 call and ")
    assert page.evaluate("tools.firstAt < tools.wholeAt")


def test_a_function_that_fails_is_told_to_the_model(chat: tuple[str, ScriptedEngine], opened: Open) -> None:
    page = opened(chat[0], "tools")
    calls = [
        ("calculator", '{"expression": "(1"}'),
        ("get_weather", '{"city": "Atlantis"}'),
        ("no", "{}"),
        ("calculator", "{"),
    ]
    results = page.evaluate(
        f"{json.dumps(calls)}.map(([name, text]) => JSON.parse(call({{ name, arguments: text }})).error)"
    )
    assert results[:3] == [
        "a closing parenthesis is missing",
        "there is no weather for Atlantis, only for Nuremberg, Berlin, Paris, London, Rome, New York, Tokyo, Sydney",
        "there is no function no",
    ]
    assert "JSON" in results[3]
    values = page.evaluate("['-(2 + 3) * 4 / 5', '2*-3', '.5 - 1.25'].map(calculate)")
    assert values == [-4, -6, -0.75]


def test_the_fields_of_an_object_fill_in(chat: tuple[str, ScriptedEngine], opened: Open) -> None:
    url, engine = chat
    page = opened(url)
    page.check("[value=json]", force=True)
    assert page.url.endswith("/demo#json")
    seen.clear()
    generate(page, "Sort this")
    fields = """Object.fromEntries(
        [...document.querySelectorAll('#object .answer > dl > dt')].map((name) => [name, name.nextSibling])
        .map((pair) => pair.map((part) => part.textContent))
    )"""
    until(page, "document.querySelector('#object dl.members')")
    shown = page.evaluate(fields)
    assert list(shown) == ["language", "topic", "mood", "urgent", "priority", "reply"]
    assert "German".startswith(shown["language"].removesuffix("…"))
    assert shown["reply"] == "…", "it has not come"
    seen.set()
    until(page, "!running")
    assert page.evaluate("JSON.stringify(partialValue(json.text))") == '{"language":"German","reply":{"refund":true}}'
    assert page.inner_text("#status").startswith("The object is whole and valid JSON")
    assert page.inner_text("#written") == TOKENIZER.decode(OBJECT)
    page.fill("#schema", "{")
    sent = len(engine.submitted)
    press(page, "Tab")
    page.click("#send")
    until(page, "!running")
    assert page.inner_text("#object .fault").startswith("The schema is not JSON: correct it, then send again.")
    assert len(engine.submitted) == sent


def test_json_is_read_wherever_it_is_cut(chat: tuple[str, ScriptedEngine], opened: Open) -> None:
    page = opened(chat[0], "json")
    text = '{"a": "x\\"\\u00e9", "b": [1, {"c": null}], "d": true, "f": "🙂"}'
    beginnings = json.dumps([text[:length] for length in range(1, len(text))])
    values = page.evaluate(f"{beginnings}.map((text) => partialValue(text) ?? null)")
    assert values[0] == {}
    for before, after in itertools.pairwise(values):
        assert list(after)[: len(before)] == list(before), "what has come stays"
    assert page.evaluate(f"JSON.stringify(partialValue({json.dumps(text)}))") == json.dumps(
        json.loads(text), ensure_ascii=False, separators=(",", ":")
    )
    assert page.evaluate("['Here it is', '{a: 1}', ''].map((text) => partialValue(text) ?? null)") == [None, None, None]


def test_an_error_says_what_to_do(url: str, opened: Open) -> None:
    page = opened(url, "tools")
    generate(page)
    until(page, "!running")
    assert page.inner_text("#calls .fault") == (
        "Template error: template not found. Tools and JSON need a model with a chat template; Text works."
    )
    page.route("**/v1/chat/completions", lambda route: route.abort())
    generate(page)
    until(page, "!running")
    assert page.inner_text("#calls .fault").endswith("Check that it is still running, then send again.")


@pytest.mark.parametrize("mode", ["text", "tools", "json"])
def test_on_a_phone_prompt_and_stream_are_in_view(url: str, opened: Open, mode: str) -> None:
    page = opened(url, mode, width=400, height=760)
    pane = {"text": "streaming", "tools": "calls", "json": "object"}[mode]
    for element in ("#prompt", "#send", f"#{pane} .first", f"#{pane} .answer"):
        box = page.locator(element).bounding_box()
        assert box is not None
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 760, element
    assert page.evaluate("[scrollY, document.documentElement.scrollWidth]") == [0, 400]
