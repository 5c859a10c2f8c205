"""Tests of `hfstream bench`."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hfstream.cli.bench_plot import _ceiling, plot
from hfstream.cli.bench_results import Level, percentile, report, table
from hfstream.testing import Fault, Response, ScriptedServer, chat_events, token_events
from tests.helpers.command_line import run_hfstream

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.slow
def test_bench_measures_streams(backend: str, tmp_path: Path) -> None:
    options = ["--requests", "6", "--concurrency", "1,3", "--max-new-tokens", "8", "--json", "-"]
    done = run_hfstream("bench", backend, *options, "--plot", str(tmp_path / "bench.svg"))
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("concurrency"))
    assert [line.split()[0] for line in lines[at + 1 : at + 3]] == ["1", "3"]
    results = json.loads(done.stdout)  # a program reads it
    assert (results["url"], results["api"], results["max_tokens"]) == (backend, "text", 8)
    for level, concurrency in zip(results["levels"], (1, 3), strict=True):
        assert (level["max_concurrency"], level["completed"], level["failed"]) == (concurrency, 6, 0)
        assert level["total_output_tokens"] == 48
        assert 0 < level["median_ttft_ms"] <= level["p99_ttft_ms"] < level["p99_e2el_ms"]
    picture = ElementTree.parse(tmp_path / "bench.svg")
    assert len(picture.findall(f"{SVG}polyline")) == 7
    assert f"written to {tmp_path / 'bench.svg'}" in done.stderr.replace("\n", "")


@pytest.mark.slow
def test_chats_are_measured_by_chunks_with_content() -> None:
    with ScriptedServer(Response(chat_events("Hello", " you"))) as server:
        done = run_hfstream("bench", server.url, "--api", "chat", "--requests", "3", "--json", "-")
        [level] = json.loads(done.stdout)["levels"]
        assert (level["completed"], level["total_output_tokens"]) == (3, 6)
        assert {request.path for request in server.requests} == {"/v1/chat/completions"}


@pytest.mark.slow
def test_bench_counts_failures_by_message() -> None:
    refused = [Response.error(422, "no", "validation")] * 2
    with ScriptedServer(*refused, Response.error(429, "Model is overloaded", "overloaded")) as server:
        done = run_hfstream("bench", server.url, "--requests", "3", "--concurrency", "1", "--json", "-")
        assert done.returncode == 1
        assert "failed: 2 x OverloadedError: Model is overloaded" in done.stderr
        assert "failed: 1 x ValidationError: no" in done.stderr
        [level] = json.loads(done.stdout)["levels"]
        assert (level["failed"], level["overloaded"], level["completed"]) == (3, 2, 0)
        assert len(server.requests) == 4  # one before the clock starts; none is sent again


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured() -> None:
    answer = Response(token_events("Hello", " you"))
    with ScriptedServer(answer, answer, answer, Response([Fault.STALL])) as server:
        command = [sys.executable, "-m", "hfstream.cli", "bench", server.url, "--concurrency", "1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            while len(server.requests) < 4:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    concurrency, requests, *_, failed = output.splitlines()[2].split()
    assert (concurrency, failed) == ("1", "0")
    assert float(requests) > 0


@pytest.mark.slow
def test_a_terminal_shows_how_far_it_is() -> None:
    with ScriptedServer(Response(token_events("Hello", " you"))) as server:
        here, there = pty.openpty()
        command = [sys.executable, "-m", "hfstream.cli", "bench", server.url, "--requests", "4", "--concurrency", "1"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=there) as process:
            os.close(there)
            shown = b""
            while True:
                try:
                    shown += os.read(here, 65_536)
                except OSError:  # its end
                    break
            os.close(here)
        assert process.returncode == 0
    assert b"1 at a time" in shown
    assert b"4/4" in shown
    assert b"tokens/s" in shown


@pytest.mark.slow
def test_a_file_that_cannot_be_written_is_named() -> None:
    with ScriptedServer(Response(token_events("Hello"))) as server:
        done = run_hfstream("bench", server.url, "--requests", "1", "--plot", "/no/such/bench.svg")
    assert done.returncode == 1
    assert "cannot write /no/such/bench.svg: No such file or directory" in done.stderr
    assert done.stdout.startswith("             requests")


@pytest.mark.parametrize("concurrency", ["0", "1,", "a", "4,-1"])
def test_a_concurrency_is_a_list_of_numbers(concurrency: str, capsys: pytest.CaptureFixture[str]) -> None:
    from hfstream.cli import main  # noqa: PLC0415

    with pytest.raises(SystemExit) as caught:
        main(["bench", "http://x", "--concurrency", concurrency])
    assert caught.value.code == 2
    assert "--concurrency" in capsys.readouterr().err


def level_of(concurrency: int, *requests: list[float]) -> Level:
    """A level of ten seconds; each request by the seconds from its sending to its tokens."""
    level = Level(concurrency, began=100.0, ended=110.0)
    for times in requests:
        level.add(100.0, [100.0 + seconds for seconds in times])
        level.tokens += len(times)
    return level


def test_figures_of_a_level() -> None:
    level = level_of(2, [0.5, 0.75, 1.25], [1.0], [])
    level.add_failure(ValueError("no"), overloaded=False)
    [figures] = report([level], url="http://x")["levels"]
    expected: dict[str, Any] = {
        "completed": 2, "failed": 2, "overloaded": 0, "duration": 10.0, "total_output_tokens": 4,
        "output_throughput": 0.4, "request_throughput": 0.2,
        "median_ttft_ms": 500.0, "p95_ttft_ms": 1000.0, "mean_ttft_ms": 750.0,
        "median_itl_ms": 250.0, "p99_itl_ms": 500.0, "mean_tpot_ms": 375.0, "p99_e2el_ms": 1250.0,
    }  # fmt: skip
    assert figures["errors"] == {"the answer has no tokens": 1, "ValueError: no": 1}
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert table([level]).splitlines()[2:] == [
        "          2      0.20         0   500.0  1000.0  1000.0    250.0   500.0   500.0       2",
        "failed: 1 x the answer has no tokens",
        "failed: 1 x ValueError: no",
    ]


def test_a_level_without_a_whole_answer_has_zeros() -> None:
    [figures] = report([level_of(1)])["levels"]
    assert {value for name, value in figures.items() if name.endswith("_ms")} == {0.0}
    assert "polyline" in plot(report([level_of(1)], url="http://x", api="text", max_tokens=1))


def test_percentiles_are_values() -> None:
    assert [percentile(range(1, 101), percent) for percent in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([3.0], 50) == 3.0
    assert percentile([], 99) == 0.0


def test_a_scale_ends_at_a_round_number() -> None:
    assert [_ceiling(value) for value in (1.0, 1.5, 3.0, 70.0, 81.0, 999.0)] == [1, 2, 4, 80, 100, 1000]


def test_the_picture_names_its_url_as_text() -> None:
    picture = plot(report([level_of(1, [1.0])], url="http://x/<&>", api="chat", max_tokens=8))
    title = ElementTree.fromstring(picture).find(f"{SVG}text")
    assert title is not None
    assert title.text == "hfstream bench http://x/<&>: chat, up to 8 tokens"
