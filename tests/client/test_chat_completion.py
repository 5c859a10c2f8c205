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
from pydantic import BaseModel

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
from hfstream.testing import Fault, Request, Response, ScriptedServer, Step
from tests.helpers.recordings import DONE, RECORDINGS, Recording, choice, chunk, event
from tests.helpers.variants import HI, Clients, Variant

QUICK = RetryPolicy(attempts=3, max_wait=0.05)
ROLE = chunk(role="assistant", content="")
HELLO = [chunk(content="Hel"), chunk(content="lo")]
FINISH = chunk("stop")
USAGE = event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
STREAM = [ROLE, *HELLO, FINISH, DONE]
OVERLOADED = event({"error": {"message": "Model is overloaded", "http_status_code": 422}})
WHOLE = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}


def again(piece: bytes, times: int = 4000) -> list[Step]:
    """The same again and again, 20 a second."""
    return [piece, 0.05] * times


@pytest.fixture(params=list(RECORDINGS.values()), ids=list(RECORDINGS))
def recording(request: pytest.FixtureRequest) -> Recording:
    found: Recording = request.param
    return found


# --- Streamed and whole ----------------------------------------------------------------------------------------------


async def test_a_recorded_stream_and_the_same_answer_in_one_piece(
    variant: Variant, clients: Clients, recording: Recording
) -> None:
    with ScriptedServer(Response(recording.events), Response.json(recording.whole)) as server:
        client = clients(server.url)
        stream = await variant.open_chat(client)
        chunks = await variant.rest(stream)
        whole = await variant.chat(client)
        assert [request.json()["stream"] for request in server.requests] == [True, False]
    assert all(isinstance(each, ChatCompletionChunk) for each in chunks)
    assert isinstance(whole, ChatCompletion)
    assert await variant.final(stream) == whole
    assert stream.text == (whole.choices[0].message.content or "")
    assert stream.finish_reason == whole.choices[0].finish_reason
    assert stream.usage == whole.usage
    assert stream.metrics.tokens == recording.content
    assert [attempt.status_code for attempt in stream.attempts] == [200]


async def test_the_loop_of_every_tutorial(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([ROLE, *HELLO, FINISH, USAGE, DONE])) as server:
        stream = await variant.open_chat(clients(server.url))
        text = ""
        for each in await variant.rest(stream):
            text += each.choices[0].delta.content or ""
            assert each["choices"][0]["delta"]["content"] == each.choices[0].delta.content
    assert text == stream.text == "Hello"


async def test_the_name_that_openai_has_for_it(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(STREAM), Response.json(WHOLE)) as server:
        client = clients(server.url)

        async def create(**options: Any) -> Any:
            made = client.chat.completions.create
            return await asyncio.to_thread(made, **options) if variant.name == "sync" else await made(**options)

        stream = await create(model="m", messages=list(HI), stream=True, max_tokens=5)
        assert (await variant.final(stream)).choices[0].message.content == "Hello"
        whole = await create(messages=list(HI), temperature=0.5)
        assert whole.choices[0].message.content == "Hello"
        assert [request.json()["model"] for request in server.requests] == ["m", "tgi"]


async def test_an_async_chat_is_a_coroutine_an_iterator_and_a_context_manager() -> None:
    with ScriptedServer(Response(STREAM)) as server:
        async with AsyncInferenceClient(server.url) as client:
            whole = client.chat_completion(HI)
            assert inspect.iscoroutine(whole)
            whole.close()
            assert len([each async for each in client.chat_completion(HI, stream=True)]) == 4
            assert len([each async for each in await client.chat_completion(HI, stream=True)]) == 4
            async with client.chat_completion(HI, stream=True) as stream:
                assert (await stream.final()).choices[0].message.content == "Hello"
            assert (await asyncio.create_task(client.chat_completion(HI, stream=True))).text.startswith("Hel")
            client.chat_completion(HI, stream=True)  # dropped: silent


async def test_the_stream_returns_with_its_first_content_and_what_was_held(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([ROLE, b": PROCESSING\n\n", ROLE, HELLO[0], Fault.STALL])) as server:
        stream = await variant.open_chat(clients(server.url))
        assert stream.metrics.tokens == 1
        assert stream.text == "Hel"
        items = [await variant.next(stream) for _ in range(2)]  # a chunk that repeats the one before it is left out
        assert [each.choices[0].delta.content for each in items] == ["", "Hel"]
        assert [each.choices[0].delta.role for each in items] == ["assistant", None]
        await variant.close(stream)


