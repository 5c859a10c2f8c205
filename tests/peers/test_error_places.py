"""Errors that a server reports beside an answer, within it, or outside of the stream's events."""

from __future__ import annotations

from typing import Any

import pytest

from hfstream import (
    AuthenticationError,
    BadRequestError,
    IncompleteGenerationError,
    InferenceError,
    OverloadedError,
    ServerError,
)
from hfstream.testing import Response, ScriptedServer, Step
from tests.helpers.recordings import DONE, choice, chunk, event
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import AGAIN, Task, ask_chat, fail_chat, read_chat

FORMS = "Responses in other forms"

IN_A_CHOICE = row(
    FORMS,
    'an error in the choice: `{"finish_reason": "error", "error": {"code": 502, "message": "upstream"}}` (OpenRouter), '
    'in its `delta` or `message`, or only a finish reason `"error"`, `"network_error"`, `"abort"`',
    "half an answer, or an empty one, as if it were complete",
    "the error, with the text so far",
)

CHOICES: dict[str, tuple[dict[str, Any], type[InferenceError], int, str]] = {
    "OpenRouter's": (
        {"finish_reason": "error", "error": {"code": 502, "message": "upstream"}}, ServerError, 502, "upstream",
    ),
    "an overload": (
        {"finish_reason": None, "error": {"code": 429, "message": "slower"}}, OverloadedError, 429, "slower",
    ),
    "error": ({"finish_reason": "error"}, IncompleteGenerationError, 500, "finish reason 'error'"),
    "network_error": ({"finish_reason": "network_error"}, IncompleteGenerationError, 502, "'network_error'"),
    "abort": ({"finish_reason": "abort"}, IncompleteGenerationError, 500, "'abort'"),
    "no resources": ({"finish_reason": "insufficient_system_resource"}, OverloadedError, 503, "insufficient"),
}  # fmt: skip


@IN_A_CHOICE.only(task="chat")
@pytest.mark.parametrize(("fields", "kind", "status", "words"), CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize("text", ["", "Hello"], ids=["first", "later"])
async def test_an_error_in_a_choice_is_raised(
    variant: Variant,
    clients: Clients,
    fields: dict[str, Any],
    kind: type[InferenceError],
    status: int,
    words: str,
    text: str,
) -> None:
    events = [chunk(content=text)] if text else []
    failed = {"index": 0, "delta": {"content": ""}, **fields}
    streamed = await fail_chat(variant, clients, [*events, event({"choices": [failed]}), DONE])
    with pytest.raises(InferenceError) as caught:
        await ask_chat(variant, clients, {"choices": [{"message": {"content": text}, **fields}]})
    for error in (streamed, caught.value):
        assert (type(error), error.status_code, error.partial_text or "") == (kind, status, text)
        assert words in error.message


@IN_A_CHOICE.only(task="chat")
@pytest.mark.parametrize("reason", [None, "stop"])
@pytest.mark.parametrize("text", ["", "Hello"], ids=["first", "later"])
async def test_an_error_in_a_delta_is_raised(variant: Variant, clients: Clients, reason: str | None, text: str) -> None:
    failed = {"content": "", "error": {"code": 429, "message": "slower"}}
    events = [chunk(content=text)] if text else []
    streamed = await fail_chat(variant, clients, [*events, event({"choices": [choice(0, reason, **failed)]}), DONE])
    with pytest.raises(InferenceError) as caught:
        await ask_chat(variant, clients, {"choices": [{"message": {**failed, "content": text}}]})
    for error in (streamed, caught.value):
        assert (type(error), error.message, error.partial_text or "") == (OverloadedError, "slower", text)


@IN_A_CHOICE.only(task="chat")
async def test_an_error_in_a_delta_that_is_empty_is_none(variant: Variant, clients: Clients) -> None:
    events = [chunk(content="Hello", error=None), chunk("stop", error={}), DONE]
    text, _ = await read_chat(variant, clients, events)
    assert text == "Hello"


OUTSIDE = row(
    FORMS,
    "an error outside of an event: a field `error:` (llama.cpp until late 2025), or JSON without `data:` after a "
    "comment, a role or a token",
    "an empty answer, or half of one, as if it were complete",
    "the error with the server's message, and with the text so far",
)

WORDS_OF = '{"error":{"code":400,"message":"the prompt is too long"}}'
UNFRAMED: dict[str, list[Step]] = {
    "a field": [b'error: {"code":400,"message":"the prompt is too long"}\n\n'],
    "a field without an end": [b'error: {"code":400,"message":"the prompt is too long"}'],
    "JSON": [WORDS_OF.encode()],
    "JSON in a line": [WORDS_OF.encode() + b"\n\n"],
    "JSON in two parts": [WORDS_OF[:20].encode(), WORDS_OF[20:].encode()],
    "JSON after a comment": [b": ping\n\n", WORDS_OF.encode()],
    "an event without an end": [b"data: " + WORDS_OF.encode()],
}


@OUTSIDE
@pytest.mark.parametrize("error", UNFRAMED.values(), ids=UNFRAMED)
async def test_an_error_outside_of_an_event_is_raised(
    variant: Variant, clients: Clients, task: Task, error: list[Step]
) -> None:
    with ScriptedServer(Response(error), Response([task.event("Hello"), *error])) as server:
        client = clients(server.url, retry=None)
        for text in ("", "Hello"):
            with pytest.raises(BadRequestError, match=r"^the prompt is too long$") as caught:
                await variant.rest(await task.open(variant, client))
            assert caught.value.partial_text == text


@OUTSIDE.only(task="chat")
async def test_an_error_without_data_after_the_role_is_raised(variant: Variant, clients: Clients) -> None:
    error = await fail_chat(variant, clients, [chunk(role="assistant", content=""), WORDS_OF.encode()])
    assert (type(error), error.message) == (BadRequestError, "the prompt is too long")


BASE_RESP = row(
    FORMS,
    '`{"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}, "choices": null}` (MiniMax)',
    "an empty answer, or `TypeError`",
    "the error with the server's message, not retried",
)


@BASE_RESP.only(task="chat")
@pytest.mark.parametrize(
    ("code", "kind"),
    [(1008, BadRequestError), (1004, AuthenticationError), (2013, BadRequestError), (1026, BadRequestError)],
)
async def test_a_failing_status_in_base_resp_is_raised(
    variant: Variant, clients: Clients, code: int, kind: type[InferenceError]
) -> None:
    failed = {"base_resp": {"status_code": code, "status_msg": "insufficient balance"}, "choices": None}
    with ScriptedServer(Response([event(failed)]), Response.json(failed)) as server:
        client = clients(server.url, retry=AGAIN)
        for ask in (variant.open_chat, variant.chat):
            with pytest.raises(kind, match=r"^insufficient balance$"):
                await ask(client)
        assert len(server.requests) == 2


@BASE_RESP.only(task="chat")
async def test_a_base_resp_of_success_is_no_error(variant: Variant, clients: Clients) -> None:
    fine = {"base_resp": {"status_code": 0, "status_msg": ""}}
    events = [event({"choices": [choice(content="Hello")], **fine}), event({"choices": [choice(0, "stop")], **fine})]
    with ScriptedServer(Response([*events, event(fine), DONE])) as server:
        stream = await variant.open_chat(clients(server.url, retry=None))
        assert (await variant.final(stream)).choices[0].message.content == "Hello"
