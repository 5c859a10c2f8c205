"""A server with a port: its start and its end, on a thread and as a process."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hfstream.server import BackgroundServer, Settings, StartError, serve
from tests.helpers.processes import children_of, is_running
from tests.helpers.scripted_engine import (
    EOS,
    ScriptedEngine,
    endless,
    events,
    eventually,
    http,
    ids,
    post,
    raw_request,
)

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_thread_remains() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert (
        not {thread for thread in threading.enumerate() if "engine" in thread.name or "server" in thread.name} - before
    )


# --- before the start -------------------------------------------------------------------------------------------------


def test_a_background_server_that_was_not_entered_says_so() -> None:
    with pytest.raises(RuntimeError, match="with BackgroundServer"):
        _ = BackgroundServer(engine=ScriptedEngine()).url


def test_settings_of_another_type_are_refused() -> None:
    wrong: Any = {"port": 0}
    with pytest.raises(TypeError, match="settings must be Settings"):
        BackgroundServer(wrong)


# --- start ------------------------------------------------------------------------------------------------------------


def test_a_background_server_that_cannot_start_raises_the_reason(model: Path, tmp_path: Path) -> None:
    def load() -> None:
        raise ValueError("no such weights")

    with (
        pytest.raises(StartError, match="no such weights"),
        BackgroundServer(Settings(model=str(model)), engine=ScriptedEngine(load=load)),
    ):
        pass
    with pytest.raises(StartError, match="there is no model in"), BackgroundServer(Settings(model=str(tmp_path))):
        pass
    with (
        pytest.raises(StartError, match="tokenizer"),
        BackgroundServer(Settings(model=str(tmp_path)), engine=ScriptedEngine()),
    ):
        pass


def test_a_taken_port_is_a_start_error() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(
            StartError, match=r"cannot listen on 127.0.0.1, port \d+: Address already in use. Port 0 takes a free one$"
        ),
    ):
        serve(Settings(port=other.getsockname()[1]))


# --- end --------------------------------------------------------------------------------------------------------------


def listens(url: str) -> bool:
    with (
        contextlib.suppress(OSError),
        socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 80), timeout=1),
    ):
        return True
    return False


def test_a_background_server_closes_its_port_and_its_sockets(model: Path) -> None:
    for _ in range(3):
        with BackgroundServer(Settings(model=str(model)), engine=ScriptedEngine()) as server:
            assert post(server.url, "/generate").status_code == 200
        assert not listens(server.url)
    gc.collect()  # a socket that is not closed would be a ResourceWarning, which pytest makes an error


def test_a_background_server_aborts_running_requests(model: Path) -> None:
    engine = ScriptedEngine(endless, interval=0.05)
    with BackgroundServer(Settings(model=str(model), shutdown_grace=300), engine=engine) as server:
        connection = raw_request(server.url, "/generate_stream", {"inputs": "Hi"})
        assert connection.recv(10)
        start = time.monotonic()
    assert time.monotonic() - start < 60
    body = b""
    while chunk := connection.recv(65536):
        body += chunk
    connection.close()
    # The stream ends with an error event, and is complete as HTTP.
    assert b'{"error":"Incomplete generation: the server is stopping","error_type":"incomplete_generation"}' in body
    assert body.endswith(b"0\r\n\r\n")


def test_an_engine_that_fails_stops_the_server(model: Path) -> None:
    engine = ScriptedEngine(endless, interval=0.01)
    with BackgroundServer(Settings(model=str(model)), engine=engine) as server:
        connection = raw_request(server.url, "/generate_stream", {"inputs": "Hi"})
        assert connection.recv(10)
        engine.failure = RuntimeError("no more memory")
        with connection, connection.makefile("rb") as body:
            assert b"Server error: no more memory" in body.read()
        assert eventually(lambda: not listens(server.url))


def test_requests_may_finish_within_the_grace(model: Path) -> None:
    engine = ScriptedEngine(lambda job: [*ids("ab"), EOS], interval=0.2)
    with BackgroundServer(Settings(model=str(model)), engine=engine) as server:
        inner: Any = server
        with raw_request(server.url, "/generate_stream", {"inputs": "Hi"}) as connection:
            body = connection.makefile("rb")
            body.readline()
            inner._server.stop(grace=60)
            assert b'"generated_text":"ab"' in body.read()
            body.close()


PROGRAM = """
import gc, sys
from hfstream.server import Settings, StartError, serve
try:
    serve(Settings(port=0, **eval(sys.argv[1])), started=lambda url: print(url, flush=True))
except StartError as error:
    print(error)
    sys.exit(1)
print("ended,", "frozen" if gc.get_freeze_count() > 10_000 else "not frozen", flush=True)
"""


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`serve` with the bundled model, once it is ready, and its URL."""
    settings = getattr(request, "param", {})
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, repr(settings)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            assert eventually(lambda: http.get(url + "/health").status_code == 200, within=120)
            yield process, url
        finally:
            process.kill()


