"""Every program in examples/ runs as it is, against the bundled model behind a port, and shows what it promises.

Those that need a framework which is no dependency of the tests run in tests/clients.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from hfstream import InferenceClient
from hfstream.server import BackgroundServer, Settings
from hfstream.sse import SSEDecoder
from tests.helpers.shared_engine import SharedEngine

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PROMPT = "How do you make cheese?"


@pytest.fixture(scope="module")
def url(shared_engine: SharedEngine) -> Iterator[str]:
    """One permit, and a pace: so a busy server is busy for as long as a test wants."""
    with BackgroundServer(
        Settings(max_concurrent_requests=1, tokens_per_second=100), engine=shared_engine.connect()
    ) as server:
        yield server.url


@contextmanager
def start(name: str, url: str) -> Generator[subprocess.Popen[str]]:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), url]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)}  # this checkout's hfstream
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert err == ""
    return out


def shown(name: str, url: str) -> str:
    with start(name, url) as process:
        return finish(process)


def permits(url: str) -> int:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return int(next(line for line in lines if line.startswith("hfstream_permits_taken ")).split()[1])


def eventually_idle(url: str) -> None:
    until = time.monotonic() + 60
    while permits(url):
        assert time.monotonic() < until, "the server goes on generating"
        time.sleep(0.01)


@pytest.fixture
def answer(url: str) -> str:
    return InferenceClient(url).text_generation(PROMPT, max_new_tokens=12)


@pytest.mark.parametrize("name", ["stream_text", "stream_async"])
def test_the_text_is_the_answer(name: str, url: str, answer: str) -> None:
    assert shown(name, url) == f"{answer}\n"


def test_details_are_one_object_a_token(url: str) -> None:
    lines = shown("stream_details", url).splitlines()
    assert len(lines) == 12
    assert all(line.startswith("StreamResponse(token=Token(id=") for line in lines)
    assert all(line.endswith("generated_text=None, details=None)") for line in lines[:-1])
    assert "finish_reason=<FinishReason.Length: 'length'>, generated_tokens=12" in lines[-1]


def test_an_overloaded_server_is_asked_again(url: str, answer: str) -> None:
    # Repeats itself, for twenty seconds: until the program has been refused, however long it takes to start.
    endless = InferenceClient(url).text_generation(PROMPT, max_new_tokens=1900, repetition_penalty=0.01, stream=True)
    with start("retry_on_overload", url) as process:
        with endless:
            assert process.stdout is not None
            line = process.stdout.readline()
        assert line == "overloaded, retrying after attempt 1\n"
        assert answer in finish(process)


def test_without_overload_both_answers_come_at_once(url: str, answer: str) -> None:
    out = shown("retry_on_overload", url)
    assert out.startswith(answer)
    assert "overloaded" not in out


def test_a_stream_that_is_stopped_ends_on_the_server_too(url: str) -> None:
    out = shown("stop_early", url)
    assert out.splitlines()[-1].startswith("stopped after ")
    assert out.splitlines()[-1].endswith("finish_reason is None")
    eventually_idle(url)


def test_a_chat_is_put_together_again(url: str) -> None:
    first, summary, second = shown("stream_chat", url).splitlines()
    assert "milk" in first or "cheese" in first.lower()
    assert summary == f"assistant {len(first)} characters; length"
    assert second


def test_a_tool_is_called_and_its_answer_heard(url: str) -> None:
    answer = "The weather in Nuremberg: 12 degrees and rainy"
    assert shown("chat_with_tools", url) == f"get_weather(Nuremberg)\n{answer}\n"


def test_several_streams_at_once(url: str) -> None:
    lines = shown("gather_async", url).splitlines()
    assert [line.partition("?")[0] for line in lines] == [
        "How do you make cheese",
        "What is Deep Learning",
        "Why is the sky blue",
    ]
    assert all("the first token after" in line for line in lines)


def test_a_proxy_streams_on(url: str, answer: str) -> None:
    *tokens, end = [(event.event, json.loads(event.data)) for event in SSEDecoder().feed(shown("proxy", url).encode())]
    # An EventSource that is not closed asks again when the answer ends.
    assert end[0] == "done"
    data = [text for _, text in tokens]
    assert "".join(data).strip() == answer.strip()
    assert len(data) > 6
    eventually_idle(url)


def test_the_fixtures_are_there_for_others() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "test_my_app.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_the_notebook_runs(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    variables: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]).replace("http://127.0.0.1:8080", url), variables)
    output = capsys.readouterr().out
    assert "cheese" in output.lower()
    assert "Usage(prompt_tokens=" in output


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_says_first_what_will_be_seen_and_is_run_here(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring is not None
    assert docstring.startswith("You will see ")
    tests = [Path(__file__), *(ROOT / "tests" / "clients").glob("*.py")]
    assert any(f'"{path.stem}' in test.read_text(encoding="utf-8") for test in tests)
