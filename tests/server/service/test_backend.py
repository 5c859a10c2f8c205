"""The backend on its event loop, with a scripted engine and without HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hfstream.errors import GenerationError, IncompleteGenerationError, OverloadedError, ValidationError
from hfstream.server import Settings
from hfstream.server.schemas.tgi import GenerateParameters, GenerateRequest
from hfstream.server.service import backend as backend_module
from hfstream.server.service.backend import Backend
from hfstream.server.service.errors import EngineFailedError, NotReadyError
from hfstream.server.text.chat_template import ChatTemplate
from tests.helpers.scripted_engine import EOS, ScriptedEngine, endless, ids


@asynccontextmanager
async def running(model: Path, engine: ScriptedEngine, **settings: Any) -> AsyncIterator[Backend]:
    backend = Backend(Settings(model=str(model), **settings), engine)
    backend.start()
    async with asyncio.timeout(60):
        await backend.ready.wait()
    try:
        yield backend
    finally:
        async with asyncio.timeout(60):
            await backend.close()


def make_request(**parameters: Any) -> GenerateRequest:
    return GenerateRequest(inputs="Hi", parameters=GenerateParameters(**parameters))


async def wait_until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def test_before_the_model_is_loaded_nothing_is_ready(model: Path) -> None:
    loaded = threading.Event()
    backend = Backend(Settings(model=str(model)), ScriptedEngine(load=loaded.wait))
    backend.start()
    with pytest.raises(NotReadyError) as caught:
        backend.ensure_ready()
    assert (str(caught.value), caught.value.retry_after) == ("Model is loading", 1)
    loaded.set()
    async with asyncio.timeout(60):
        await backend.ready.wait()
    backend.ensure_ready()
    assert backend.fatal_error is None
    await backend.close()


async def test_a_model_that_cannot_be_loaded_is_a_fatal_error(model: Path) -> None:
    def load() -> None:
        raise ValueError("no such weights")

    async with running(model, ScriptedEngine(load=load)) as backend:
        assert isinstance(backend.fatal_error, ValueError)
        with pytest.raises(EngineFailedError, match="no such weights"):
            backend.ensure_ready()


async def test_a_request_is_generated(model: Path) -> None:
    engine = ScriptedEngine(lambda job: [*ids("ab"), EOS])
    async with running(model, engine) as backend:
        valid = await backend.prepare(make_request(max_new_tokens=9))
        assert (valid.prompt, valid.max_new_tokens) == (ids("Hi"), 9)
        with backend.submit(valid) as output:
            texts = [each.event.token.text async for each in output.events() if each]
        assert texts == ["a", "b", "<eos>"]


async def test_leaving_the_block_cancels_the_request(model: Path) -> None:
    engine = ScriptedEngine(endless)
    async with running(model, engine, max_batch_size=1) as backend:
        valid = await backend.prepare(make_request())
        with backend.submit(valid) as first, backend.submit(valid):
            assert await anext(first.events())
            assert backend.queue_depths == (1, 1)
        assert [job.cancelled for job in engine.submitted] == [True, True]
        assert backend.queue_depths == (0, 0)


async def test_a_stop_string_cancels_the_engines_work(model: Path) -> None:
    engine = ScriptedEngine(endless)
    async with running(model, engine) as backend:
        with backend.submit(await backend.prepare(make_request(stop=["aa"]))) as output:
            assert len([event async for event in output.events()]) == 2
            await wait_until(lambda: engine.submitted[0].cancelled)


async def test_an_invalid_request_is_refused(model: Path) -> None:
    async with running(model, ScriptedEngine()) as backend:
        with pytest.raises(ValidationError, match="`top_k` must be strictly positive"):
            await backend.prepare(make_request(top_k=0))


@pytest.mark.parametrize(("limit", "in_thread"), [(100, False), (1, True)])
async def test_only_long_texts_are_tokenized_on_another_thread(
    model: Path, monkeypatch: pytest.MonkeyPatch, limit: int, in_thread: bool
) -> None:
    threads: list[threading.Thread] = []
    monkeypatch.setattr(backend_module, "INLINE_LIMIT", limit)
    async with running(model, ScriptedEngine()) as backend:
        encode = backend.model.tokenizer.encode

        def record(text: str, **options: Any) -> list[int]:
            threads.append(threading.current_thread())
            return encode(text, **options)

        monkeypatch.setattr(backend.model.tokenizer, "encode", record)
        assert (await backend.prepare(make_request())).prompt == ids("Hi")
    assert [thread is not threading.current_thread() for thread in threads] == [in_thread]


async def test_a_chat_template_is_rendered_on_another_thread(chat_model: Path) -> None:
    threads: list[threading.Thread] = []

    def render(template: ChatTemplate) -> str:
        threads.append(threading.current_thread())
        return template.render([{"role": "user", "content": "Hi"}])

    async with running(chat_model, ScriptedEngine()) as backend:
        assert await backend.render_prompt(render) == "Hi<turn>>"
    assert threads[0] is not threading.current_thread()


async def test_a_model_without_a_chat_template_renders_nothing(model: Path) -> None:
    async with running(model, ScriptedEngine()) as backend:
        with pytest.raises(ValidationError, match="Template error: template not found") as caught:
            await backend.render_prompt(lambda template: "never called")
        assert caught.value.error_type == "template_error"


async def test_aborting_ends_every_request_with_an_error(model: Path) -> None:
    async with running(model, ScriptedEngine(endless)) as backend:
        with backend.submit(await backend.prepare(make_request())) as output:
            threading.Thread(target=backend.abort_all_threadsafe).start()
            with pytest.raises(IncompleteGenerationError, match="the server is stopping"):
                async with asyncio.timeout(60):
                    _ = [event async for event in output.events()]


async def test_an_engine_that_fails_ends_every_request_with_an_error(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = ScriptedEngine(endless)
    async with running(model, engine) as backend:
        with backend.submit(await backend.prepare(make_request())) as output:
            engine.failure = RuntimeError("no more memory")
            with pytest.raises(GenerationError, match="Server error: no more memory"):
                async with asyncio.timeout(60):
                    _ = [event async for event in output.events()]
        assert backend.fatal_error is engine.failure
    assert "no more memory" in str(caplog.records[0].exc_info)


async def test_while_the_model_is_loaded_again_nothing_is_ready(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    loaded = threading.Event()
    loaded.set()
    engine = ScriptedEngine(lambda job: endless(job) if job.max_new_tokens > 9 else ids("ab"), load=loaded.wait)
    async with running(model, engine) as backend:
        valid = await backend.prepare(make_request(max_new_tokens=50))
        with backend.submit(valid) as output:
            loaded.clear()
            engine.lost = RuntimeError("the model process has ended (SIGKILL)")
            message = r"^Request failed during generation: Server error: the model process has ended \(SIGKILL\)$"
            with pytest.raises(GenerationError, match=message):
                async with asyncio.timeout(60):
                    _ = [event async for event in output.events()]
        await wait_until(lambda: caplog.messages)
        assert caplog.messages == ["the model process has ended (SIGKILL); the model is loaded again"]
        with pytest.raises(NotReadyError, match="Model is loading"):
            backend.ensure_ready()
        with pytest.raises(NotReadyError), backend.submit(valid):
            pass
        assert backend.fatal_error is None
        loaded.set()
        await wait_until(lambda: backend._model)
        with backend.submit(await backend.prepare(make_request(max_new_tokens=2))) as output:
            assert len([event async for event in output.events()]) == 2


async def test_a_model_that_cannot_be_loaded_again_is_a_fatal_error(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine, broken = ScriptedEngine(), ValueError("no such weights any more")
    async with running(model, engine) as backend:

        def load() -> None:
            raise broken

        engine._load = load
        engine.lost = RuntimeError("the model process has ended")
        await wait_until(lambda: backend.fatal_error)
        with pytest.raises(EngineFailedError, match="no such weights any more"):
            backend.ensure_ready()
    assert "no such weights any more" in str(caplog.records[-1].exc_info)


async def test_the_tokenizer_is_loaded_again_with_the_model(model: Path) -> None:
    async with running(model, engine := ScriptedEngine()) as backend:
        tokenizer = backend.model.tokenizer
        engine.lost = RuntimeError("the model process has ended")
        await wait_until(lambda: backend._model and backend._model.tokenizer is not tokenizer)


async def test_closing_waits_for_spawned_tasks(model: Path) -> None:
    done: list[bool] = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        done.append(True)

    async with running(model, ScriptedEngine()) as backend:
        backend.spawn(work())
    assert done == [True]


async def test_the_limiter_has_as_many_permits_as_configured(model: Path) -> None:
    async with running(model, ScriptedEngine(), max_concurrent_requests=1) as backend:
        with backend.limiter, pytest.raises(OverloadedError), backend.limiter:
            pass
