"""chat_completion, streamed and whole, on both faces, over a real port."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import threading
import time
from typing import Any

import pytest
from conftest import Clients
from faces import HI, Face
from pydantic import BaseModel
from recordings import DONE, RECORDINGS, Recording, choice, chunk, event

from hfstream import (
    AsyncInferenceClient,
    AuthenticationError,
    BadRequestError,
    ChatCompletion,
    ChatCompletionChunk,
    GenerationError,
    IncompleteStreamError,
    InferenceClient,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    NotFoundError,
    OverloadedError,
    RetryPolicy,
    ServerError,
    Timeouts,
    UnexpectedResponseError,
    ValidationError,
)
from hfstream.testing import Answer, Fault, Request, ScriptedServer, Step

QUICK = RetryPolicy(attempts=3, max_wait=0.05)
ROLE = chunk(role="assistant", content="")
HELLO = [chunk(content="Hel"), chunk(content="lo")]
FINISH = chunk("stop")
USAGE = event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
STREAM = [ROLE, *HELLO, FINISH, DONE]
OVERLOADED = event({"error": {"message": "Model is overloaded", "http_status_code": 422}})
WHOLE = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}


def again(piece: bytes, times: int = 400) -> list[Step]:
    """The same again and again, 20 a second."""
    return [piece, 0.05] * times


@pytest.fixture(params=list(RECORDINGS.values()), ids=list(RECORDINGS))
def recording(request: pytest.FixtureRequest) -> Recording:
    found: Recording = request.param
    return found


# --- Streamed and whole ----------------------------------------------------------------------------------------------


async def test_a_recorded_stream_and_the_same_answer_in_one_piece(
    face: Face, clients: Clients, recording: Recording
) -> None:
    with ScriptedServer(Answer(recording.events), Answer.document(recording.whole)) as server:
        client = clients(server.url)
        stream = await face.open_chat(client)
        chunks = await face.rest(stream)
        whole = await face.chat(client)
        assert [request.json()["stream"] for request in server.requests] == [True, False]
    assert all(isinstance(each, ChatCompletionChunk) for each in chunks)
    assert isinstance(whole, ChatCompletion)
    assert await face.final(stream) == whole
    assert stream.text == (whole.choices[0].message.content or "")
    assert stream.finish_reason == whole.choices[0].finish_reason
    assert stream.usage == whole.usage
    assert stream.metrics.tokens == recording.content
    assert [attempt.status_code for attempt in stream.attempts] == [200]


async def test_the_loop_of_every_tutorial(face: Face, clients: Clients) -> None:
    with ScriptedServer(Answer([ROLE, *HELLO, FINISH, USAGE, DONE])) as server:
        stream = await face.open_chat(clients(server.url))
        text = ""
        for each in await face.rest(stream):
            text += each.choices[0].delta.content or ""
            assert each["choices"][0]["delta"]["content"] == each.choices[0].delta.content
    assert text == stream.text == "Hello"


async def test_the_name_that_openai_has_for_it(face: Face, clients: Clients) -> None:
    with ScriptedServer(Answer(STREAM), Answer.document(WHOLE)) as server:
        client = clients(server.url)

        async def create(**options: Any) -> Any:
            made = client.chat.completions.create
            return await asyncio.to_thread(made, **options) if face.name == "sync" else await made(**options)

        stream = await create(model="m", messages=list(HI), stream=True, max_tokens=5)
        assert (await face.final(stream)).choices[0].message.content == "Hello"
        whole = await create(messages=list(HI), temperature=0.5)
        assert whole.choices[0].message.content == "Hello"
        assert [request.json()["model"] for request in server.requests] == ["m", "tgi"]


async def test_an_async_chat_is_a_coroutine_an_iterator_and_a_context_manager() -> None:
    with ScriptedServer(Answer(STREAM)) as server:
        async with AsyncInferenceClient(server.url) as client:
            whole = client.chat_completion(HI)
            assert inspect.iscoroutine(whole)
            whole.close()
            assert len([each async for each in client.chat_completion(HI, stream=True)]) == 4
            assert len([each async for each in await client.chat_completion(HI, stream=True)]) == 4
            async with client.chat_completion(HI, stream=True) as stream:
                assert (await stream.final()).choices[0].message.content == "Hello"
            assert (await asyncio.create_task(client.chat_completion(HI, stream=True))).text == "Hel"
            client.chat_completion(HI, stream=True)  # dropped: silent


async def test_the_stream_returns_with_its_first_content_and_what_was_held(face: Face, clients: Clients) -> None:
    with ScriptedServer(Answer([ROLE, b": PROCESSING\n\n", ROLE, HELLO[0], Fault.STALL])) as server:
        stream = await face.open_chat(clients(server.url))
        assert stream.metrics.tokens == 1
        assert stream.text == "Hel"
        said = [await face.next(stream) for _ in range(3)]
        assert [each.choices[0].delta.content for each in said] == ["", "", "Hel"]
        assert [each.choices[0].delta.role for each in said] == ["assistant", "assistant", None]
        await face.close(stream)


async def test_final_after_a_few_chunks_is_still_the_whole(face: Face, clients: Clients) -> None:
    with ScriptedServer(Answer(STREAM)) as server:
        stream = await face.open_chat(clients(server.url))
        await face.next(stream)
        await face.next(stream)
        assert await face.final(stream) == ChatCompletion.model_validate(WHOLE)
        assert await face.final(stream) == ChatCompletion.model_validate(WHOLE)
        assert await face.rest(stream) == []


async def test_only_content_is_a_token(face: Face, clients: Clients) -> None:
    pieces = [ROLE, ROLE, HELLO[0], ROLE, USAGE, HELLO[1], ROLE, FINISH, USAGE, DONE]
    with ScriptedServer(Answer(pieces)) as server:
        stream = await face.open_chat(clients(server.url))
        assert len(await face.rest(stream)) == 9
        assert stream.metrics.tokens == 3  # two texts and the finish
        assert "3 tokens" in repr(stream)


async def test_several_answers_at_once(face: Face, clients: Clients) -> None:
    pieces = [
        event({"choices": [choice(1, content="x")]}),
        event({"choices": [choice(0, content="a"), choice(1, content="y")]}),
        event({"choices": [choice(1, "length")]}),
        event({"choices": [choice(0, "stop")]}),
    ]
    with ScriptedServer(Answer(pieces)) as server:
        stream = await face.open_chat(clients(server.url), n=2)
        whole = await face.final(stream)
        assert server.requests[0].json()["n"] == 2
    assert [(found.message.content, found.finish_reason) for found in whole.choices] == [
        ("a", "stop"),
        ("xy", "length"),
    ]
    assert (stream.text, stream.finish_reason) == ("a", "stop")


class City(BaseModel):
    name: str


async def test_an_answer_in_the_form_of_a_class(face: Face, clients: Clients) -> None:
    text = '{"name": "Köln"}'
    told = {"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}]}
    with ScriptedServer(Answer([chunk(content=text), FINISH, DONE]), Answer.document(told)) as server:
        client = clients(server.url)
        stream = await face.open_chat(client, response_format=City)
        assert (await face.final(stream)).parsed == City(name="Köln")
        assert (await face.chat(client, response_format=City)).parsed == City(name="Köln")
        first, second = (request.json()["response_format"] for request in server.requests)
        assert first == second
        assert first["json_schema"]["schema"] == City.model_json_schema()


async def test_a_message_of_an_answer_goes_back_as_it_is(face: Face, clients: Clients) -> None:
    tools = RECORDINGS["OpenAI, tools"]
    with ScriptedServer(Answer(tools.events), Answer(STREAM)) as server:
        client = clients(server.url)
        said = (await face.final(await face.open_chat(client))).choices[0].message
        answers = [{"role": "tool", "tool_call_id": call.id, "content": "21 °C"} for call in said.tool_calls]
        await face.final(await face.open_chat(client, (*HI, said, *answers)))
        sent = server.requests[1].json()["messages"]
    assert sent[0] == HI[0]
    assert (sent[1]["role"], sent[1].get("content")) == ("assistant", None)
    assert [call["id"] for call in sent[1]["tool_calls"]] == ["call_a", "call_b"]
    assert sent[1]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"city":"Köln"}'}
    assert sent[2:] == answers


# --- How it ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest", [[], [USAGE], [b"data: [DO"], [b"data:[DONE]\n\n"], [0.01, Fault.DROP], [0.01, Fault.RESET]]
)
async def test_after_the_finish_reason_nothing_can_fail_it(face: Face, clients: Clients, rest: list[Any]) -> None:
    with ScriptedServer(Answer([ROLE, *HELLO, FINISH, *rest])) as server:
        stream = await face.open_chat(clients(server.url, retry=None))
        whole = await face.final(stream)
        assert whole.choices[0].finish_reason == "stop"
        assert stream.text == "Hello"
        assert stream.attempts[-1].error is None
        assert len(server.requests) == 1


async def test_a_server_that_never_ends_after_the_finish_reason_costs_one_limit(face: Face, clients: Clients) -> None:
    with ScriptedServer(Answer([*HELLO, FINISH, Fault.STALL])) as server:
        started = time.monotonic()
        stream = await face.open_chat(clients(server.url, timeout=Timeouts(between_tokens=0.2), retry=None))
        assert len(await face.rest(stream)) == 3
        assert time.monotonic() - started < 5
        assert (await face.final(stream)).choices[0].message.content == "Hello"
        assert server.wait_until_running(0)


async def test_keep_alives_do_not_prolong_the_wait_after_the_finish_reason(face: Face, clients: Clients) -> None:
    steps = [*HELLO, FINISH, *again(b":\n\n")]
    with ScriptedServer(Answer(steps)) as server:
        started = time.monotonic()
        stream = await face.open_chat(clients(server.url, timeout=Timeouts(between_tokens=0.3), retry=None))
        assert (await face.final(stream)).choices[0].message.content == "Hello"
        assert time.monotonic() - started < 10  # all of them take 20 s
        assert server.wait_until_running(0)


@pytest.mark.parametrize("rest", [[], [b":\n\n"], [ROLE], [USAGE], [b'data: {"cho']])
async def test_an_end_before_the_finish_reason_is_none(face: Face, clients: Clients, rest: list[bytes]) -> None:
    with ScriptedServer(Answer([ROLE, *HELLO, *rest])) as server:
        stream = await face.open_chat(clients(server.url))
        with pytest.raises(IncompleteStreamError, match="after 2 tokens") as caught:
            await face.rest(stream)
        assert caught.value.partial_text == "Hello"
        assert stream.finish_reason is None
        with pytest.raises(IncompleteStreamError):
            await face.final(stream)
        assert len(server.requests) == 1


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.RESET])
async def test_a_lost_connection_before_the_finish_reason_is_typed(face: Face, clients: Clients, fault: Fault) -> None:
    with ScriptedServer(Answer([*HELLO, 0.05, fault])) as server:
        stream = await face.open_chat(clients(server.url))
        with pytest.raises(InferenceConnectionError) as caught:
            await face.final(stream)
        assert caught.value.partial_text == "Hello"


@pytest.mark.parametrize("pieces", [[], [DONE], [ROLE, DONE], [ROLE], [USAGE, DONE], [b": PROCESSING\n\n"]])
async def test_an_empty_stream_is_tried_again_and_then_told(face: Face, clients: Clients, pieces: list[bytes]) -> None:
    empty = Answer(pieces)
    with ScriptedServer(empty, empty, Answer(STREAM), empty) as server:
        client = clients(server.url, retry=QUICK)
        stream = await face.open_chat(client)
        assert (await face.final(stream)).choices[0].message.content == "Hello"
        assert [type(attempt.error) for attempt in stream.attempts] == [IncompleteStreamError] * 2 + [type(None)]
        with pytest.raises(IncompleteStreamError, match="without a token"):
            await face.open_chat(client)
        assert len(server.requests) == 6


async def test_what_was_held_before_a_retry_is_not_handed_over(face: Face, clients: Clients) -> None:
    first = [event({"id": "old", "choices": [choice(role="old", content="")]}), OVERLOADED, DONE]
    with ScriptedServer(Answer(first), Answer(STREAM)) as server:
        stream = await face.open_chat(clients(server.url, retry=QUICK))
        assert [each.choices[0].delta.role for each in await face.rest(stream)] == ["assistant", None, None, None]
        assert await face.final(stream) == ChatCompletion.model_validate(WHOLE)


@pytest.mark.parametrize(
    "overloaded",
    [
        Answer([OVERLOADED, DONE]),
        Answer([ROLE + OVERLOADED]),
        Answer([event({"error": "Model is overloaded", "error_type": "overloaded"})]),
        Answer([event({"error": {"message": "x", "code": 429}, "choices": [choice(0, "error", content="")]})]),
        Answer.error(429, "Model is overloaded", "overloaded"),
        Answer([b'{"error": {"message": "slow down", "type": "x"}}'], 503, "application/json"),
    ],
)
async def test_overload_is_tried_again(face: Face, clients: Clients, overloaded: Answer) -> None:
    with ScriptedServer(overloaded, Answer(STREAM), overloaded) as server:
        client = clients(server.url, retry=QUICK)
        stream = await face.open_chat(client)
        assert (await face.final(stream)).choices[0].message.content == "Hello"
        assert [type(attempt.error) for attempt in stream.attempts] == [OverloadedError, type(None)]
        with pytest.raises(OverloadedError) as caught:
            await face.open_chat(client)
        assert caught.value.status_code in (429, 503)
        assert len(server.requests) == 5


ERRORS: list[tuple[Any, type[InferenceError], str]] = [
    ({"error": {"message": "Input validation error: bad", "http_status_code": 422}}, ValidationError, "bad"),
    ({"error": {"message": "Request failed during generation: x", "http_status_code": 422}}, GenerationError, "x"),
    ({"error": {"message": "no", "type": "BadRequestError", "code": 400}}, BadRequestError, "no"),
    ({"error": {"message": "key", "code": 401}}, AuthenticationError, "key"),
    ({"error": {"message": "gone", "code": 404}}, NotFoundError, "gone"),
    ({"error": "CUDA out of memory"}, ServerError, "CUDA"),
    ({"detail": "boom"}, ServerError, "boom"),
    ({"error": {"message": "lost"}, "choices": [choice(0, "error", content="")]}, ServerError, "lost"),
    ("nonsense", UnexpectedResponseError, "nonsense"),
]


@pytest.mark.parametrize(("payload", "kind", "words"), ERRORS)
async def test_an_error_in_the_middle_keeps_what_was_said(
    face: Face, clients: Clients, payload: Any, kind: type[InferenceError], words: str
) -> None:
    with ScriptedServer(Answer([ROLE + HELLO[0] + HELLO[1] + event(payload)])) as server:
        stream = await face.open_chat(clients(server.url, retry=QUICK))
        assert [(await face.next(stream)).choices[0].delta.content for _ in range(3)] == ["", "Hel", "lo"]
        with pytest.raises(kind, match=words) as caught:
            await face.next(stream)
        assert type(caught.value) is kind
        assert caught.value.partial_text == "Hello"
        assert len(server.requests) == 1


@pytest.mark.parametrize(("payload", "kind", "words"), ERRORS)
async def test_an_error_in_the_first_event_is_raised_by_the_call(
    face: Face, clients: Clients, payload: Any, kind: type[InferenceError], words: str
) -> None:
    with ScriptedServer(Answer([ROLE, event(payload), DONE])) as server, pytest.raises(kind, match=words):
        await face.open_chat(clients(server.url, retry=None))


@pytest.mark.parametrize(("payload", "kind", "words"), ERRORS[:8])
@pytest.mark.parametrize("streamed", [True, False])
async def test_an_error_in_one_piece_is_that_error(
    face: Face, clients: Clients, payload: Any, kind: type[InferenceError], words: str, streamed: bool
) -> None:
    if "choices" in payload:
        payload = {**payload, "choices": []}
    with ScriptedServer(Answer.document(payload)) as server, pytest.raises(kind, match=words):
        ask = face.open_chat if streamed else face.chat
        await ask(clients(server.url, retry=None))


@pytest.mark.parametrize(
    ("kind", "body", "expected", "words"),
    [
        ("text/html", b"<!doctype html><title>Sign in</title>", UnexpectedResponseError, "Sign in"),
        ("application/json", json.dumps(WHOLE).encode(), UnexpectedResponseError, "Hello"),
        ("text/event-stream", b"<html>not at all</html>", UnexpectedResponseError, "not at all"),
        ("text/event-stream", b'{"error": {"message": "Model is overloaded"}}', OverloadedError, "Model is"),
        ("text/event-stream", b"data: hello\n\n", UnexpectedResponseError, "hello"),
        ("text/plain", b"", UnexpectedResponseError, "an empty body"),
        (None, b"", IncompleteStreamError, "without a token"),
    ],
)
async def test_a_200_that_is_no_stream(
    face: Face, clients: Clients, kind: str | None, body: bytes, expected: type[Exception], words: str
) -> None:
    with ScriptedServer(Answer([body], content_type=kind)) as server, pytest.raises(expected, match=words):
        await face.open_chat(clients(server.url, retry=None))


@pytest.mark.parametrize(
    "body", [b"<html>Hello</html>", b"", b"{}", b'{"choices": 5}', b'{"choices": [{}]}', b"[]", b"null"]
)
async def test_a_200_that_is_no_answer(face: Face, clients: Clients, body: bytes) -> None:
    answer = Answer([body], content_type="application/json")
    with ScriptedServer(answer) as server, pytest.raises(UnexpectedResponseError, match="not the JSON"):
        await face.chat(clients(server.url, retry=None))


@pytest.mark.parametrize(
    ("status", "body", "expected", "words"),
    [
        (422, b'{"error":"Template error: no","error_type":"template_error"}', ValidationError, "Template error: no"),
        (422, b"Failed to deserialize the JSON body", ValidationError, "Failed to deserialize"),
        (422, b'{"detail":[{"loc":["body","messages"],"msg":"field required"}]}', ValidationError, "field required"),
        (400, b'{"error":{"message":"no such","type":"x","param":null,"code":null}}', BadRequestError, "no such"),
        (400, b'{"object":"error","message":"too long","type":"x","code":400}', BadRequestError, "too long"),
        (400, b'[{"error":{"code":400,"message":"invalid","status":"INVALID"}}]', BadRequestError, "invalid"),
        (401, b"", AuthenticationError, "check the token"),
        (404, b'{"error":{"message":"model x not found"}}', NotFoundError, "model x not found"),
        (500, b"<html>oops</html>", ServerError, "500"),
        (302, b"", UnexpectedResponseError, "302"),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_refusal_has_the_servers_words(
    face: Face, clients: Clients, status: int, body: bytes, expected: type[Exception], words: str, streamed: bool
) -> None:
    with ScriptedServer(Answer([body] if body else [], status, "application/json")) as server:
        ask = face.open_chat if streamed else face.chat
        with pytest.raises(expected, match=words) as caught:
            await ask(clients(server.url))
        assert type(caught.value) is expected
        assert len(server.requests) == 1


# --- Time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alive", [b":\n\n", b": OPENROUTER PROCESSING\n\n", ROLE, USAGE])
async def test_what_is_no_content_does_not_prolong_the_wait_for_the_first(
    face: Face, clients: Clients, alive: bytes
) -> None:
    with ScriptedServer(Answer([*again(alive)])) as server:
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError) as caught:
            await face.open_chat(clients(server.url, timeout=Timeouts(first_token=0.3), retry=None))
        assert caught.value.phase == "first_token"
        assert time.monotonic() - started < 10  # all of them take 20 s
        assert server.wait_until_running(0)


async def test_comments_do_not_prolong_the_wait_for_the_next(face: Face, clients: Clients) -> None:
    with ScriptedServer(Answer([HELLO[0], *again(b":\n\n")])) as server:
        started = time.monotonic()
        stream = await face.open_chat(clients(server.url, timeout=Timeouts(between_tokens=0.3), retry=None))
        with pytest.raises(InferenceTimeoutError) as caught:
            await face.rest(stream)
        assert (caught.value.phase, caught.value.partial_text) == ("between_tokens", "Hel")
        assert time.monotonic() - started < 10
        assert server.wait_until_running(0)


@pytest.mark.parametrize("alive", [ROLE, USAGE])
async def test_chunks_without_content_do_not_prolong_the_wait_for_the_next(
    face: Face, clients: Clients, alive: bytes
) -> None:
    with ScriptedServer(Answer([HELLO[0], *again(alive, 30)])) as server:
        stream = await face.open_chat(clients(server.url, timeout=Timeouts(between_tokens=0.3), retry=None))
        with pytest.raises(InferenceTimeoutError):
            await face.rest(stream)


# --- Connections, and ends before the end ----------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [[DONE], [USAGE, DONE], []], ids=["[DONE]", "usage", "no [DONE]"])
async def test_ten_chats_in_a_row_use_one_connection(face: Face, clients: Clients, rest: list[bytes]) -> None:
    with ScriptedServer(Answer([ROLE, *HELLO, FINISH, *rest])) as server:
        client = clients(server.url)
        for _ in range(10):
            await face.rest(await face.open_chat(client))
        assert server.connections == 1


async def test_close_right_after_the_finish_keeps_the_connection(face: Face, clients: Clients) -> None:
    with ScriptedServer(Answer([ROLE, *HELLO, FINISH, USAGE, DONE])) as server:
        client = clients(server.url)
        for _ in range(10):
            stream = await face.open_chat(client)
            while (await face.next(stream)).choices[0].finish_reason is None:
                pass
            await face.close(stream)
            assert (await face.final(stream)).choices[0].message.content == "Hello"
        assert server.connections == 1


async def test_close_before_the_finish_closes_the_connection(face: Face, clients: Clients) -> None:
    with ScriptedServer(Answer([ROLE, HELLO[0], Fault.STALL])) as server:
        stream = await face.open_chat(clients(server.url))
        await face.next(stream)
        await face.close(stream)
        assert server.wait_until_running(0)
        assert await face.rest(stream) == []
        with pytest.raises(IncompleteStreamError, match="closed before its end") as caught:
            await face.final(stream)
        assert caught.value.partial_text == "Hel"


async def test_break_out_of_a_loop_closes(face: Face, clients: Clients) -> None:
    with ScriptedServer(Answer([ROLE, HELLO[0], Fault.STALL])) as server:
        client = clients(server.url)

        def loop() -> None:
            for _ in client.chat_completion(HI, stream=True):
                break

        if face.name == "sync":
            await asyncio.to_thread(loop)
        else:
            async for _ in client.chat_completion(HI, stream=True):
                break
        gc.collect()
        assert server.wait_until_running(0)


async def test_close_while_a_reader_waits_for_DONE_ends_its_loop_with_the_answer(face: Face, clients: Clients) -> None:
    waits = threading.Event()

    def steps() -> Any:
        yield from (ROLE, *HELLO, FINISH)
        waits.set()
        yield Fault.STALL

    def answer(_: Request) -> Answer:
        return Answer(steps())

    with ScriptedServer(answer) as server:
        stream = await face.open_chat(clients(server.url))
        for _ in range(4):
            await face.next(stream)
        assert await asyncio.to_thread(waits.wait, 5)
        reader = asyncio.create_task(face.rest(stream))
        while not stream._reading.locked():  # it is on its way to the socket
            await asyncio.sleep(0.001)
        await face.close(stream)
        assert await asyncio.wait_for(reader, 5) == []
        assert server.wait_until_running(0)
        assert (await face.final(stream)).choices[0].message.content == "Hello"


async def test_a_chat_lives_on_when_its_client_is_gone(face: Face) -> None:
    with ScriptedServer(Answer(STREAM)) as server:
        stream = await face.open_chat(face.client(server.url))
        gc.collect()
        assert (await face.final(stream)).choices[0].message.content == "Hello"


def test_many_threads_share_one_client() -> None:
    with ScriptedServer(Answer(STREAM)) as server, InferenceClient(server.url) as client:
        found: list[str | None] = []

        def ask() -> None:
            found.append(client.chat_completion(HI, stream=True).final().choices[0].message.content)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert found == ["Hello"] * 8


# --- What is sent ----------------------------------------------------------------------------------------------------


async def test_what_a_chat_sends(face: Face, clients: Clients) -> None:
    with ScriptedServer(Answer(STREAM)) as server:
        client = clients(server.url, token="t", bill_to="org", headers={"X-A": "1"})
        await face.final(
            await face.open_chat(
                client, iter(HI), model="org/name", max_tokens=5, temperature=None, stream_options=None,
                extra_body={"top_k": 5, "odd": None}, extra_headers={"X-A": "2"}, timeout=5,
            )
        )  # fmt: skip
        request = server.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.body.startswith(b'{"model":"org/name","messages":[{"role":"user","content":"Hi"}],"stream":true,')
    assert request.json() == {
        "model": "org/name", "messages": list(HI), "stream": True, "max_tokens": 5, "top_k": 5, "odd": None,
    }  # fmt: skip
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["authorization"] == "Bearer t"
    assert (request.headers["x-hf-bill-to"], request.headers["x-a"]) == ("org", "2")


async def test_a_generator_of_messages_is_sent_again_with_every_attempt(face: Face, clients: Clients) -> None:
    with ScriptedServer(Answer([DONE]), Answer(STREAM)) as server:
        stream = await face.open_chat(clients(server.url, retry=QUICK), (message for message in HI * 3))
        await face.final(stream)
        first, second = server.requests
        assert first.body == second.body
        assert first.json()["messages"] == list(HI * 3)


async def test_a_mistyped_name_and_messages_that_are_none_are_refused_before_anything_is_sent(
    face: Face, clients: Clients
) -> None:
    with ScriptedServer(Answer(STREAM)) as server:
        client = clients(server.url)
        for ask in (face.open_chat, face.chat):
            with pytest.raises(TypeError, match="`max_token`: did you mean `max_tokens`"):
                await ask(client, max_token=5)
            for messages in ("Hi", b"Hi", HI[0]):
                with pytest.raises(TypeError, match="list of messages"):
                    await ask(client, messages)
        assert server.requests == []


# --- Text at /v1 -----------------------------------------------------------------------------------------------------


def piece(text: str, finish_reason: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "text": text, "finish_reason": finish_reason}]})


async def test_text_generation_at_a_server_of_openais_kind(face: Face, clients: Clients) -> None:
    whole = {"choices": [{"index": 0, "text": "Hello", "finish_reason": "length"}]}
    with ScriptedServer(Answer([piece("Hel"), piece("lo", "length"), USAGE, DONE]), Answer.document(whole)) as server:
        client = clients(f"{server.url}/v1")
        stream = await face.open(client, max_new_tokens=2, model="org/name")
        assert await face.rest(stream) == ["Hel", "lo"]
        assert await face.final(stream) == "Hello" == await face.whole(client, max_new_tokens=2)
        assert stream.usage.total_tokens == 3
        assert stream.finish_reason == "length"
        first, second = server.requests
        assert (first.path, second.path) == ("/v1/completions", "/v1/completions")
        assert first.json() == {
            "model": "org/name", "prompt": "Hi", "stream": True, "max_tokens": 2,
            "stream_options": {"include_usage": True},
        }  # fmt: skip
        assert second.json() == {"prompt": "Hi", "stream": False, "max_tokens": 2}


async def test_ten_texts_at_v1_use_one_connection(face: Face, clients: Clients) -> None:
    with ScriptedServer(Answer([piece("Hel"), piece("lo", "length"), USAGE, DONE])) as server:
        client = clients(f"{server.url}/v1")
        for _ in range(10):
            assert await face.rest(await face.open(client)) == ["Hel", "lo"]
        assert server.connections == 1


async def test_text_at_v1_ends_early_or_not_at_all(face: Face, clients: Clients) -> None:
    with ScriptedServer(Answer([piece("Hel")]), Answer([DONE])) as server:
        client = clients(f"{server.url}/v1", retry=QUICK)
        stream = await face.open(client)
        with pytest.raises(IncompleteStreamError) as caught:
            await face.final(stream)
        assert caught.value.partial_text == "Hel"
        with pytest.raises(IncompleteStreamError, match="without a token"):
            await face.open(client)
        assert len(server.requests) == 4