async def test_final_after_a_few_chunks_is_still_the_whole(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(STREAM)) as server:
        stream = await variant.open_chat(clients(server.url))
        await variant.next(stream)
        await variant.next(stream)
        assert await variant.final(stream) == ChatCompletion.model_validate(WHOLE)
        assert await variant.final(stream) == ChatCompletion.model_validate(WHOLE)
        assert await variant.rest(stream) == []


async def test_only_content_is_a_token(variant: Variant, clients: Clients) -> None:
    pieces = [ROLE, ROLE, HELLO[0], ROLE, USAGE, HELLO[1], ROLE, FINISH, USAGE, DONE]
    with ScriptedServer(Response(pieces)) as server:
        stream = await variant.open_chat(clients(server.url))
        assert len(await variant.rest(stream)) == 8  # without the second role chunk, which repeats the first
        assert stream.metrics.tokens == 3  # two texts and the finish
        assert "3 tokens" in repr(stream)


@pytest.mark.parametrize(
    "pieces",
    [
        [
            event({"choices": [choice(1, content="x")]}),
            event({"choices": [choice(0, content="a"), choice(1, content="y")]}),
            event({"choices": [choice(1, "length")]}),
            event({"choices": [choice(0, "stop")]}),
        ],
        [
            event({"choices": [choice(0, "stop", content="a")]}),
            0.3,
            event({"choices": [choice(1, "length", content="xy")]}),
        ],
    ],
    ids=["interleaved", "in turn"],
)
async def test_several_answers_at_once(variant: Variant, clients: Clients, pieces: list[Step]) -> None:
    with ScriptedServer(Response(pieces)) as server:
        stream = await variant.open_chat(clients(server.url, timeout=Timeouts(after_finish=0.05)), n=2)
        whole = await variant.final(stream)
        assert server.requests[0].json()["n"] == 2
    assert [(found.message.content, found.finish_reason) for found in whole.choices] == [
        ("a", "stop"),
        ("xy", "length"),
    ]
    assert (stream.text, stream.finish_reason) == ("a", "stop")


class City(BaseModel):
    name: str


