"""Tests of `hfstream mock`."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from hfstream import InferenceClient
from hfstream.testing import Chunk, Recording, token_events
from tests.helpers.command_line import run_hfstream, running_hfstream, stop_hfstream

pytestmark = pytest.mark.slow

RULES = """\
rules:
  - when: {contains: cheese}
    text: Milk, rennet and salt.
  - when: {contains: never}
    text: "no"
"""


@pytest.fixture
def rules(tmp_path: Path) -> str:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return str(path)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_mock_shows_what_was_asked_and_what_answered(name: str, rules: str) -> None:
    with running_hfstream("mock", rules, "--port", "0") as (process, url, _):
        assert InferenceClient(url).text_generation("cheese?") == "Milk, rennet and salt."
        assert httpx.post(f"{url}/generate", json={"inputs": "Why?"}).status_code == 404
        stderr = stop_hfstream(process, name)
    assert process.returncode == 0
    lines = [" ".join(line.split()) for line in stderr.splitlines() if "POST" in line]
    assert lines == [
        '1 200 rule 1 (line 2) POST /generate user "cheese?", not streamed',
        '2 404 NOTHING MATCHES POST /generate user "Why?", not streamed',
    ]
    assert "Stopped after 2 requests, 1 of them without a match.\nNot used: rule 2 (line 4).\n" in stderr


def test_mock_replays_a_tape(tmp_path: Path) -> None:
    chunks = [Chunk(0.0, event) for event in token_events("Hello")]
    tape = Recording("POST", "/generate_stream", b'{"inputs":"x"}', 200, {}, chunks=chunks, ending="complete")
    tape.save(tmp_path / "tape.jsonl")
    with running_hfstream("mock", str(tmp_path / "tape.jsonl"), "--port", "0", "--match", "path") as (_, url, _):
        response = httpx.post(f"{url}/generate_stream", json={"inputs": "y"})
        assert response.content == b"".join(token_events("Hello"))


def test_mock_only_reads_the_rules_if_that_is_asked_for(rules: str) -> None:
    done = run_hfstream("mock", rules, "--check")
    assert done.returncode == 0
    assert done.stderr == f"{rules} is valid.\n"


def test_a_mistake_is_a_one_line_error(rules: str) -> None:
    Path(rules).write_text("rules:\n  - txt: a\n")
    done = run_hfstream("mock", rules, "--check")
    assert done.returncode == 1
    assert done.stderr.startswith(f"hfstream: {rules}, line 2: rule 1: `txt` is not a field (did you mean text?)")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["/no/such/file"], "hfstream: cannot read /no/such/file: No such file or directory\n"),
        (["{rules}", "--host", "192.0.2.1"], "hfstream: cannot listen on 192.0.2.1, port 8080: "),
    ],
)
def test_what_cannot_be_opened_is_a_one_line_error(options: list[str], message: str, rules: str) -> None:
    done = run_hfstream("mock", *(option.format(rules=rules) for option in options))
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("options", [["--port", "99999"], ["--speed", "0"], ["--speed", "fast"], ["--match", "all"]])
def test_wrong_options_are_named(options: list[str], rules: str) -> None:
    done = run_hfstream("mock", rules, *options)
    assert done.returncode == 2
    assert options[0] in done.stderr
