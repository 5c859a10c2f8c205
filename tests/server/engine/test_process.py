"""The model process: what passes between it and the engine, how it ends, and what happens when it dies."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hfstream.server.engine import engine as engine_module
from hfstream.server.engine import process as process_module
from hfstream.server.engine.process import ModelProcess
from hfstream.server.engine.protocol import (
    EngineOptions,
    EngineRequest,
    EngineStoppedError,
    ModelProcessError,
    SamplingParams,
    UnsupportedModelError,
)
from hfstream.server.model_files import BUNDLED
from tests.helpers.processes import is_running
from tests.helpers.scripted_engine import eventually
from tests.helpers.tiny_models import RunningEngine, prompt_of, save_model

PRELUDE = """
import logging, os, sys, time
from hfstream.server.engine import child
from hfstream.server.engine.protocol import ModelInfo

def run(options, inbox):
    INFO = ModelInfo("scripted", 9, frozenset(), 9, "float32", "cpu", 0)
    {}

child.run = run
child.main()
"""

ECHO = """
    yield INFO
    while (command := inbox.get()):
        yield [(command[0], 7, None, (), True)]
"""


def script(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Processes with this worker in place of the one that runs a model: they need no torch, and start at once."""
    code = process_module.CODE.partition("from hfstream")[0] + PRELUDE.format(body.strip())
    monkeypatch.setattr(process_module, "CODE", code)
    monkeypatch.setattr(engine_module, "MAX_RESTART_DELAY", 0.0)


def in_process(path: Path = Path(), **options: Any) -> RunningEngine:
    return RunningEngine(path, launch=ModelProcess, **options)


def pid_of(engine: RunningEngine) -> int:
    worker: Any = engine.engine._worker
    pid: int = worker.pid
    return pid


def make_request(tokens: int = 10, seed: int = 0, **sampling: Any) -> EngineRequest:
    return EngineRequest(prompt_of(8, seed), tokens, SamplingParams(**sampling))


# --- with a model -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_process_generates_what_a_thread_does(checkpoint: Path) -> None:
    def generate(engine: RunningEngine) -> list[Any]:
        requests = [make_request(seed=1, top_n_tokens=2), make_request(do_sample=True, sampling_seed=5)]
        with engine:
            assert engine.info is not None
            engine.submit(*requests)
            outputs = [engine.token_outputs(request) for request in requests]
        return [engine.info, [[(out.token, out.logprob, out.top, out.last) for out in each] for each in outputs]]

    def make_request(seed: int = 0, sampling_seed: int | None = None, **sampling: Any) -> EngineRequest:
        return EngineRequest(prompt_of(8, seed), 10, SamplingParams(seed=sampling_seed, **sampling))

    assert generate(in_process(checkpoint)) == generate(RunningEngine(checkpoint))


@pytest.mark.slow
def test_a_killed_process_ends_its_requests_and_another_one_goes_on() -> None:
    """With the bundled model, which is loaded in a third of the time that transformers takes."""
    with in_process(BUNDLED, max_batch_size=2) as engine:
        expected = engine.generate(make_request())
        for kills in (1, 2):
            running = [make_request(tokens=600, seed=seed) for seed in (1, 2, 3)]  # the last one waits
            engine.submit(*running)
            engine.wait_until(lambda: len(engine.deliveries_of(running[1])) > 2)  # noqa: B023
            os.kill(pid_of(engine), signal.SIGKILL)
            errors = [engine.error(request) for request in running]
            assert [type(error) for error in errors] == [ModelProcessError] * 3
            assert str(errors[0]) == "the model process has ended (SIGKILL: perhaps it was out of memory)"
            engine.wait_until(lambda: len(engine.restarts) == kills)  # noqa: B023
            assert engine.generate(make_request()) == expected
            assert engine.running == 0
    assert engine.failure is None


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_fails_as_on_a_thread(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_model(tmp_path, "mistral", sliding_window=48)
    capfd.readouterr()
    with pytest.raises(UnsupportedModelError, match="attention slides over 48 tokens"), in_process(tmp_path):
        pass
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"config\.json"), in_process(empty):
        pass
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0])
def test_closing_while_loading_takes_no_time(checkpoint: Path, seconds: float) -> None:
    engine, request = in_process(checkpoint), make_request()
    engine.submit(request)
    engine.start()
    time.sleep(seconds)
    pid = pid_of(engine) if seconds else None
    engine.close()
    assert isinstance(engine.error(request), EngineStoppedError)
    assert not engine.threads()
    assert pid is None or not is_running(pid)