async def test_an_answer_in_the_form_of_a_class(variant: Variant, clients: Clients) -> None:
    text = '{"name": "Köln"}'
    document = {"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}]}
    with ScriptedServer(Response([chunk(content=text), FINISH, DONE]), Response.json(document)) as server:
        client = clients(server.url)
        stream = await variant.open_chat(client, response_format=City)
        assert (await variant.final(stream)).parsed == City(name="Köln")
        assert (await variant.chat(client, response_format=City)).parsed == City(name="Köln")
        first, second = (request.json()["response_format"] for request in server.requests)
        assert first == second
        assert first["json_schema"]["schema"] == City.model_json_schema()


async def test_the_object_grows_while_its_json_comes_in(variant: Variant, clients: Clients) -> None:
    pieces = ["", '{"na', 'me": "Kö', 'ln", "inhabitants": 1', '100, "sights": ["Dom", "Rh', 'ein"]}']
    with ScriptedServer(Response([*(chunk(content=piece) for piece in pieces), FINISH, DONE])) as server:
        stream = await variant.open_chat(clients(server.url), response_format=City)
        grown: list[Any] = []
        while await variant.next(stream) is not None:
            grown.append(stream.parsed)
    end = {"name": "Köln", "inhabitants": 1100, "sights": ["Dom", "Rhein"]}
    # A chunk may be read with the one after it, never later: the object grows in this order, and ends complete.
    states = [None, {}, {"name": "Kö"}, {"name": "Köln", "inhabitants": 1}, end | {"sights": ["Dom", "Rh"]}, end]
    assert grown == sorted(grown, key=states.index)
    assert grown[-1] == stream.parsed == end
    assert (await variant.final(stream)).parsed == City(name="Köln")


@pytest.mark.parametrize(("text", "parsed"), [("Hello", None), ("", None), ("[1, 2", [1, 2]), ('"a', "a")])
async def test_what_the_text_so_far_is_as_json(variant: Variant, clients: Clients, text: str, parsed: Any) -> None:
    with ScriptedServer(Response([chunk(content=text), FINISH, DONE])) as server:
        stream = await variant.open_chat(clients(server.url))
        await variant.final(stream)
        assert stream.parsed == parsed


async def test_a_message_of_an_answer_goes_back_as_it_is(variant: Variant, clients: Clients) -> None:
    tools = RECORDINGS["OpenAI, tools"]
    with ScriptedServer(Response(tools.events), Response(STREAM)) as server:
        client = clients(server.url)
        message = (await variant.final(await variant.open_chat(client))).choices[0].message
        answers = [{"role": "tool", "tool_call_id": call.id, "content": "21 °C"} for call in message.tool_calls]
        await variant.final(await variant.open_chat(client, (*HI, message, *answers)))
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
async def test_after_the_finish_reason_nothing_can_fail_it(variant: Variant, clients: Clients, rest: list[Any]) -> None:
    with ScriptedServer(Response([ROLE, *HELLO, FINISH, *rest])) as server:
        stream = await variant.open_chat(clients(server.url, retry=None))
        whole = await variant.final(stream)
        assert whole.choices[0].finish_reason == "stop"
        assert stream.text == "Hello"
        assert stream.attempts[-1].error is None
        assert len(server.requests) == 1


@pytest.mark.slow
async def test_a_server_that_never_ends_after_the_finish_reason_costs_one_limit(
    variant: Variant, clients: Clients
) -> None:
    with ScriptedServer(Response([*HELLO, FINISH, Fault.STALL])) as server:
        started = time.monotonic()
        stream = await variant.open_chat(
            clients(server.url, timeout=Timeouts(first_token=300, between_tokens=0.2), retry=None)
        )
        assert len(await variant.rest(stream)) == 3
        assert time.monotonic() - started < 60
        assert (await variant.final(stream)).choices[0].message.content == "Hello"
        assert server.wait_until_running(0)


@pytest.mark.slow
async def test_keep_alives_do_not_prolong_the_wait_after_the_finish_reason(variant: Variant, clients: Clients) -> None:
    steps = [*HELLO, FINISH, *again(b":\n\n")]
    with ScriptedServer(Response(steps)) as server:
        started = time.monotonic()
        stream = await variant.open_chat(clients(server.url, timeout=Timeouts(between_tokens=0.3), retry=None))
        assert (await variant.final(stream)).choices[0].message.content == "Hello"
        assert time.monotonic() - started < 60  # all of them take 200 s
        assert server.wait_until_running(0)


@pytest.mark.parametrize("rest", [[], [b":\n\n"], [ROLE], [USAGE], [b'data: {"cho']])
async def test_an_end_before_the_finish_reason_is_none(variant: Variant, clients: Clients, rest: list[bytes]) -> None:
    with ScriptedServer(Response([ROLE, *HELLO, *rest])) as server:
        stream = await variant.open_chat(clients(server.url))
        with pytest.raises(IncompleteStreamError, match="after 2 tokens") as caught:
            await variant.rest(stream)
        assert caught.value.partial_text == "Hello"
        assert stream.finish_reason is None
        with pytest.raises(IncompleteStreamError):
            await variant.final(stream)
        assert len(server.requests) == 1


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.RESET])
async def test_a_lost_connection_before_the_finish_reason_is_typed(
    variant: Variant, clients: Clients, fault: Fault
) -> None:
    with ScriptedServer(Response([*HELLO, 0.05, fault])) as server:
        stream = await variant.open_chat(clients(server.url))
        with pytest.raises(InferenceConnectionError) as caught:
            await variant.final(stream)
        assert caught.value.partial_text == "Hello"


@pytest.mark.parametrize("pieces", [[], [DONE], [ROLE, DONE], [ROLE], [USAGE, DONE], [b": PROCESSING\n\n"]])
@pytest.mark.slow
async def test_an_empty_stream_is_tried_again_and_then_told(
    variant: Variant, clients: Clients, pieces: list[bytes]
) -> None:
    empty = Response(pieces)
    with ScriptedServer(empty, empty, Response(STREAM), empty) as server:
        client = clients(server.url, retry=QUICK)
        stream = await variant.open_chat(client)
        assert (await variant.final(stream)).choices[0].message.content == "Hello"
        assert [type(attempt.error) for attempt in stream.attempts] == [IncompleteStreamError] * 2 + [type(None)]
        with pytest.raises(IncompleteStreamError, match="without a token"):
            await variant.open_chat(client)
        assert len(server.requests) == 6


