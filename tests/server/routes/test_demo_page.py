"""The page at /demo: what is served, and what a browser makes of it."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import hfstream.server
from hfstream.server import BackgroundServer, Settings
from hfstream.server.engine.protocol import EngineRequest
from tests.helpers.chromium import CHROMIUM, Chromium, Page
from tests.helpers.scripted_engine import (
    Script,
    ScriptedEngine,
    eventually,
    http,
    idle,
    ids,
    metric,
    raw_request,
    save_tokenizer,
)

PAGE = (Path(hfstream.server.__file__).parent / "routes" / "demo.html").read_text(encoding="utf-8")
ANSWER = "\nGrüße, 日! " + 4 * "Hello, world! "
KEY = "a key"


seen = threading.Event()
"""The answer to "pause" goes on after this is set."""


def script(job: EngineRequest) -> Script:
    if list(job.prompt) == ids("long"):
        return itertools.cycle(
            [ids("a")[0], *[None] * 9]
        )  # twelve seconds for sixty tokens, and more than is looked for
    if list(job.prompt) == ids("pause"):
        return pausing()
    return [*ids("ab"), RuntimeError("broken")] if list(job.prompt) == ids("break") else ids(ANSWER)


def pausing() -> Script:
    yield from ids(ANSWER)[:10]
    while not seen.is_set():
        yield None
    yield from ids(ANSWER)[10:]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def served(model: Path) -> Iterator[str]:
    engine = ScriptedEngine(script, interval=0.02)
    with BackgroundServer(Settings(model=str(model), max_concurrent_requests=2), engine=engine) as server:
        yield server.url


@pytest.fixture
def url(served: str) -> Iterator[str]:
    yield served
    assert eventually(lambda: idle(served)), "whatever a page has asked for is over"


@pytest.fixture(scope="module")
def guarded(model: Path) -> Iterator[str]:
    """Wants a key, and is as fast as it can."""
    with BackgroundServer(Settings(model=str(model), api_key=KEY), engine=ScriptedEngine(script)) as server:
        yield server.url


# --- What is served ---------------------------------------------------------------------------------------------------


def test_the_page_is_served_to_everybody(url: str, guarded: str) -> None:
    for server in (url, guarded):
        response = http.get(server + "/demo")
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.text == PAGE
        assert http.get(server + "/").content == b"", "which is the health check, as before"
        browser = http.get(server + "/", headers={"accept": "text/html,application/xhtml+xml"}, follow_redirects=True)
        assert browser.text == PAGE


def test_the_policy_lets_nothing_in_but_the_page_itself(url: str) -> None:
    told = http.get(url + "/demo").headers["content-security-policy"]
    policy = dict(part.strip().split(" ", 1) for part in told.split(";"))

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


def test_the_page_is_small_and_needs_nothing_from_elsewhere() -> None:
    assert len(PAGE.encode()) < 32_000
    assert not re.findall(r"https?:|//\w|@import|url\(|\bsrc=|\bimport\b", PAGE)
    markup = re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", PAGE)
    assert not markup, "what a model says is text"


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
    fields = [(attributes, inside) for tag, attributes, inside in elements.found if tag in ("input", "textarea")]
    assert len(fields) == 5
    assert all(inside or attributes["id"] in labelled for attributes, inside in fields)
    for _, attributes, _ in elements.found:
        for reference in ("for", "aria-describedby", "aria-labelledby"):
            assert attributes.get(reference) in (None, *names)
        assert attributes.get("aria-live") in (None, "polite")
        assert attributes.get("role") != "alert"
    assert set(re.findall(r'\$\("(\w+)"\)', PAGE)) <= set(names)


# --- In a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if CHROMIUM is None or os.name != "posix":
        pytest.skip("there is no Chromium in the PATH")
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


Open = Callable[..., Page]


@pytest.fixture
def opened(browser: Chromium) -> Iterator[Open]:
    pages: list[Page] = []

    def opened(url: str, *, dark: bool = False, **size: int) -> Page:
        page = browser.page(url + "/demo", dark=dark, **size)
        page.until("document.getElementById('served').textContent")  # the last thing to move what a pointer aims at
        page("document.getElementById('most').value = 60")  # the scripted model has a small context
        pages.append(page)
        return page

    yield opened
    try:
        assert [page.complaints() for page in pages] == [[] for _ in pages]
    finally:
        for page in pages:
            page.close()


def ask(page: Page, prompt: str = "Hi") -> None:
    page(f"document.getElementById('prompt').value = {prompt!r}")
    page("window.clicks = 0; document.getElementById('generate').addEventListener('click', () => window.clicks++)")
    page.point("#generate", click=True)
    page.until("window.clicks")


def test_tokens_are_read_before_the_whole_answer_is_there(url: str, opened: Open) -> None:
    page = opened(url)
    assert page.until("document.getElementById('served').textContent").startswith("hfstream ")
    seen.clear()
    ask(page, "pause")
    page.until("streaming.tokens > 4")
    shown = page("[waiting.answer.textContent, waiting.asking, streaming.answer.textContent]")
    assert shown[:2] == ["", True]
    assert ANSWER.startswith(shown[2])
    assert len(shown[2]) > 2
    page.until("streaming.now > 3 * streaming.firstAt")
    seen.set()
    page.until("!running")
    assert page("streaming.answer.textContent") == page("streaming.text") == page("waiting.text") == ANSWER
    assert page.text("#status").startswith("Reading could begin ")
    assert page.text("#status").endswith(" s earlier. Both texts are the same.")
    assert page("streaming.firstAt < 0.5 * streaming.wholeAt && waiting.firstAt === waiting.wholeAt")
    assert 0 < float(page.text("#streaming .pace")) < 60  # of 50 at the most: a busy machine is slower
    assert re.fullmatch(r"\d+ tokens\. Seed \d+\.", page.text("#streaming .note"))
    assert page.text("#streaming .note") == page.text("#waiting .note"), "one seed for both"


def test_stop_frees_the_servers_places(url: str, opened: Open) -> None:
    page = opened(url)
    ask(page, "long")
    page.until("streaming.tokens > 2")
    assert eventually(lambda: metric(url, "hfstream_permits_taken") == 2)
    page.point("#stop", click=True)
    assert eventually(lambda: metric(url, "hfstream_permits_taken") == 0)
    page.until("!running")
    assert re.fullmatch(r"Stopped after \d+ tokens\.", page.text("#streaming .note"))
    assert page.text("#waiting .note") == "Stopped. Nothing had come."
    assert page.text("#status") == "Stopped."
    assert page("document.getElementById('stop').getAttribute('aria-disabled')") == "true"


def test_who_asks_anew_gives_the_first_question_up(url: str, opened: Open) -> None:
    page = opened(url)
    ask(page, "long")
    page.until("streaming.tokens > 2")
    ask(page, "Hi")
    page.until("!running")
    assert page("streaming.text") == page("waiting.text") == ANSWER
    assert eventually(lambda: idle(url))


def test_a_pointer_on_a_token_tells_its_probability(url: str, opened: Open) -> None:
    page = opened(url)
    ask(page)
    page.until("!running")
    assert page("document.getElementById('about').hidden")
    page.point(".token:nth-child(3)")
    page.until("!document.getElementById('about').hidden")
    told = page.text("#about")
    token = page("facts.get(document.querySelector('.token:nth-child(3)')).token.id")
    assert told.startswith(f"probability 99.3 %, logprob -0.0074, id {token}")
    assert told.count("99.3 %") == 1 + 4, "and those of the best four"
    page.point("h1")
    page.until("document.getElementById('about').hidden")


def test_tokens_without_a_text_of_their_own_can_be_pointed_at(url: str, opened: Open) -> None:
    page = opened(url)
    ask(page)
    page.until("!running")
    marks = page("[...document.querySelectorAll('.token[data-mark]')].map((token) => token.dataset.mark)")
    assert marks[0] == "↵"
    assert marks[-1] == "<eos>"
    assert "·" in marks, "the first bytes of a character"
    page.point('.token[data-mark="·"]')
    assert "A part of a character" in page.until("document.getElementById('about').innerText")


def test_everything_can_be_done_with_the_keyboard(url: str, opened: Open) -> None:
    page = opened(url)
    page.press("Tab")
    assert page("document.activeElement.id") == "prompt"
    page("document.activeElement.select()")
    page.write("long")
    page.press("Enter")
    page.until("streaming.tokens > 2")
    page.press("Tab", "Tab")
    assert page("document.activeElement.id") == "stop"
    page.press("Enter")
    page.until("!running")
    assert page("document.activeElement.id") == "stop"
    for _ in range(20):
        page.press("Tab")
        if page("document.activeElement.matches('.token')"):
            break
    assert "probability 99.3 %" in page.text("#about")
    page.press("ArrowRight")
    assert page("document.activeElement === document.querySelectorAll('.token')[1]")
    assert page("document.getElementById('said').textContent").startswith("a: probability 99.3 %")
    page.press("End")
    assert page("document.activeElement === streaming.answer.lastElementChild")
    page.press("Escape")
    assert page("document.getElementById('about').hidden")
    page.press("Tab")
    assert page("document.activeElement.tagName") == "SUMMARY", "all tokens are one stop"
    page.press("Enter")
    assert page("document.getElementById('raw').open")
    page("document.getElementById('prompt').focus()")
    page.press("Enter")
    page.until("streaming.tokens > 2")
    page.press("Escape")
    page.until("!running")
    assert page.text("#status") == "Stopped."


def test_overload_is_told_counted_down_and_survived(url: str, opened: Open) -> None:
    page = opened(url)
    held = [raw_request(url, "/generate_stream", {"inputs": "long", "parameters": {}}) for _ in range(2)]
    assert eventually(lambda: metric(url, "hfstream_permits_taken") == 2)
    ask(page)
    pattern = r"Model is overloaded\. Asking again in (\d\.\d) s"
    found = page.until(lambda: re.search(pattern, page.text("#streaming")))
    assert 0 < float(found[1]) <= 1
    assert page.until(lambda: re.search(pattern, page.text("#waiting")))
    assert page.text("#status") == "The server is busy. It is asked again until it answers; Stop ends that."
    page.press("Escape")
    page.until("!running")
    assert not re.search(pattern, page.text(".panes"))
    ask(page)
    page.until("!streaming.busy.hidden && !waiting.busy.hidden")
    for connection in held:
        connection.close()
    page.until("!running")
    assert page("streaming.text") == page("waiting.text") == ANSWER
    assert page.text("#streaming .note").endswith(" s of it was waiting for a place.")
    assert page.text("#status").startswith("There was no place for both at once")


def test_errors_are_told_in_the_servers_words(url: str, opened: Open) -> None:
    page = opened(url)
    page("document.getElementById('most').value = 300")
    ask(page)
    page.until("!running")
    words = "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 100."
    assert page.text("#streaming .fault").startswith(words)
    assert page.text("#waiting .fault").startswith(words)
    page("document.getElementById('most').value = 50")
    ask(page, "break")
    page.until("!running")
    assert "Request failed during generation" in page.text("#streaming .fault")
    assert page("streaming.text") == "ab"
    assert page.text("#streaming .note") == "2 tokens had come."


def test_a_key_is_asked_for_and_a_pace_is_recommended(guarded: str, opened: Open) -> None:
    page = opened(guarded)
    ask(page)
    page.until("document.activeElement.id === 'key' && !running")
    assert page.text("#waiting .fault") == page.text("#streaming .fault") == "This server wants an API key."
    page.write("wrong")
    page.press("Enter")
    page.until("!running")
    assert page.text("#waiting .fault") == "The server does not take this API key."
    page("document.activeElement.select()")
    # A clock so slow that any machine is a fast one: what a busy one says in a second may be a pace to read at.
    page("const clock = performance.now.bind(performance); performance.now = () => clock() / 1000")
    page.write(KEY)
    page.press("Enter")
    page.until("streaming.wholeAt && waiting.wholeAt && !running")
    assert page("streaming.text") == ANSWER
    assert "hfstream serve --tokens-per-second 30" in page.text("#hint")
    assert page("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_raw_events_are_shown_as_they_came(url: str, opened: Open) -> None:
    page = opened(url)
    ask(page)
    page.until("!running")
    page("document.getElementById('raw').open = true")
    page.until("document.getElementById('lines').childElementCount")
    lines = page("[...document.getElementById('lines').children].map((line) => line.textContent)")
    assert re.fullmatch(r" +0\.\d{3} s  data: \{\"index\":1,.*\}", lines[0])
    assert lines[1] == ""
    assert '"generated_text":"' in lines[-2]


@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_window_is_wide_enough(url: str, opened: Open, dark: bool) -> None:
    page = opened(url, width=360, height=700, dark=dark)
    ask(page)
    page.until("!running")
    page("for (const part of document.querySelectorAll('details')) part.open = true")
    for count in (1, 7):
        page.point(f".token:nth-child({count})")
        left, right = page.until(
            "document.getElementById('about').hidden ? null : (({left, right}) => [left, right])"
            "(document.getElementById('about').getBoundingClientRect())"
        )
        assert 0 <= left < right <= 360
    assert page("document.documentElement.scrollWidth") == 360
    colours = page("(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))")
    assert colours == (["rgb(19, 20, 22)", "rgb(236, 236, 238)"] if dark else ["rgb(246, 245, 242)", "rgb(29, 29, 31)"])


def test_events_are_read_however_the_wire_is_cut(url: str, opened: Open) -> None:
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
    assert page(read) == ['["{\\"ü\\": 中}","\\na\\n b🙂"]']
