"""Habits of single servers and gateways, as their users reported them; the name of each is beside it.

Where the right value is arguable, it is what the reader of the usual loop wants: the text of a response that is whole,
and an error, with the text so far, for one that is not or may not be.
"""

from __future__ import annotations

from typing import Any

import pytest

from hfstream import (
    BadRequestError,
    IncompleteGenerationError,
    IncompleteStreamError,
    InferenceError,
    OverloadedError,
    ServerError,
    UnexpectedResponseError,
)
from tests.helpers.recordings import DONE, chunk, event
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import ask_chat, fail_chat, read_chat

FORMS = "Responses in other forms"

ELSEWHERE = row(
    FORMS,
    "the text of a chunk in `message` or `text` instead of `delta`; the finish reason as `finishReason`; the whole "
    "message once more with the finish reason (MiniMax, Perplexity); without streaming, `delta` or `text` instead of "
    "`message`",
    "`AttributeError`, or no text",
    "the text, once",
)

HEL, LO, FINISH = chunk(content="Hel"), chunk(content="lo"), chunk("stop")


def only(**choice: Any) -> bytes:
    """A chunk of one choice, with these fields and no others."""
    return event({"choices": [{"index": 0, **choice}]})


WHOLE = {"role": "assistant", "content": "Hello"}
GOOD = {
    # A gateway that wraps a response without streaming into one event.
    "one chunk with the message": [only(message=WHOLE, finish_reason="stop"), DONE],
    "a message each": [only(message={"content": "Hel"}), only(message={"content": "lo"}), only(finish_reason="stop")],
    "a text each": [only(text="Hel"), only(text="lo"), only(text="", finish_reason="stop")],
    "MiniMax: the whole message at last": [HEL, LO, only(message=WHOLE, finish_reason="stop")],
    "Perplexity: the message so far beside the delta": [
        only(delta={"content": "Hel"}, message={"role": "assistant", "content": "Hel"}),
        only(delta={"content": "lo"}, message=WHOLE, finish_reason="stop"),
    ],
    "Gemini's beta: finishReason, and no [DONE]": [
        HEL, only(delta={"content": "lo"}, finish_reason=None, finishReason="stop"),
    ],
}  # fmt: skip


@ELSEWHERE.only(task="chat")
@pytest.mark.parametrize("events", GOOD.values(), ids=GOOD)
async def test_text_elsewhere_is_read_once(variant: Variant, clients: Clients, events: list[bytes]) -> None:
    text, stream = await read_chat(variant, clients, events)
    final = await variant.final(stream)
    assert (text, final.choices[0].message.content, final.choices[0].finish_reason) == ("Hello", "Hello", "stop")


@ELSEWHERE.only(task="chat")
async def test_a_message_that_is_its_text_is_read(variant: Variant, clients: Clients) -> None:
    whole = await ask_chat(variant, clients, {"choices": [{"message": "Hello", "finish_reason": "stop"}]})
    assert whole.choices[0].message.content == "Hello"


@ELSEWHERE.only(task="chat")
@pytest.mark.parametrize(
    "choice",
    [
        {"text": "Hello"},
        {"delta": {"role": "assistant", "content": "Hello"}},
        {"delta": {"content": "Hello"}, "message": None},
        {"delta": "Hello"},
        {"text": "Hello", "delta": {}},
    ],
    ids=["text", "delta", "message is null", "delta is text", "an empty delta"],
)
async def test_a_whole_message_is_found_elsewhere(variant: Variant, clients: Clients, choice: dict[str, Any]) -> None:
    whole = await ask_chat(variant, clients, {"choices": [{"index": 0, **choice, "finish_reason": "stop"}]})
    [found] = whole.choices
    assert (found.message.role, found.message.content, found.finish_reason) == ("assistant", "Hello", "stop")


HARMLESS = row(
    FORMS,
    "what says nothing about the text: `data: null` amid a stream, entries that are null in `choices`, the name "
    '`event: completion`, named pings, `role: ""`, anything but JSON after the finish reason',
    "`AttributeError`, `JSONDecodeError`",
    "passed over",
)