async def test_what_was_held_before_a_retry_is_not_handed_over(variant: Variant, clients: Clients) -> None:
    first = [event({"id": "old", "choices": [choice(role="old", content="")]}), OVERLOADED, DONE]
    with ScriptedServer(Response(first), Response(STREAM)) as server:
        stream = await variant.open_chat(clients(server.url, retry=QUICK))
        assert [each.choices[0].delta.role for each in await variant.rest(stream)] == ["assistant", None, None, None]
        assert await variant.final(stream) == ChatCompletion.model_validate(WHOLE)


@pytest.mark.parametrize(
    "overloaded",
    [
        Response([OVERLOADED, DONE]),
        Response([ROLE + OVERLOADED]),
        Response([event({"error": "Model is overloaded", "error_type": "overloaded"})]),
        Response([event({"error": {"message": "x", "code": 429}, "choices": [choice(0, "error", content="")]})]),
        Response.error(429, "Model is overloaded", "overloaded"),
        Response([b'{"error": {"message": "slow down", "type": "x"}}'], 503, "application/json"),
    ],
)
@pytest.mark.slow
async def test_overload_is_tried_again(variant: Variant, clients: Clients, overloaded: Response) -> None:
    with ScriptedServer(overloaded, Response(STREAM), overloaded) as server:
        client = clients(server.url, retry=QUICK)
        stream = await variant.open_chat(client)
        assert (await variant.final(stream)).choices[0].message.content == "Hello"
        assert [type(attempt.error) for attempt in stream.attempts] == [OverloadedError, type(None)]
        with pytest.raises(OverloadedError) as caught:
            await variant.open_chat(client)
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
    variant: Variant, clients: Clients, payload: Any, kind: type[InferenceError], words: str
) -> None:
    with ScriptedServer(Response([ROLE + HELLO[0] + HELLO[1] + event(payload)])) as server:
        stream = await variant.open_chat(clients(server.url, retry=QUICK))
        assert [(await variant.next(stream)).choices[0].delta.content for _ in range(3)] == ["", "Hel", "lo"]
        with pytest.raises(kind, match=words) as caught:
            await variant.next(stream)
        assert type(caught.value) is kind
        assert caught.value.partial_text == "Hello"
        assert len(server.requests) == 1


@pytest.mark.parametrize(("payload", "kind", "words"), ERRORS)
async def test_an_error_in_the_first_event_is_raised_by_the_call(
    variant: Variant, clients: Clients, payload: Any, kind: type[InferenceError], words: str
) -> None:
    with ScriptedServer(Response([ROLE, event(payload), DONE])) as server, pytest.raises(kind, match=words):
        await variant.open_chat(clients(server.url, retry=None))


@pytest.mark.parametrize(("payload", "kind", "words"), ERRORS[:8])
@pytest.mark.parametrize("streamed", [True, False])
async def test_an_error_in_one_piece_is_that_error(
    variant: Variant, clients: Clients, payload: Any, kind: type[InferenceError], words: str, streamed: bool
) -> None:
    if "choices" in payload:
        payload = {**payload, "choices": []}
    with ScriptedServer(Response.json(payload)) as server, pytest.raises(kind, match=words):
        ask = variant.open_chat if streamed else variant.chat
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
    variant: Variant, clients: Clients, kind: str | None, body: bytes, expected: type[Exception], words: str
) -> None:
    with ScriptedServer(Response([body], content_type=kind)) as server, pytest.raises(expected, match=words):
        await variant.open_chat(clients(server.url, retry=None))


@pytest.mark.parametrize(
    "body", [b"<html>Hello</html>", b"", b"{}", b'{"choices": 5}', b'{"choices": [{}]}', b"[]", b"null"]
)
async def test_a_200_that_is_no_answer(variant: Variant, clients: Clients, body: bytes) -> None:
    answer = Response([body], content_type="application/json")
    with ScriptedServer(answer) as server, pytest.raises(UnexpectedResponseError, match="not the JSON"):
        await variant.chat(clients(server.url, retry=None))


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
    variant: Variant, clients: Clients, status: int, body: bytes, expected: type[Exception], words: str, streamed: bool
) -> None:
    with ScriptedServer(Response([body] if body else [], status, "application/json")) as server:
        ask = variant.open_chat if streamed else variant.chat
        with pytest.raises(expected, match=words) as caught:
            await ask(clients(server.url))
        assert type(caught.value) is expected
        assert len(server.requests) == 1