# --- with a scripted worker -------------------------------------------------------------------------------------------


def test_what_a_worker_prints_goes_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    prints = "print('printed'); sys.__stdout__.write('written'); sys.__stdout__.flush(); os.system('echo echoed')\n"
    script(monkeypatch, prints + "    assert sys.stdin.read() == ''" + ECHO)
    with in_process() as engine:
        assert engine.generate(make_request()) == [7]
    printed, on_stderr = capfd.readouterr()
    assert printed == ""
    assert set(on_stderr.split()) >= {"printed", "writtenechoed"}


def test_a_process_finds_what_this_one_finds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "found_only_there.py").write_text("TOKEN = 8")
    monkeypatch.syspath_prepend(tmp_path)
    script(monkeypatch, "import found_only_there" + ECHO.replace("7", "found_only_there.TOKEN"))
    with in_process() as engine:
        assert engine.generate(make_request()) == [8]


def test_log_records_reach_the_handlers_of_this_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    logs = """
    for level in (logging.DEBUG, logging.INFO):
        logging.getLogger("hfstream.some").log(level, "level %d", level)
    try:
        1 / 0
    except ZeroDivisionError:
        logging.getLogger("other").exception("failed")
    """
    script(monkeypatch, logs + ECHO)
    caplog.set_level(logging.INFO)
    with in_process() as engine:
        assert engine.generate(make_request()) == [7]
    assert [(record.name, record.getMessage().splitlines()[0]) for record in caplog.records] == [
        ("hfstream.some", "level 20"),
        ("other", "failed"),
    ]
    assert "ZeroDivisionError" in caplog.text
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_for_the_whole_group_do_not_end_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    script(monkeypatch, ECHO)
    with in_process() as engine:
        os.kill(pid_of(engine), signal.Signals[name])
        assert os.getsid(pid_of(engine)) != os.getsid(0), "Ctrl-C in the terminal does not reach it"
        assert engine.generate(make_request()) == [7]
        assert not engine.restarts


BUSY = {
    "loading": "time.sleep(600)\n    yield INFO",
    "idle": "yield INFO\n    inbox.get()",
    "computing": "yield INFO\n    while True: sum(range(100_000))",
    "sending": "yield INFO\n    while True: yield [(0, 7, None, (), True)] * 1000",
}


