"""Tests of `hfstream serve`."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from hfstream import IncompleteGenerationError, InferenceClient, RetryPolicy
from tests.helpers.command_line import ENVIRONMENT, HFSTREAM, TIMEOUT, run_hfstream

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def serving(*options: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """A server, and its URL; the model is being loaded, and the first line says so."""
    process = subprocess.Popen(
        [*HFSTREAM, "serve", "--port", "0", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    with process:
        try:
            assert process.stderr is not None
            url = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
            assert url is not None
            yield process, url[0]
        finally:
            process.kill()


def test_serve_prints_its_url_and_stops_on_ctrl_c() -> None:
    with serving("--max_concurrent_requests", "3") as (process, url):
        done = run_hfstream("generate", "How do you make cheese?", "--url", url, "--max-new-tokens", "8")
        assert done.returncode == 0, done.stderr  # retried while the model was loading
        assert process.stderr is not None
        assert f"is serving bundled at {url}" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0
        assert "Stopped." in stderr
        assert "Traceback" not in stderr


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_serve_says_that_it_waits_for_running_requests(name: str) -> None:
    with serving("--tokens-per-second", "10") as (process, url):
        with InferenceClient(url, retry=RetryPolicy(attempts=100, max_wait=1)) as client:
            stream = client.text_generation("Hi", max_new_tokens=500, stream=True)
            process.send_signal(signal.Signals[name])
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            assert "Waiting up to 10 s for 1 running request. Press Ctrl-C again" in next(
                line for line in lines if "Waiting" in line
            )
            process.send_signal(signal.Signals[name])  # ends it, long before its 500 tokens
            with pytest.raises(IncompleteGenerationError, match="the server is stopping"):
                stream.final()
        _, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    assert stderr.endswith("Stopped.\n")
    assert "Traceback" not in stderr


def test_a_port_in_use_is_a_one_line_error(backend: str) -> None:
    done = run_hfstream("serve", "--port", backend.rpartition(":")[2])
    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_on_a_unix_socket(tmp_path: Path) -> None:
    name = str(tmp_path / "server.sock")
    with socket.socket(socket.AF_UNIX) as left_behind:  # by a server that was killed
        left_behind.bind(name)
    process = subprocess.Popen(
        [*HFSTREAM, "serve", "--uds", name, "--served-model-name", "small"],
        stderr=subprocess.PIPE, text=True, env={**ENVIRONMENT, "HFSTREAM_API_KEY": "secret"},
    )  # fmt: skip
    with process:
        try:
            assert process.stderr is not None
            assert "is loading small; until then, unix:" in process.stderr.readline()
            with httpx.Client(transport=httpx.HTTPTransport(uds=name), base_url="http://localhost") as client:
                assert client.get("/v1/models").json()["data"][0]["id"] == "small"
                assert client.post("/generate", json={"inputs": "Hi"}).status_code in {401, 503}
            done = run_hfstream("serve", "--uds", name)
            assert done.returncode == 1
            assert "in use" in done.stderr
            process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT) == 0
            assert not Path(name).exists()
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "/no/such/model"], "no such file or directory"),
        (["--root-path", "llm"], "root_path must be"),
        (["--max-input-tokens", "9", "--max-total-tokens", "9"], "max_input_tokens must be less"),
        (["--replicas", "2", "--uds", "/tmp/socket"], "uds cannot be combined with replicas"),
        (["--replicas", "2", "--upstream", "http://one"], "upstreams cannot be combined with replicas"),
    ],
)
def test_wrong_options_are_a_one_line_error(options: list[str], message: str) -> None:
    done = run_hfstream("serve", *options)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_too_little_memory_for_this_model_is_an_error() -> None:
    done = run_hfstream("serve", "--port", "0", "--kv-cache-memory", "1K")
    assert done.returncode == 1
    assert "kv_cache_memory must be at least 163,840 bytes with this model, not 1,024" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_no_size_is_an_error() -> None:
    done = run_hfstream("serve", "--kv-cache-memory", "much")
    assert done.returncode == 2
    assert "'much' is not a size; write, for example, 512M or 2G" in done.stderr


def test_serve_in_front_of_another_server(backend: str) -> None:
    with serving("--upstream", f"{backend}/v1", "--upstream", backend) as (process, url):
        for _ in range(2):  # one for each of the two, which are one
            done = run_hfstream("generate", "How do you make cheese?", "--url", url, "--max-new-tokens", "200")
            assert done.returncode == 0, done.stderr
            assert "curd" in done.stdout
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0
        assert "Stopped." in stderr


def test_an_upstream_that_is_no_url_is_a_one_line_error() -> None:
    done = run_hfstream("serve", "--upstream", "small")
    assert done.returncode == 1
    assert "upstream 'small' is not a URL" in done.stderr
    assert len(done.stderr.splitlines()) == 1