# --- Time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alive", [b":\n\n", b": OPENROUTER PROCESSING\n\n", ROLE, USAGE])
@pytest.mark.slow
async def test_what_is_no_content_does_not_prolong_the_wait_for_the_first(
    variant: Variant, clients: Clients, alive: bytes
) -> None:
    with ScriptedServer(Response([*again(alive)])) as server:
        started = time.monotonic()
        with pytest.raises(InferenceTimeoutError) as caught:
            await variant.open_chat(clients(server.url, timeout=Timeouts(first_token=0.3), retry=None))
        assert caught.value.phase == "first_token"
        assert time.monotonic() - started < 60  # all of them take 200 s
        assert server.wait_until_running(0)


async def test_comments_do_not_prolong_the_wait_for_the_next(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([HELLO[0], *again(b":\n\n")])) as server:
        started = time.monotonic()
        stream = await variant.open_chat(clients(server.url, timeout=Timeouts(between_tokens=0.3), retry=None))
        with pytest.raises(InferenceTimeoutError) as caught:
            await variant.rest(stream)
        assert (caught.value.phase, caught.value.partial_text) == ("between_tokens", "Hel")
        assert time.monotonic() - started < 60
        assert server.wait_until_running(0)


# --- Connections, and ends before the end ----------------------------------------------------------------------------


@pytest.mark.usefixtures("patient_drain")
@pytest.mark.parametrize("rest", [[DONE], [USAGE, DONE], []], ids=["[DONE]", "usage", "no [DONE]"])
async def test_ten_chats_in_a_row_use_one_connection(variant: Variant, clients: Clients, rest: list[bytes]) -> None:
    with ScriptedServer(Response([ROLE, *HELLO, FINISH, *rest])) as server:
        client = clients(server.url)
        for _ in range(10):
            await variant.rest(await variant.open_chat(client))
        assert server.connections == 1


@pytest.mark.usefixtures("patient_drain")
async def test_close_right_after_the_finish_keeps_the_connection(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([ROLE, *HELLO, FINISH, USAGE, DONE])) as server:
        client = clients(server.url)
        for _ in range(10):
            stream = await variant.open_chat(client)
            while (await variant.next(stream)).choices[0].finish_reason is None:
                pass
            await variant.close(stream)
            assert (await variant.final(stream)).choices[0].message.content == "Hello"
        assert server.connections == 1


async def test_close_before_the_finish_closes_the_connection(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([ROLE, HELLO[0], Fault.STALL])) as server:
        stream = await variant.open_chat(clients(server.url))
        await variant.next(stream)
        await variant.close(stream)
        assert server.wait_until_running(0)
        assert await variant.rest(stream) == []
        with pytest.raises(IncompleteStreamError, match="closed before its end") as caught:
            await variant.final(stream)
        assert caught.value.partial_text == "Hel"


async def test_break_out_of_a_loop_closes(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([ROLE, HELLO[0], Fault.STALL])) as server:
        client = clients(server.url)

        def loop() -> None:
            for _ in client.chat_completion(HI, stream=True):
                break

        if variant.name == "sync":
            await asyncio.to_thread(loop)
        else:
            async for _ in client.chat_completion(HI, stream=True):
                break
        gc.collect()
        assert server.wait_until_running(0)


async def test_close_while_a_reader_waits_for_DONE_ends_its_loop_with_the_answer(
    variant: Variant, clients: Clients
) -> None:
    waits = threading.Event()

    def steps() -> Any:
        yield from (ROLE, *HELLO, FINISH)
        waits.set()
        yield Fault.STALL

    def answer(_: Request) -> Response:
        return Response(steps())

    with ScriptedServer(answer) as server:
        stream = await variant.open_chat(clients(server.url))
        for _ in range(4):
            await variant.next(stream)
        assert await asyncio.to_thread(waits.wait, 60)
        reader = asyncio.create_task(variant.rest(stream))
        while not stream._read_lock.locked():  # it is on its way to the socket
            await asyncio.sleep(0.001)
        await variant.close(stream)
        assert await asyncio.wait_for(reader, 60) == []
        assert server.wait_until_running(0)
        assert (await variant.final(stream)).choices[0].message.content == "Hello"