@pytest.mark.parametrize("body", BUSY.values(), ids=BUSY)
def test_a_process_ends_when_its_input_does(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    script(monkeypatch, body)
    process = ModelProcess(EngineOptions(""))
    reports = process.reports()
    if not body.startswith("time"):
        next(reports)
    process._outbox.put(None)  # its thread closes the pipe
    assert process._process.wait(60) >= 0, "it was not killed"
    reports.close()
    process.close()


FORKS = """
import os, signal, sys, time
from hfstream.server.engine import process
from hfstream.server.engine.protocol import EngineOptions
process.CODE = sys.argv[1]
model = process.ModelProcess(EngineOptions(""))
next(model.reports())
if forked := os.fork():
    print(model.pid, forked, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_forked_server_keeps_no_model_process_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, ECHO)
    command = [sys.executable, "-W", "ignore", "-c", FORKS, process_module.CODE]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        pid, forked = map(int, server.stdout.readline().split())
        try:
            assert eventually(lambda: not is_running(pid))
            assert is_running(forked)
        finally:
            os.kill(forked, signal.SIGKILL)


def test_a_process_that_is_stopped_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, ECHO)
    with in_process() as engine:
        pid = pid_of(engine)
        os.kill(pid, signal.SIGSTOP)
        large = EngineRequest([0] * 300_000, 1)  # more than a pipe holds: its writer waits
        before = time.monotonic()
        engine.submit(large)
        engine.cancel(large)
        engine.close()
        assert time.monotonic() - before < 5, "no one waited for the process"
        assert not is_running(pid)


def test_requests_that_come_between_two_processes_are_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, ECHO)
    engine, continues = in_process(), threading.Event()
    on_restart = engine._on_restart

    def wait(reason: BaseException) -> None:
        on_restart(reason)
        continues.wait(60)

    monkeypatch.setattr(engine, "_on_restart", wait)
    with engine:
        os.kill(pid_of(engine), signal.SIGKILL)
        engine.wait_until(lambda: bool(engine.restarts))
        kept, dropped = make_request(), make_request()
        engine.submit(kept, dropped)
        engine.cancel(dropped)
        continues.set()
        assert engine.tokens(kept) == [7]
        assert eventually(lambda: engine.running == 0)
        assert not engine.deliveries_of(dropped)


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("os._exit(3)", "exit status 3"),
        ("os.abort()", "SIGABRT"),
        ("os.kill(os.getpid(), 40)", "signal 40"),
        ("os._exit(0)", "exit status 0"),
    ],
)
def test_a_process_that_dies_again_and_again_while_loading_is_given_up(
    monkeypatch: pytest.MonkeyPatch, body: str, how: str
) -> None:
    script(monkeypatch, f"{body}\n    yield INFO")
    engine, request = in_process(), make_request()
    engine.submit(request)
    engine.start()
    engine.wait_until(lambda: engine.failure is not None)
    assert isinstance(engine.failure, ModelProcessError)
    assert str(engine.failure) == f"the model process has ended ({how})"
    assert len(engine.restarts) == 2
    assert isinstance(engine.error(request), ModelProcessError)
    engine.close()


def test_a_model_that_was_loaded_once_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(
        monkeypatch,
        f"""
    loads = open({str(tmp_path / "loads")!r}, "a"); loads.write("x"); loads.close()
    loads = os.path.getsize(loads.name)
    if loads in (2, 3, 5, 6, 7):
        yield ValueError(f"load {{loads}}")
        return
    """
        + ECHO.replace("yield [", "if loads < 9 and command[1].max_new_tokens == 99: os._exit(9)\n        yield ["),
    )
    with in_process() as engine:
        for restarts in (3, 5):
            engine.submit(make_request(tokens=99))
            engine.wait_until(lambda: len(engine.restarts) == restarts or engine.failure is not None)  # noqa: B023
            if restarts == 3:
                assert engine.generate(make_request()) == [7]
        engine.wait_until(lambda: engine.failure is not None)
        assert isinstance(engine.failure, ValueError)
    assert [str(error) for error in engine.restarts] == [
        "the model process has ended (exit status 9)", "load 2", "load 3",
        "the model process has ended (exit status 9)", "load 5", "load 6",
    ]  # fmt: skip
    assert str(engine.failure) == "load 7"


def test_an_error_of_the_worker_itself_is_the_reason_of_the_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    script(
        monkeypatch,
        ECHO.replace("yield [", "if command[1].max_new_tokens == 99: yield ValueError('bug'); return\n        yield ["),
    )
    with in_process() as engine:
        assert str(engine.error(submitted(engine, make_request(tokens=99)))) == "bug"
        assert engine.generate(make_request()) == [7]
        assert [str(error) for error in engine.restarts] == ["bug"]


def submitted(engine: RunningEngine, request: EngineRequest) -> EngineRequest:
    engine.submit(request)
    return request


def test_a_system_that_starts_no_process_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(FileNotFoundError, match="/nowhere/python"), in_process():
        pass


def test_processes_that_die_young_are_started_later_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, "yield INFO\n    inbox.get(); os._exit(1)")
    monkeypatch.setattr(engine_module, "MAX_RESTART_DELAY", 3.0)
    delays: list[float] = []
    with in_process() as engine:
        closing = engine.engine._closing

        def wait(delay: float) -> bool:
            delays.append(delay)
            return closing.is_set()

        monkeypatch.setattr(closing, "wait", wait)
        for _ in range(4):
            engine.wait_until(lambda: engine.info is not None)
            engine.error(submitted(engine, make_request()))
            engine.wait_until(lambda: len(delays) == len(engine.restarts))
    assert delays[:4] == [1.0, 2.0, 3.0, 3.0]
