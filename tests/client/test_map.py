"""`client.map`: many prompts, one result for each."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from pydantic import BaseModel

from hfstream import (
    AsyncInferenceClient,
    ChatCompletion,
    InferenceClient,
    JournalError,
    MapResult,
    RetryPolicy,
    TextGenerationResponse,
    ValidationError,
)
from hfstream.testing import Fault, Request, Response, ScriptedServer, chat_events, token_events
from tests.helpers.variants import Clients, Variant

HI = [{"role": "user", "content": "Hi"}]


def answer(request: Request) -> Response:
    """Answers with the prompt; "bad ..." is refused."""
    body = request.json()
    if "messages" in body:
        return Response(chat_events("re: ", body["messages"][-1]["content"]))
    prompt = body["inputs"]
    if prompt.startswith("bad"):
        return Response.error(422, f"{prompt} is refused", "validation")
    if not body["parameters"].get("details"):
        return Response.json({"generated_text": f"whole: {prompt}"})
    return Response(token_events("re: ", prompt, finish_reason="eos_token"))


def outputs(results: list[MapResult[Any]]) -> list[Any]:
    return [result.output for result in results]


async def test_each_prompt_has_one_result_in_order(variant: Variant, clients: Clients) -> None:
    prompts = [f"p{number}" for number in range(60)]
    with ScriptedServer(answer) as server:
        mapped = clients(server.url).map(iter(prompts))
        results = await variant.rest(mapped)
        assert results == [MapResult(number, prompt, f"re: {prompt}") for number, prompt in enumerate(prompts)]
        assert (mapped.done, mapped.failed, mapped.reused, len(server.requests)) == (60, 0, 0, 60)
        assert await variant.next(mapped) is None
        assert "closed, 60 done, 0 failed" in repr(mapped)


async def test_two_loops_for_one_map_are_refused(variant: Variant, clients: Clients) -> None:
    released = threading.Event()

    def late(request: Request) -> Response:
        released.wait(30)
        return answer(request)

    with ScriptedServer(late) as server:
        mapped = clients(server.url).map(["a"])
        first = asyncio.create_task(variant.next(mapped))
        while not server.requests:
            await asyncio.sleep(0.01)
        try:
            with pytest.raises(RuntimeError, match="one loop for one map"):
                await variant.next(mapped)
        finally:
            released.set()
        assert (await first).output == "re: a"
        assert await variant.next(mapped) is None


async def test_a_failed_one_is_reported_and_ends_nothing(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(answer) as server:
        results = await variant.rest(clients(server.url).map(["a", "bad b", "c"]))
    assert outputs(results) == ["re: a", None, "re: c"]
    assert isinstance(results[1].error, ValidationError)
    assert str(results[1].error) == "bad b is refused"
    assert (results[0].error, results[1].prompt) == (None, "bad b")


async def test_results_come_as_they_are_completed(variant: Variant, clients: Clients) -> None:
    last = threading.Event()

    def slow_first(request: Request) -> Response:
        if request.json()["inputs"] == "0":
            last.wait(60)
        return answer(request)

    with ScriptedServer(slow_first) as server:
        mapped = clients(server.url).map(map(str, range(5)), ordered=False)
        first = [(await variant.next(mapped)).index for _ in range(4)]
        last.set()
        assert sorted(first) == [1, 2, 3, 4]
        assert [result.index for result in await variant.rest(mapped)] == [0]


async def test_prompts_are_read_when_there_is_room(variant: Variant, clients: Clients) -> None:
    read: list[int] = []

    def endless() -> Iterator[str]:
        while True:
            read.append(len(read))
            yield f"{len(read)}"

    with ScriptedServer(answer) as server:
        mapped = clients(server.url).map(endless(), max_concurrency=3)
        for taken in range(1, 30):
            assert (await variant.next(mapped)).output == f"re: {taken}"
            assert len(read) <= taken + 11  # four times as many as run at once, of which one was returned
        await variant.close(mapped)
        assert await variant.next(mapped) is None
    assert len(server.requests) <= 41


@pytest.mark.parametrize("setting", [{"max_concurrency": 2}, {}])
async def test_so_many_run_at_once(variant: Variant, clients: Clients, setting: Any) -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def counted(request: Request) -> Response:
        def events() -> Iterator[bytes]:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            threading.Event().wait(0.005)
            with lock:
                running[0] -= 1
            yield from token_events("a", finish_reason="eos_token")

        return Response(events())

    with ScriptedServer(counted) as server:
        client = clients(server.url, max_concurrency=None if setting else 2)
        await variant.rest(client.map(["p"] * 30, **setting))
    assert most[0] == 2


async def test_prompts_of_every_kind(variant: Variant, clients: Clients) -> None:
    prompts = [
        "text", HI, {"prompt": "own options", "seed": 7, "max_new_tokens": 3}, {"messages": HI, "max_tokens": 5},
    ]  # fmt: skip
    with ScriptedServer(answer) as server:
        results = await variant.rest(clients(server.url).map(prompts, seed=1))
        assert outputs(results)[::2] == ["re: text", "re: own options"]
        assert [result.output.choices[0].message.content for result in results[1::2]] == ["re: Hi", "re: Hi"]
        bodies = {str(body.get("inputs", body.get("max_tokens"))): body for body in map(Request.json, server.requests)}
        assert bodies["text"]["parameters"]["seed"] == 1
        assert bodies["own options"]["parameters"] == {"seed": 7, "max_new_tokens": 3, "details": True}
        assert (bodies["5"]["seed"], bodies["5"]["stream_options"]) == (1, {"include_usage": True})


async def test_whole_objects_with_details_and_without_streams(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(answer) as server:
        client = clients(server.url)
        [result] = await variant.rest(client.map(["a"], details=True))
        assert isinstance(result.output, TextGenerationResponse)
        assert result.output.details is not None
        assert outputs(await variant.rest(client.map(["a"], stream=False))) == ["whole: a"]
        assert outputs(await variant.rest(client.map([]))) == []


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"seed": 1}, 'either "prompt" or "messages"'),
        ({"prompt": "a", "messages": HI}, 'either "prompt" or "messages"'),
        ({"prompt": HI}, '"prompt" must be a str'),
        ({"messages": "Hi"}, "a list of messages"),
        ({"prompt": "a", "temprature": 1}, "did you mean `temperature`"),
        ({"prompt": "a", "timeout": "soon"}, "timeout must be"),
        (7, "not int"),
        (None, "not NoneType"),
        ("\ud800", "cannot be sent as JSON"),
    ],
)
async def test_a_prompt_that_is_invalid_is_one_failure(
    variant: Variant, clients: Clients, prompt: Any, message: str
) -> None:
    with ScriptedServer(answer) as server:
        results = await variant.rest(clients(server.url).map(["a", prompt, "b"]))
    assert outputs(results) == ["re: a", None, "re: b"]
    with pytest.raises(ValidationError, match=message):
        raise results[1].error


@pytest.mark.parametrize(
    ("prompts", "options", "error", "message"),
    [
        (["a"], {"temprature": 1}, TypeError, "did you mean `temperature`"),
        ([HI], {"max_new_tokens": 1}, TypeError, "no parameter `max_new_tokens`"),
        (["a"], {"timeout": "soon"}, TypeError, "timeout must be"),
        ("prompt", {}, TypeError, "a list of prompts"),
        ({"prompt": "a"}, {}, TypeError, "a list of prompts"),
        (7, {}, TypeError, "not a int"),
        (["a"], {"max_concurrency": 0}, ValueError, "max_concurrency must be"),
    ],
)
async def test_what_is_wrong_for_all_prompts_is_raised(
    variant: Variant, clients: Clients, prompts: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await variant.rest(clients("http://127.0.0.1:9").map(prompts, **options))


async def test_what_the_iterable_raises_comes_after_the_results_before_it(variant: Variant, clients: Clients) -> None:
    def prompts() -> Iterator[str]:
        yield "a"
        yield "b"
        raise OSError("the disk is gone")

    with ScriptedServer(answer) as server:
        mapped = clients(server.url).map(prompts())
        assert [(await variant.next(mapped)).output for _ in range(2)] == ["re: a", "re: b"]
        with pytest.raises(OSError, match="the disk is gone"):
            await variant.next(mapped)
        assert await variant.next(mapped) is None


async def test_what_is_no_failure_of_a_prompt_ends_the_run(variant: Variant, clients: Clients) -> None:
    def hook(state: Any) -> None:
        raise ZeroDivisionError("a hook of the user's")

    with ScriptedServer(Response.error(503, "busy", "overloaded")) as server:
        with pytest.raises(ZeroDivisionError):
            await variant.rest(clients(server.url, retry=RetryPolicy(before_sleep=hook)).map(["a"] * 9))
        client = clients(server.url)
        mapped = client.map(["a"] * 9)
        await variant.close(client)
        with pytest.raises(RuntimeError, match="client is closed"):
            await variant.rest(mapped)


@pytest.mark.parametrize("end", ["closed", "dropped"])
async def test_what_is_not_answered_is_cancelled(variant: Variant, clients: Clients, end: str) -> None:
    stalled = Response([*token_events("a"), Fault.STALL])
    with ScriptedServer(Response(token_events("re", finish_reason="eos_token")), stalled) as server:
        mapped = clients(server.url).map(["a"] * 50, ordered=False, max_concurrency=3)
        assert (await variant.next(mapped)).output == "re"
        await asyncio.to_thread(server.wait_until_running, 3)
        if end == "closed":
            await variant.close(mapped)
        else:
            del mapped
            gc.collect()
        for _ in range(600):
            if not server.running:
                break
            await asyncio.sleep(0.01)
        assert server.running == 0


async def test_an_error_of_the_consumer_closes_the_results(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(answer) as server:
        mapped = clients(server.url).map(iter(str, ""), max_concurrency=2)
        with pytest.raises(ZeroDivisionError):
            if variant.name == "sync":
                with mapped:
                    raise ZeroDivisionError
            async with mapped:
                raise ZeroDivisionError
        assert await variant.next(mapped) is None


# --- The journal -----------------------------------------------------------------------------------------------------


async def test_a_run_goes_on_where_it_stopped(variant: Variant, clients: Clients, tmp_path: Path) -> None:
    prompts = [f"p{number}" for number in range(40)]
    with ScriptedServer(answer) as server:
        client = clients(server.url)
        mapped = client.map(prompts, journal=tmp_path / "journal")
        for _ in range(15):
            await variant.next(mapped)
        await variant.close(mapped)
        before = len(server.requests)
        mapped = client.map(prompts, journal=str(tmp_path / "journal"))
        assert outputs(await variant.rest(mapped)) == [f"re: {prompt}" for prompt in prompts]
        assert mapped.reused >= 15
        # Requests that were cancelled may have reached the server only after they were counted.
        assert 40 - mapped.reused <= len(server.requests) - before < 40
        mapped = client.map([*prompts, "more"], journal=tmp_path / "journal", ordered=False)
        assert len(await variant.rest(mapped)) == 41
        assert mapped.reused == 40
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]


async def test_what_failed_is_asked_again(variant: Variant, clients: Clients, tmp_path: Path) -> None:
    refusal = Response.error(422, "no", "validation")
    with ScriptedServer(refusal, refusal, answer) as server:
        client = clients(server.url)
        results = await variant.rest(client.map(["a", "b"], journal=tmp_path / "journal"))
        assert [type(result.error) for result in results] == [ValidationError] * 2
        assert outputs(await variant.rest(client.map(["a", "b"], journal=tmp_path / "journal"))) == ["re: a", "re: b"]


class City(BaseModel):
    name: str


@pytest.mark.parametrize("kind", ["details", "chat"])
async def test_objects_are_read_again_as_they_were(
    variant: Variant, clients: Clients, tmp_path: Path, kind: str
) -> None:
    text = '{"name": "Łódź 👩‍🚀"}'
    response = Response(chat_events(text) if kind == "chat" else token_events(text, finish_reason="eos_token"))
    options: dict[str, Any] = {"response_format": City} if kind == "chat" else {"grammar": City, "details": True}
    with ScriptedServer(response) as server:
        client, prompts = clients(server.url), [HI] if kind == "chat" else ["Hi"]
        first = (await variant.rest(client.map(prompts, journal=tmp_path / "journal", **options)))[0].output
        again = (await variant.rest(client.map(prompts, journal=tmp_path / "journal", **options)))[0].output
        assert len(server.requests) == 1
    assert isinstance(again, ChatCompletion if kind == "chat" else TextGenerationResponse)
    assert again == first
    parsed = again.choices[0].message.parsed if isinstance(again, ChatCompletion) else again.parsed
    assert parsed == City(name="Łódź 👩‍🚀")


@pytest.mark.parametrize(
    ("prompts", "options"),
    [(["a", "c"], {}), (["b", "a"], {}), (["a", "b"], {"seed": 1}), (["a", "b"], {"details": True}), ([HI, "b"], {})],
)
async def test_the_journal_of_another_run_is_refused(
    variant: Variant, clients: Clients, tmp_path: Path, prompts: Any, options: Any
) -> None:
    with ScriptedServer(answer) as server:
        client = clients(server.url)
        await variant.rest(client.map(["a", "b"], journal=tmp_path / "journal"))
        with pytest.raises(JournalError, match=r"journal is the journal of another run: prompt number [01]"):
            await variant.rest(client.map(prompts, journal=tmp_path / "journal", **options))
        assert len(server.requests) == 2
        assert len(await variant.rest(client.map(["a", "b"], journal=tmp_path / "journal"))) == 2


async def test_an_answer_in_the_journal_that_is_no_JSON_is_refused(
    variant: Variant, clients: Clients, tmp_path: Path
) -> None:
    with ScriptedServer(answer) as server:
        client = clients(server.url)
        await variant.rest(client.map(["a"], journal=tmp_path / "journal"))
        with sqlite3.connect(tmp_path / "journal") as broken:
            broken.execute("UPDATE answers SET output = '{'")
        broken.close()
        with pytest.raises(JournalError, match=r"answer to prompt number 0 .* cannot be read"):
            await variant.rest(client.map(["a"], journal=tmp_path / "journal"))


async def test_a_journal_that_cannot_be_used_is_refused(variant: Variant, clients: Clients, tmp_path: Path) -> None:
    with ScriptedServer(answer) as server:
        client = clients(server.url)
        mapped = client.map(["a"], journal=tmp_path / "journal")
        with pytest.raises(JournalError, match="in use by another run"):
            client.map(["a"], journal=tmp_path / "journal")
        await variant.close(mapped)
        (tmp_path / "text").write_text("no database, but long enough to look like one " * 9)
        with pytest.raises(JournalError, match="text is not a journal of map"):
            client.map(["a"], journal=tmp_path / "text")
        with sqlite3.connect(tmp_path / "other") as other:
            other.execute("CREATE TABLE mine (a)")
        other.close()
        with pytest.raises(JournalError, match="other is a database, but not a journal"):
            client.map(["a"], journal=tmp_path / "other")
        with pytest.raises(JournalError, match="unable to open"):
            client.map(["a"], journal=tmp_path / "no" / "such" / "folder")
        with sqlite3.connect(tmp_path / "journal") as newer:
            newer.execute("PRAGMA user_version = 99")
        newer.close()
        with pytest.raises(JournalError, match="another version"):
            client.map(["a"], journal=tmp_path / "journal")


# --- What only one of the variants has --------------------------------------------------------------------------------


async def test_prompts_come_from_an_async_iterable_and_results_do_not_wait_for_a_late_one() -> None:
    more = asyncio.Event()

    async def prompts() -> AsyncIterator[str]:
        yield "a"
        yield "b"
        await more.wait()
        yield "c"

    with ScriptedServer(answer) as server:
        async with AsyncInferenceClient(server.url) as client:
            mapped = client.map(prompts())
            assert [(await anext(mapped)).output for _ in range(2)] == ["re: a", "re: b"]
            more.set()
            assert [result.output async for result in mapped] == ["re: c"]


async def test_an_async_iterable_that_raises_or_is_left() -> None:
    async def broken() -> AsyncIterator[str]:
        yield "a"
        raise OSError("the feed is gone")

    async def endless() -> AsyncIterator[str]:
        while True:
            yield "a"
            await asyncio.sleep(0)

    with ScriptedServer(answer) as server:
        async with AsyncInferenceClient(server.url) as client:
            mapped = client.map(broken())
            assert (await anext(mapped)).output == "re: a"
            with pytest.raises(OSError, match="the feed is gone"):
                await anext(mapped)
            async with client.map(endless(), max_concurrency=2) as mapped:
                assert [(await anext(mapped)).output for _ in range(20)] == ["re: a"] * 20


def test_it_runs_under_trio() -> None:
    async def prompts() -> AsyncIterator[str]:
        for number in range(20):
            yield f"{number}"

    async def main(url: str) -> None:
        async with AsyncInferenceClient(url) as client:
            results = [result async for result in client.map(prompts())]
            assert outputs(results) == [f"re: {number}" for number in range(20)]
            assert len([result async for result in client.map(map(str, range(20)), ordered=False)]) == 20

    with ScriptedServer(answer) as server:
        trio.run(main, server.url)


async def test_cancelling_the_task_that_iterates_cancels_the_rest(tmp_path: Path) -> None:
    stalled = Response([*token_events("a"), Fault.STALL])
    with ScriptedServer(Response(token_events("re", finish_reason="eos_token")), stalled) as server:
        async with AsyncInferenceClient(server.url) as client:
            mapped = client.map(["a"] * 50, max_concurrency=1, journal=tmp_path / "journal")

            async def consume() -> None:
                async for _ in mapped:
                    pass

            task = asyncio.create_task(consume())
            while len(server.requests) < 2:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(server.wait_until_running, 0)
            assert await anext(mapped, None) is None


def test_threads_end_when_there_is_nothing_to_ask() -> None:
    with ScriptedServer(answer) as server, InferenceClient(server.url) as client:
        assert len(list(client.map(map(str, range(100))))) == 100
    for thread in threading.enumerate():
        if thread.name == "hfstream-map":
            thread.join(60)
            assert not thread.is_alive()


def test_a_progress_bar_needs_rich(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rich", None)
    with InferenceClient("http://127.0.0.1:9") as client, pytest.raises(ImportError, match=r"hfstream\[cli\]"):
        client.map(["a"], progress=True, journal=tmp_path / "journal")


def test_a_progress_bar_is_silent_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer(answer) as server, InferenceClient(server.url) as client:
        assert len(list(client.map(["a", "bad b"], progress=True))) == 2
    assert capfd.readouterr() == ("", "")
