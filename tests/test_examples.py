"""Every program in examples/ runs as it is, against the bundled model behind a port, and shows what it promises."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hfstream import InferenceClient
from hfstream.server import BackgroundServer, Settings

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PROMPT = "How do you make cheese?"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """One permit, and a pace: so a busy server is busy for as long as a test wants."""
    with BackgroundServer(Settings(max_concurrent_requests=1, tokens_per_second=100)) as server:
        yield server.url


def start(name: str, url: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), url]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)}  # this checkout's hfstream
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
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
    until = time.monotonic() + 5
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
    busy = InferenceClient(url).text_generation(PROMPT, max_new_tokens=400, stream=True)
    with start("retry_on_overload", url) as process:
        with busy:
            assert process.stdout is not None
            told = process.stdout.readline()
        assert told == "overloaded, asking again after attempt 1\n"
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


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_says_first_what_will_be_seen_and_is_run_here(path: Path) -> None:
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert said is not None
    assert said.startswith("You will see ")
    assert f'"{path.stem}"' in Path(__file__).read_text(encoding="utf-8")