PASSED_OVER = {
    "null": [event("null"), HEL, event("null"), LO, FINISH, DONE],
    "an empty role": [chunk(role="", content=""), HEL, LO, FINISH, DONE],
    "null in choices": [event({"choices": [None, {"delta": {"content": "Hel"}}]}), LO, FINISH, DONE],
    "choices is text": [HEL, event({"choices": "none"}), LO, FINISH, DONE],
    "Azure: the filter's results first": [
        event({"id": "", "object": "", "created": 0, "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}),
        HEL, LO, FINISH, DONE,
    ],
    "a price at last, as text": [HEL, LO, FINISH, event({"choices": [], "cost": "0"}), DONE],
    "llama.cpp: progress and timings": [
        event({"choices": [{"delta": {"content": None}}], "prompt_progress": {"total": 9, "processed": 3}}),
        HEL, event({"choices": [{"delta": {"content": "lo"}}], "timings": {"predicted_n": 2}}), FINISH, DONE,
    ],
    "events with a name": [b"event: completion\n" + each for each in (HEL, LO, FINISH, DONE)],
    "named pings": [b'event: ping\ndata: {"type":"ping"}\n\n', HEL, b"event: ping\ndata: {}\n\n", LO, FINISH, DONE],
    "DONE without brackets": [HEL, LO, FINISH, event("DONE")],
    "words after the finish": [HEL, LO, FINISH, event("bye")],
    "half of an event after the finish": [HEL, LO, FINISH, event('{"choices":[')],
    "a reason that is no reason": [chunk("null", content="Hel"), chunk("null", content="lo"), FINISH],
    "a byte order mark": [b"\xef\xbb\xbf" + HEL, LO, FINISH, DONE],
}  # fmt: skip


@HARMLESS.only(task="chat")
@pytest.mark.parametrize("events", PASSED_OVER.values(), ids=PASSED_OVER)
async def test_what_says_nothing_about_the_text_is_passed_over(
    variant: Variant, clients: Clients, events: list[bytes]
) -> None:
    text, stream = await read_chat(variant, clients, events)
    assert (text, stream.finish_reason) == ("Hello", "stop")


@HARMLESS.only(task="chat")
@pytest.mark.parametrize(
    ("fields", "text"), [(1, "1"), (2.5, "2.5"), (0, "0"), (True, ""), ({"text": "Hel"}, "Hel")], ids=repr
)
async def test_content_that_is_not_text_is_read_as_JSON(
    variant: Variant, clients: Clients, fields: Any, text: str
) -> None:
    """A gateway that parses each token as JSON makes numbers of digits: left out, they would be missing in the text."""
    assert (await read_chat(variant, clients, [HEL, chunk(content=fields), FINISH, DONE]))[0] == f"Hel{text}"


SAID = row(
    FORMS,
    "an error in a gateway's own form: `x_groq.error` (Groq), a finish reason with a message (SGLang), "
    '`MALFORMED_FUNCTION_CALL` (Gemini), `{"code": "Throttling.RateQuota", ...}` (DashScope), '
    '`{"errors": [...], "success": false}` (Cloudflare)',
    "an empty answer, or half of one, as if it were complete",
    "the error, with the server's message; an overload is `OverloadedError`",
)

ERRORS: dict[str, tuple[Any, type[InferenceError], str]] = {
    "LM Studio": ({"error": {"message": "Compute error."}, "message": "Compute error."}, ServerError, "Compute error."),
    "RAGFlow": ({"code": 102, "message": "no such chat", "data": False}, ServerError, "no such chat"),
    "Cloudflare": ({"errors": [{"message": "no model", "code": 5007}], "success": False}, ServerError, "no model"),
    "Databricks": ({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow down"}, OverloadedError, "slow down"),
    "DashScope": ({"code": "Throttling.RateQuota", "message": "slow down"}, OverloadedError, "slow down"),
    "Moonshot": ({"error": {"type": "engine_overloaded_error", "message": "busy"}}, OverloadedError, "busy"),
    "Google": ({"error": {"message": "quota", "status": "RESOURCE_EXHAUSTED"}}, OverloadedError, "quota"),
    "Google, in a list": ([{"error": {"code": 503, "message": "busy"}}], OverloadedError, "busy"),
    "Z.ai": ({"code": 500, "msg": "404 NOT_FOUND", "success": False}, ServerError, "404 NOT_FOUND"),
    "SiliconFlow": ({"code": 20012, "message": "no such model", "data": None}, ServerError, "no such model"),
    "Qianfan": ({"error_code": 17, "error_msg": "daily limit"}, ServerError, "daily limit"),
    "Mistral": (
        {"object": "error", "message": {"detail": [{"loc": ["body", "n"], "msg": "bad"}]}}, ServerError, "body.n: bad",
    ),
    "LiteLLM": ({"error": {"message": "slower", "type": "None", "code": "429"}}, OverloadedError, "slower"),
    "an error that is true": ({"error": True, "message": "no words left"}, ServerError, "no words left"),
    "Groq": (
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "x_groq": {"error": "over capacity"}},
        ServerError, "over capacity",
    ),
    "SGLang": (
        {"choices": [{"delta": {}, "finish_reason": {"type": "abort", "message": "cache full", "status_code": 503}}]},
        OverloadedError, "cache full",
    ),
    "OpenRouter": (
        {"error": {"code": 400, "message": "gone"}, "choices": [{"delta": {"content": ""}, "finish_reason": "error"}]},
        BadRequestError, "gone",
    ),
}  # fmt: skip


@SAID.only(task="chat")
@pytest.mark.parametrize(("payload", "kind", "words"), ERRORS.values(), ids=ERRORS)
async def test_an_error_in_a_gateways_form_is_raised(
    variant: Variant, clients: Clients, payload: Any, kind: type[InferenceError], words: str
) -> None:
    for events, text in (([], ""), ([HEL], "Hel")):
        error = await fail_chat(variant, clients, [*events, event(payload), DONE])
        assert (type(error), error.message, error.partial_text or "") == (kind, words, text)


REASONS = {
    "Gemini": "MALFORMED_FUNCTION_CALL", "Gemini, in lower case": "unexpected_tool_call", "Cohere": "ERROR_LIMIT",
    "Cohere, its time is up": "TIMEOUT", "cancelled": "cancelled",
}  # fmt: skip


@SAID.only(task="chat")
@pytest.mark.parametrize("reason", REASONS.values(), ids=REASONS)
async def test_a_finish_reason_of_a_failure_is_an_error(variant: Variant, clients: Clients, reason: str) -> None:
    """An empty answer would be all that the usual loop shows of them."""
    streamed = await fail_chat(variant, clients, [HEL, chunk(reason), DONE])
    with pytest.raises(IncompleteGenerationError) as caught:
        await ask_chat(variant, clients, {"choices": [{"message": {"content": "Hel"}, "finish_reason": reason}]})
    for error in (streamed, caught.value):
        assert type(error) is IncompleteGenerationError
        assert reason in error.message
        assert error.partial_text == "Hel"


WRONG: dict[str, tuple[Any, type[InferenceError], str]] = {
    "an error beside choices": ({"error": {"message": "boom"}, "choices": [{"message": WHOLE}]}, ServerError, "boom"),
    "Groq": ({"choices": [{"message": WHOLE}], "x_groq": {"error": "over capacity"}}, ServerError, "over capacity"),
    "a mesh": ({"message": "no healthy upstream"}, ServerError, "no healthy upstream"),
    "no choices": ({"choices": []}, UnexpectedResponseError, "not the JSON"),
    "no message": ({"choices": [{"message": None, "finish_reason": "error"}]}, UnexpectedResponseError, "not the JSON"),
    "AWS": ({"Output": {"__type": "UnknownOperationException"}}, UnexpectedResponseError, "UnknownOperation"),
}


@SAID.only(task="chat")
@pytest.mark.parametrize(("payload", "kind", "words"), WRONG.values(), ids=WRONG)
async def test_a_response_that_is_none_is_an_error_without_streaming(
    variant: Variant, clients: Clients, payload: Any, kind: type[InferenceError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        await ask_chat(variant, clients, payload)


@SAID.only(task="chat")
@pytest.mark.parametrize("error", [{}, None, "", False, {"code": 0, "message": ""}], ids=repr)
async def test_an_empty_error_is_none(variant: Variant, clients: Clients, error: Any) -> None:
    whole = await ask_chat(variant, clients, {"error": error, "choices": [{"message": WHOLE}]})
    assert whole.choices[0].message.content == "Hello"
    events = [event({"choices": [{"delta": {"content": text}}], "error": error}) for text in ("Hel", "lo")]
    assert (await read_chat(variant, clients, [*events, FINISH, DONE]))[0] == "Hello"


OTHER_APIS = row(
    FORMS,
    "the stream of another API at a chat's URL: Anthropic's, OpenAI's responses, Cloudflare's, Ollama's own",
    "an empty answer",
    "`UnexpectedResponseError`, which quotes it; not retried",
)

APIS = {
    "Anthropic": [
        b'event: message_start\ndata: {"type":"message_start","message":{"role":"assistant","content":[]}}\n\n',
        b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"Hello"}}\n\n',
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    ],
    "OpenAI's responses": [
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"Hello"}\n\n',
        b'event: response.completed\ndata: {"type":"response.completed"}\n\n',
    ],
    "Cloudflare": [event({"response": "Hello", "p": "abc"}), DONE],
    "Ollama": [event({"model": "m", "message": {"role": "assistant", "content": "Hello"}, "done": False})],
}


@OTHER_APIS.only(task="chat")
@pytest.mark.parametrize("events", APIS.values(), ids=APIS)
async def test_the_stream_of_another_API_is_quoted(variant: Variant, clients: Clients, events: list[bytes]) -> None:
    error = await fail_chat(variant, clients, events)
    assert type(error) is UnexpectedResponseError
    assert "message_start" in error.message or "Hello" in error.message
    assert not error.retryable


UNFINISHED = {
    # A usage is sent with every chunk by some servers: it does not show that the text is whole.
    "only a usage follows": [HEL, event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})],
    "a reason that is no reason": [chunk("null", content="Hel")],
    "a page": [HEL, b"<html><body>502 Bad Gateway</body></html>"],
}


@SAID.only(task="chat")
@pytest.mark.parametrize("events", UNFINISHED.values(), ids=UNFINISHED)
async def test_what_may_be_half_is_incomplete(variant: Variant, clients: Clients, events: list[bytes]) -> None:
    error = await fail_chat(variant, clients, events)
    assert (type(error), error.partial_text) == (IncompleteStreamError, "Hel")
