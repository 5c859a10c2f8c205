"""Tests of `hfstream map`."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hfstream.testing import Fault, Request, Response, ScriptedServer, chat_events, token_events
from tests.helpers.command_line import ENVIRONMENT, HFSTREAM, TIMEOUT, run_hfstream

pytestmark = pytest.mark.slow


def answer(request: Request) -> Response:
    body = request.json()
    if "messages" in body:
        return Response(chat_events("re: ", body["messages"][-1]["content"]))
    if body["inputs"] == "bad":
        return Response.error(422, "it is refused", "validation")
    return Response(token_events("re: ", body["inputs"], finish_reason="eos_token"))


def lines(output: str) -> list[Any]:
    return [json.loads(line) for line in output.splitlines()]


def test_each_line_is_answered_by_a_line() -> None:
    prompts = '"a"\n\n{"prompt": "b", "seed": 7}\n[{"role": "user", "content": "c"}]\n'
    with ScriptedServer(answer) as server:
        done = run_hfstream("map", "--url", server.url, "--max-tokens", "3", "--seed", "1", stdin=prompts)
        assert (done.returncode, done.stderr.split(",")[0]) == (0, "3 answered")
        first, second, third = lines(done.stdout)
        assert (first, second) == ({"index": 0, "output": "re: a"}, {"index": 1, "output": "re: b"})
        assert third["output"]["choices"][0]["message"]["content"] == "re: c"
        bodies = {body.get("inputs", "chat"): body for body in map(Request.json, server.requests)}
        assert bodies["a"]["parameters"] == {"max_new_tokens": 3, "seed": 1, "details": True}
        assert bodies["b"]["parameters"]["seed"] == 7
        assert (bodies["chat"]["max_tokens"], bodies["chat"]["seed"]) == (3, 1)


def test_lines_that_fail_are_reported_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('"a"\nnot JSON\n"bad"\n7\n{"prompt": "b", "temprature": 1}\n"c"')
    with ScriptedServer(answer) as server:
        done = run_hfstream("map", str(tmp_path / "prompts.jsonl"), "--url", server.url)
    assert done.returncode == 1
    assert "2 answered, 4 failed" in done.stderr
    results = lines(done.stdout)
    assert [result["index"] for result in results] == [0, 1, 2, 3, 4, 5]
    messages = [result.get("error", {}).get("message", "") for result in results]
    assert "line 2 is not JSON" in messages[1]
    assert messages[2] == "it is refused"
    assert "not int" in messages[3]
    assert "did you mean `temperature`" in messages[4]
    assert results[2]["error"] == {"type": "ValidationError", "message": "it is refused", "status_code": 422}


def test_a_line_that_cannot_be_read_is_one_failure_and_no_line_names_a_server(tmp_path: Path) -> None:
    with ScriptedServer(answer) as server, ScriptedServer(answer) as other:
        elsewhere = json.dumps({"prompt": "b", "model": other.url}).encode()
        file = tmp_path / "prompts.jsonl"
        file.write_bytes(b"\xef\xbb\xbf" + b'"a"\n"caf\xe9"\n' + elsewhere + b'\n"c"\n')
        done = run_hfstream("map", str(file), "--url", server.url, "--api-key", "secret")
        assert other.requests == []
    assert "2 answered, 2 failed" in done.stderr
    first, unreadable, refused, last = lines(done.stdout)
    assert (first["output"], last["output"]) == ("re: a", "re: c")
    assert "error" in unreadable
    assert "line 3 has a URL as `model`" in refused["error"]["message"]


def test_answers_do_not_wait_for_a_prompt_that_is_late() -> None:
    with ScriptedServer(answer) as server:
        command = [*HFSTREAM, "map", "--url", server.url]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
        with subprocess.Popen(command, **pipes) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for text in ("a", "b"):
                process.stdin.write(f'"{text}"\n')
                process.stdin.flush()
                assert json.loads(process.stdout.readline())["output"] == f"re: {text}"
            process.stdin.close()
        assert process.returncode == 0


def test_after_ctrl_c_the_next_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text("".join(f'"{number}"\n' for number in range(20)))
    arguments = ["map", str(tmp_path / "prompts.jsonl"), "--journal", str(tmp_path / "journal"), "--concurrency", "1"]
    stall = threading.Event()

    def ten(request: Request) -> Response:
        number = int(request.json()["inputs"])
        return Response([Fault.STALL]) if number == 10 and not stall.is_set() else answer(request)

    with ScriptedServer(ten) as server:
        command = [*HFSTREAM, *arguments, "--url", server.url]
        output: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=ENVIRONMENT, **output) as process:
            while len(server.requests) < 11:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 130
        assert [line["output"] for line in lines(stdout)] == [f"re: {number}" for number in range(10)]
        assert "10 answered, 0 failed" in stderr
        assert "interrupted" in stderr
        stall.set()
        done = run_hfstream(*arguments, "--url", server.url)
        assert [line["output"] for line in lines(done.stdout)] == [f"re: {number}" for number in range(20)]
        assert "20 answered (10 from the journal), 0 failed" in done.stderr
        assert len(server.requests) == 21
        done = run_hfstream(*arguments, "--url", server.url, "--seed", "3")
        assert (done.returncode, done.stdout) == (1, "")
        assert "is the journal of another run" in done.stderr


def test_the_bar_is_on_stderr_and_the_answers_on_stdout() -> None:
    with ScriptedServer(answer) as server:
        terminal, stderr = pty.openpty()
        command = [*HFSTREAM, "map", "--url", server.url, "--as-completed", "--details"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env={**ENVIRONMENT, "TERM": "xterm"}
        ) as process:
            os.close(stderr)
            output, _ = process.communicate(b'"a"\n"bad"\n', timeout=TIMEOUT)
        shown = os.read(terminal, 100_000).decode()
        os.close(terminal)
    assert process.returncode == 1
    assert sorted(line["index"] for line in lines(output.decode())) == [0, 1]
    assert "re: a" in output.decode()
    assert "1 failed" in shown


def test_what_is_wrong_with_the_options_is_said() -> None:
    for arguments, code, message in [
        (["map", "no-such-file", "--url", "http://127.0.0.1:9"], 1, "cannot read no-such-file"),
        (["map", "--concurrency", "0"], 2, "must be at least 1"),
        (["map", "--concurrency", "many"], 2, "invalid"),
        (["map", "--model", "small"], 2, "requires a URL that ends in /v1"),
    ]:
        done = run_hfstream(*arguments)
        assert done.returncode == code, done.stderr
        assert message in done.stderr


def test_without_a_url_it_starts_a_server() -> None:
    done = run_hfstream("map", "--max-new-tokens", "3", stdin='"How do you make cheese?"\n')
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout)[0]["output"].startswith("\nYou")
