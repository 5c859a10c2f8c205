"""Habits of single servers and gateways, as their users reported them; the name of each is beside it.

Where the right value is arguable, it is what the reader of the usual loop wants: the text of a response that is whole,
and an error, with the text so far, for one that is not or may not be.
"""

from __future__ import annotations

from typing import Any

import pytest

from hfstream import (
    IncompleteGenerationError,
    IncompleteStreamError,
    InferenceError,
    ServerError,
    UnexpectedResponseError,
)
from hfstream.testing import UnusualResponse
from hfstream.testing.unusual.failures import ERRORS
from hfstream.testing.unusual.failures import OTHER_APIS as UNUSUAL_APIS
from hfstream.testing.unusual.forms import TEXT_ELSEWHERE
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


WHOLE = {"role": "assistant", "content": "Hello"}
GOOD = {name: unusual for name, unusual in TEXT_ELSEWHERE.items() if unusual.stream}


@ELSEWHERE.only(task="chat")
@pytest.mark.parametrize("unusual", GOOD.values(), ids=GOOD)
async def test_text_elsewhere_is_read_once(variant: Variant, clients: Clients, unusual: UnusualResponse) -> None:
    text, stream = await read_chat(variant, clients, unusual.response.body)
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


@SAID.only(task="chat")
@pytest.mark.parametrize("unusual", ERRORS.values(), ids=ERRORS)
async def test_an_error_in_a_gateways_form_is_raised(
    variant: Variant, clients: Clients, unusual: UnusualResponse
) -> None:
    text, *events = unusual.response.body
    for start, partial in (([], ""), ([text], "Hel")):
        error = await fail_chat(variant, clients, [*start, *events])
        assert (type(error), error.message, error.partial_text or "") == (unusual.error, unusual.message, partial)


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


@OTHER_APIS.only(task="chat")
@pytest.mark.parametrize("unusual", UNUSUAL_APIS.values(), ids=UNUSUAL_APIS)
async def test_the_stream_of_another_API_is_quoted(
    variant: Variant, clients: Clients, unusual: UnusualResponse
) -> None:
    error = await fail_chat(variant, clients, unusual.response.body)
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