async def test_a_chat_lives_on_when_its_client_is_gone(variant: Variant) -> None:
    with ScriptedServer(Response(STREAM)) as server:
        stream = await variant.open_chat(variant.client(server.url))
        gc.collect()
        assert (await variant.final(stream)).choices[0].message.content == "Hello"


def test_many_threads_share_one_client() -> None:
    with ScriptedServer(Response(STREAM)) as server, InferenceClient(server.url) as client:
        found: list[str | None] = []

        def ask() -> None:
            found.append(client.chat_completion(HI, stream=True).final().choices[0].message.content)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == ["Hello"] * 8


# --- What is sent ----------------------------------------------------------------------------------------------------


async def test_what_a_chat_sends(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(STREAM)) as server:
        client = clients(server.url, token="hf_t", bill_to="org", headers={"X-A": "1"})
        await variant.final(
            await variant.open_chat(
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
    assert request.headers["authorization"] == "Bearer hf_t"
    assert (request.headers["x-hf-bill-to"], request.headers["x-a"]) == ("org", "2")


async def test_a_generator_of_messages_is_sent_again_with_every_attempt(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([DONE]), Response(STREAM)) as server:
        stream = await variant.open_chat(clients(server.url, retry=QUICK), (message for message in HI * 3))
        await variant.final(stream)
        first, second = server.requests
        assert first.body == second.body
        assert first.json()["messages"] == list(HI * 3)


async def test_a_mistyped_name_and_messages_that_are_none_are_refused_before_anything_is_sent(
    variant: Variant, clients: Clients
) -> None:
    with ScriptedServer(Response(STREAM)) as server:
        client = clients(server.url)
        for ask in (variant.open_chat, variant.chat):
            with pytest.raises(TypeError, match="`max_token`: did you mean `max_tokens`"):
                await ask(client, max_token=5)
            for messages in ("Hi", b"Hi", HI[0]):
                with pytest.raises(TypeError, match="list of messages"):
                    await ask(client, messages)
        assert server.requests == []


# --- Text at /v1 -----------------------------------------------------------------------------------------------------


def piece(text: str, finish_reason: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "text": text, "finish_reason": finish_reason}]})


async def test_text_generation_at_a_server_of_openais_kind(variant: Variant, clients: Clients) -> None:
    whole = {"choices": [{"index": 0, "text": "Hello", "finish_reason": "length"}]}
    with ScriptedServer(Response([piece("Hel"), piece("lo", "length"), USAGE, DONE]), Response.json(whole)) as server:
        client = clients(f"{server.url}/v1")
        stream = await variant.open(client, max_new_tokens=2, model="org/name")
        assert await variant.rest(stream) == ["Hel", "lo"]
        assert await variant.final(stream) == "Hello" == await variant.whole(client, max_new_tokens=2)
        assert stream.usage.total_tokens == 3
        assert stream.finish_reason == "length"
        first, second = server.requests
        assert (first.path, second.path) == ("/v1/completions", "/v1/completions")
        assert first.json() == {
            "model": "org/name", "prompt": "Hi", "stream": True, "max_tokens": 2,
            "stream_options": {"include_usage": True},
        }  # fmt: skip
        assert second.json() == {"prompt": "Hi", "stream": False, "max_tokens": 2}


@pytest.mark.usefixtures("patient_drain")
async def test_ten_texts_at_v1_use_one_connection(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([piece("Hel"), piece("lo", "length"), USAGE, DONE])) as server:
        client = clients(f"{server.url}/v1")
        for _ in range(10):
            assert await variant.rest(await variant.open(client)) == ["Hel", "lo"]
        assert server.connections == 1


async def test_text_at_v1_ends_early_or_not_at_all(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response([piece("Hel")]), Response([DONE])) as server:
        client = clients(f"{server.url}/v1", retry=QUICK)
        stream = await variant.open(client)
        with pytest.raises(IncompleteStreamError) as caught:
            await variant.final(stream)
        assert caught.value.partial_text == "Hel"
        with pytest.raises(IncompleteStreamError, match="without a token"):
            await variant.open(client)
        assert len(server.requests) == 4