def test_a_stop_signal_lets_running_requests_finish(process: tuple[subprocess.Popen[str], str]) -> None:
    running, url = process
    with http.stream(
        "POST", url + "/generate_stream", json={"inputs": "Hi", "parameters": {"max_new_tokens": 200, "stop": []}}
    ) as response:
        chunks = response.iter_raw()
        body = next(chunks)
        running.send_signal(signal.SIGTERM)
        body += b"".join(chunks)
    assert events(body)[-1]["generated_text"]
    assert running.wait(60) == 0
    assert running.stdout
    assert running.stdout.read() == "ended, frozen\n", "the garbage collector looks through what stays"
    with pytest.raises(httpx.ConnectError):
        http.get(url + "/health")


@pytest.mark.parametrize("process", [{"tokens_per_second": 1.0}], indirect=True)
def test_a_second_ctrl_c_aborts_them(process: tuple[subprocess.Popen[str], str]) -> None:
    running, url = process
    with http.stream("POST", url + "/generate_stream", json={"inputs": "Hi"}) as response:
        chunks = response.iter_raw()
        next(chunks)
        running.send_signal(signal.SIGINT)
        assert eventually(lambda: not listens(url)), "two signals at once would be handled as one"
        time.sleep(0.1)
        assert running.poll() is None
        running.send_signal(signal.SIGINT)
        body = b"".join(chunks)
    assert json.loads(body.split(b"data: ")[-1])["error_type"] == "incomplete_generation"
    assert running.wait(60) == 0


# --- the model process ------------------------------------------------------------------------------------------------


def test_a_model_process_that_dies_ends_its_streams_and_is_started_again() -> None:
    before = set(children_of(os.getpid()))  # model processes of other tests
    with BackgroundServer() as server:
        [pid] = {*children_of(os.getpid())} - before
        os.kill(pid, signal.SIGSTOP)
        with http.stream("POST", server.url + "/generate_stream", json={"inputs": "Hi"}) as response:
            assert response.status_code == 200
            assert http.get(server.url + "/health").status_code == 200, "the event loop does not wait for the model"
            os.kill(pid, signal.SIGKILL)
            error = json.loads(response.read().removeprefix(b"data: "))
        assert error["error_type"] == "generation"
        assert error["error"].startswith("Request failed during generation: Server error: the model process has ended")
        assert http.get(server.url + "/health").json()["error_type"] == "loading"
        assert eventually(lambda: http.get(server.url + "/health").status_code == 200, within=120)
        assert post(server.url, "/generate", max_new_tokens=3).status_code == 200
        assert pid not in children_of(os.getpid())
    assert set(children_of(os.getpid())) <= before


@pytest.mark.parametrize("process", [{"tokens_per_second": 5.0}], indirect=True)
def test_a_killed_server_leaves_no_model_process(process: tuple[subprocess.Popen[str], str]) -> None:
    running, url = process
    [pid] = children_of(running.pid)
    with raw_request(url, "/generate_stream", {"inputs": "Hi"}) as connection:
        assert connection.recv(10)
        running.kill()
        assert eventually(lambda: not is_running(pid))


@pytest.fixture
def loading() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`serve` in a process group of its own, and its model process, which imports torch."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "{}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout
            assert process.stdout.readline().startswith("http")
            assert eventually(lambda: len(children_of(process.pid)) == 1)
            [pid] = children_of(process.pid)
            time.sleep(0.5)
            yield process, pid
        finally:
            process.kill()


def test_a_server_that_is_killed_while_loading_leaves_no_model_process(
    loading: tuple[subprocess.Popen[str], int],
) -> None:
    process, pid = loading
    process.kill()
    assert eventually(lambda: not is_running(pid))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_stop_signal_for_all_processes_ends_the_server_while_it_loads(
    loading: tuple[subprocess.Popen[str], int], name: str
) -> None:
    process, pid = loading
    os.killpg(process.pid, signal.Signals[name])
    os.kill(pid, signal.Signals[name])
    output = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, ("ended, not frozen\n", ""))
    assert not is_running(pid)


SCRIPT = """
import sys
from hfstream import InferenceClient
from hfstream.server import BackgroundServer
print("a script without a guard")
with BackgroundServer() as server:
    client = InferenceClient(server.url)
    print(client.text_generation("Hi", max_new_tokens=2))
    print(client.chat_completion([{"role": "user", "content": "Hi"}], max_tokens=2))
print(sorted({"torch"} & sys.modules.keys()))
"""


def test_a_script_needs_no_guard_and_imports_no_torch(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    (tmp_path / "sitecustomize.py").write_text("print('never imported')")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    first, *_, last = done.stdout.splitlines()
    assert (first, last) == ("a script without a guard", "[]")
    assert done.stdout.count("a script") == 1
