"""A server's life: its key, its start, its end, on a thread and as a process."""

from __future__ import annotations

import asyncio
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

import httpx
import pytest

from hfstream.server import BackgroundServer, Settings, StartError, create_app, serve
from tests.helpers.scripted_engine import (
    ScriptedEngine,
    events,
    eventually,
    http,
    ids,
    metric,
    post,
    raw_request,
    save_tokenizer,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert (
        not {thread for thread in threading.enumerate() if "engine" in thread.name or "server" in thread.name} - before
    )


# --- who may ask ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked(model: Path) -> Iterator[str]:
    with BackgroundServer(Settings(model=str(model), api_key="Sesame"), engine=ScriptedEngine()) as server:
        yield server.url


@pytest.mark.parametrize("path", ["/", "/generate", "/generate_stream", "/tokenize"])
@pytest.mark.parametrize("sent", [None, "Bearer open", "Bearer", "Sesame", "Basic Sesame", "Bearer Sésame"])
def test_without_the_key_nothing_is_said(locked: str, path: str, sent: str | None) -> None:
    headers = {} if sent is None else {"authorization": sent.encode("latin-1")}
    response = http.post(locked + path, content=b"not even JSON", headers=headers)
    assert (response.status_code, response.content) == (401, b"")
    assert "www-authenticate" not in response.headers


@pytest.mark.parametrize("path", ["/", "/generate", "/generate_stream", "/tokenize"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_key_all_is(locked: str, path: str, scheme: str) -> None:
    headers = {"authorization": f"{scheme} Sesame"}
    assert http.post(locked + path, json={"inputs": "Hi"}, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/", "/health", "/ping", "/info", "/metrics"])
def test_what_needs_no_key(locked: str, path: str) -> None:
    assert http.get(locked + path).status_code == 200


# --- its start --------------------------------------------------------------------------------------------------------


async def test_until_the_model_is_loaded_clients_are_told_to_wait(model: Path) -> None:
    loaded = threading.Event()
    app = create_app(Settings(model=str(model)), engine=ScriptedEngine(load=loaded.wait))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        for method, path in [
            ("GET", "/health"),
            ("GET", "/info"),
            ("POST", "/generate"),
            ("POST", "/generate_stream"),
            ("POST", "/"),
        ]:
            response = await client.request(method, path)
            assert response.status_code == 503
            assert response.headers["retry-after"] == "1"
            assert response.json() == {"error": "Model is loading", "error_type": "loading"}
        assert (await client.get("/metrics")).status_code == 200
        loaded.set()
        async with asyncio.timeout(5):
            await app.state.backend.ready.wait()
        assert (await client.get("/health")).status_code == 200
        assert (await client.post("/generate", json={"inputs": "Hi"})).status_code == 200


async def test_if_the_model_cannot_be_loaded_clients_hear_why(model: Path) -> None:
    def load() -> None:
        raise ValueError("no such weights")

    app = create_app(Settings(model=str(model)), engine=ScriptedEngine(load=load))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        await app.state.backend.ready.wait()
        for response in (await client.get("/health"), await client.post("/generate", json={"inputs": "Hi"})):
            assert response.status_code == 503
            assert response.json()["error_type"] == "broken"
            assert "no such weights" in response.json()["error"]


def test_a_background_server_says_why_it_cannot_start(model: Path, tmp_path: Path) -> None:
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


def test_a_port_that_is_taken(model: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(
            StartError, match=r"cannot listen on 127.0.0.1, port \d+: Address already in use. Port 0 takes a free one$"
        ),
    ):
        serve(Settings(port=other.getsockname()[1]))


def test_settings_that_make_no_sense() -> None:
    for wrong in (
        {"max_concurrent_requests": 0},
        {"max_batch_size": 0},
        {"tokens_per_second": 0.0},
        {"api_key": ""},
        {"port": 65_536},
        {"port": -1},
    ):
        with pytest.raises(ValueError, match="must be"):
            Settings(**wrong)


# --- its end ----------------------------------------------------------------------------------------------------------


def listens(url: str) -> bool:
    with (
        contextlib.suppress(OSError),
        socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 80), timeout=1),
    ):
        return True
    return False


def test_a_background_server_leaves_nothing_behind(model: Path) -> None:
    for _ in range(3):
        with BackgroundServer(Settings(model=str(model)), engine=ScriptedEngine()) as server:
            assert post(server.url, "/generate").status_code == 200
        assert not listens(server.url)
    gc.collect()  # a socket that is not closed would be a ResourceWarning, which pytest makes an error


def test_a_background_server_does_not_wait_for_answers(model: Path) -> None:
    engine = ScriptedEngine(lambda job: iter(lambda: ids("a")[0], None), beat=0.05)
    with BackgroundServer(Settings(model=str(model)), engine=engine) as server:
        connection = raw_request(server.url, "/generate_stream", {"inputs": "Hi"})
        assert connection.recv(10)
        start = time.monotonic()
    assert time.monotonic() - start < 1.5
    body = b""
    while piece := connection.recv(65536):
        body += piece
    connection.close()
    # The stream has a proper end, which says what happened.
    assert b'{"error":"Incomplete generation: the server is stopping","error_type":"incomplete_generation"}' in body
    assert body.endswith(b"0\r\n\r\n")


def test_an_engine_that_breaks_down_ends_the_server(model: Path) -> None:
    engine = ScriptedEngine(lambda job: iter(lambda: ids("a")[0], None), beat=0.01)
    with BackgroundServer(Settings(model=str(model)), engine=engine) as server:
        connection = raw_request(server.url, "/generate_stream", {"inputs": "Hi"})
        assert connection.recv(10)
        engine.breakdown = RuntimeError("no more memory")
        with connection, connection.makefile("rb") as body:
            assert b"Server error: no more memory" in body.read()
        assert eventually(lambda: not listens(server.url))


PROGRAM = """
import sys
from hfstream.server import Settings, StartError, serve
try:
    serve(Settings(port=0, **eval(sys.argv[1])), started=lambda url: print(url, flush=True))
except StartError as error:
    print(error)
    sys.exit(1)
print("ended", flush=True)
"""


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`serve` with the bundled model, once it is ready, and its URL."""
    settings = getattr(request, "param", {})
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, repr(settings)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        assert eventually(lambda: http.get(url + "/health").status_code == 200, within=30)
        yield process, url
        process.kill()


def test_a_stop_signal_lets_running_answers_finish(process: tuple[subprocess.Popen[str], str]) -> None:
    running, url = process
    with http.stream(
        "POST", url + "/generate_stream", json={"inputs": "Hi", "parameters": {"max_new_tokens": 200, "stop": []}}
    ) as response:
        chunks = response.iter_raw()
        body = next(chunks)
        running.send_signal(signal.SIGTERM)
        body += b"".join(chunks)
    assert events(body)[-1]["generated_text"]
    assert running.wait(10) == 0
    assert running.stdout
    assert running.stdout.read() == "ended\n"
    with pytest.raises(httpx.ConnectError):
        http.get(url + "/health")


@pytest.mark.parametrize("process", [{"tokens_per_second": 1.0}], indirect=True)
def test_a_second_ctrl_c_ends_them(process: tuple[subprocess.Popen[str], str]) -> None:
    running, url = process
    with http.stream("POST", url + "/generate_stream", json={"inputs": "Hi"}) as response:
        chunks = response.iter_raw()
        next(chunks)
        running.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert running.poll() is None
        running.send_signal(signal.SIGINT)
        body = b"".join(chunks)
    assert json.loads(body.split(b"data: ")[-1])["error_type"] == "incomplete_generation"
    assert running.wait(5) == 0


def test_importing_the_server_does_not_import_torch() -> None:
    program = "import sys, hfstream.server; print(sorted({'torch', 'transformers'} & sys.modules.keys()))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    ).stdout
    assert out == "[]\n"


def test_without_its_packages_the_server_says_what_to_install() -> None:
    program = (
        "import importlib.util as util; found = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name in ('torch', 'uvicorn') else found(name, *rest)\n"
        "import hfstream.server"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    failed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert 'ImportError: hfstream.server needs uvicorn, torch: pip install "hfstream[server]"' in failed.stderr


def test_metrics_while_nothing_happens(locked: str) -> None:
    assert metric(locked, "hfstream_permits_taken") == 0
