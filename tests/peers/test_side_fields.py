"""Fields of an event that are not the text, in a form that is not documented; and events that have no text."""

from __future__ import annotations

from typing import Any

import pytest

from hfstream.testing import Response, ScriptedServer, chat_events
from tests.helpers.recordings import DONE, choice, chunk, event
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import WORDS, Task, ask_chat, read_chat

FORMS = "Responses in other forms"

ODD_FIELDS = row(
    FORMS,
    "a field beside the text that is not as documented: `created` is a date, `usage` or `logprobs` is `[]`, "
    '`finish_reason` is `false`, `tool_calls` is `[null]`, `delta` is `[]` or `""`',
    "read, but an empty `delta` in another form is an `AttributeError`",
    "the text; the field is left out",
)

ODD_CHUNKS: dict[str, dict[str, Any]] = {
    "created is a date": {"created": "2026-01-01T00:00:00Z"},
    "created is a fraction": {"created": 1741569952.25},
    "usage is a list": {"usage": []},
    "usage is text": {"usage": "n/a"},
    "model is null": {"model": None, "id": None, "object": None, "created": None},
    "id is a number": {"id": 7, "system_fingerprint": 12},
}
ODD_CHOICES: dict[str, dict[str, Any]] = {
    "logprobs is a list": {"logprobs": []},
    "logprobs is a number": {"logprobs": -0.5},
    "finish_reason is false": {"finish_reason": False},
    "finish_reason is 0": {"finish_reason": 0},
    "index is text": {"index": "0"},
    "index is missing": {"index": None},
    "stop_reason is a number": {"stop_reason": 128009},
}
ODD_DELTAS: dict[str, Any] = {
    "tool_calls is [null]": {"content": "Hello", "tool_calls": [None]},
    "role is a list": {"content": "Hello", "role": []},
    "reasoning is an object": {"content": "Hello", "reasoning": {}},
    "annotations is null": {"content": "Hello", "annotations": None, "audio": None, "function_call": None},
}


def hello(**fields: Any) -> dict[str, Any]:
    """A choice with a text."""
    return {"index": 0, "delta": {"content": "Hello"}, "finish_reason": None, **fields}


ODD = {
    **{name: {"choices": [hello()], **fields} for name, fields in ODD_CHUNKS.items()},
    **{name: {"choices": [hello(**fields)]} for name, fields in ODD_CHOICES.items()},
    **{name: {"choices": [hello(delta=delta)]} for name, delta in ODD_DELTAS.items()},
}


@ODD_FIELDS.only(task="chat")
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_an_odd_field_does_not_end_a_stream(variant: Variant, clients: Clients, odd: dict[str, Any]) -> None:
    text, stream = await read_chat(variant, clients, [event(odd), chunk(content=" you"), chunk("stop"), DONE])
    assert text == "Hello you"
    message = (await variant.final(stream)).choices[0].message
    assert (message.role, message.content, message.tool_calls) == ("assistant", "Hello you", None)
    assert stream.finish_reason == "stop"


@ODD_FIELDS.only(task="chat")
@pytest.mark.parametrize("delta", [[], "", None, False, 0], ids=repr)
async def test_an_empty_delta_has_many_forms(variant: Variant, clients: Clients, delta: Any) -> None:
    empty = event({"choices": [{"index": 0, "delta": delta}]})
    text, _ = await read_chat(variant, clients, [empty, chunk(content="Hello"), empty, chunk("stop"), empty, DONE])
    assert text == "Hello"


@ODD_FIELDS.only(task="text")
@pytest.mark.parametrize(
    "odd",
    [
        {"token": {"id": "7", "logprob": "n/a", "special": None}},
        {"token": {"id": None, "logprob": None}, "index": "first"},
        {"token": {}, "top_tokens": {}, "details": []},
    ],
    ids=["text for numbers", "nulls", "other kinds"],
)
async def test_an_odd_field_of_a_token_does_not_end_a_stream(
    variant: Variant, clients: Clients, odd: dict[str, Any]
) -> None:
    task = Task("text")
    odd = {**odd, "token": {"text": "Hello", **odd["token"]}}
    with ScriptedServer(Response([event(odd), *task.whole(" you")])) as server:
        stream = await task.open(variant, clients(server.url, retry=None))
        assert await variant.rest(stream) == ["Hello", " you"]


@ODD_FIELDS.only(task="chat")
@pytest.mark.parametrize(
    "odd",
    [{"created": "2026-01-01", "usage": [], "id": 7}, {"created": None, "model": None, "usage": "n/a"}],
    ids=["other kinds", "nulls"],
)
async def test_an_odd_field_does_not_end_a_response_without_streaming(
    variant: Variant, clients: Clients, odd: dict[str, Any]
) -> None:
    message = {"role": "assistant", "content": "Hello", "tool_calls": [None], "annotations": None}
    choices = [{"index": "0", "message": message, "logprobs": [], "finish_reason": False}]
    whole = await ask_chat(variant, clients, {**odd, "choices": choices})
    assert whole.choices[0].message.content == "Hello"
    assert (whole.usage, whole.choices[0].finish_reason, whole.choices[0].logprobs) == (None, None, None)


WITHOUT_TEXT = row(
    FORMS,
    'an event without `choices` amid a stream: `{}`, `{"type": "ping"}`, `{"cost": 0.1}`, `{"citations": [...]}`, '
    '`{"message": "queued"}`',
    "`TypeError` or `IndexError` in a loop that does not check `chunk.choices`",
    "passed over; what says something about the answer is a field of the final result",
)

PASSED_OVER: dict[str, Any] = {
    "nothing": {},
    "ping": {"type": "ping"},
    "cost": {"cost": 0.1},
    "citations": {"citations": ["https://example.org"]},
    "queued": {"message": "queued"},
    "queue position": {"message": "queued", "status": "queued", "position": 3},
    "progress": {"event": "progress", "progress": 0.5},
    "a number": 0,
    "an empty string": "",
    "null": None,
    "an empty list": [],
}


@WITHOUT_TEXT
@pytest.mark.parametrize("payload", PASSED_OVER.values(), ids=PASSED_OVER)
async def test_an_event_without_text_is_passed_over(
    variant: Variant, clients: Clients, task: Task, payload: Any
) -> None:
    first, *rest = task.whole(*WORDS)
    odd = event(payload if not isinstance(payload, str) else '""')
    with ScriptedServer(Response([odd, first, odd, *rest[:-1], odd, rest[-1]])) as server:
        stream = await task.open(variant, clients(server.url, retry=None))
        assert task.texts(await variant.rest(stream)) == WORDS
        assert stream.text == "".join(WORDS)


@WITHOUT_TEXT.only(task="chat")
async def test_what_comes_without_a_choice_is_a_field_of_the_result(variant: Variant, clients: Clients) -> None:
    *events, done = chat_events(*WORDS)
    facts = [event({"citations": ["https://example.org"]}), *events, event({"cost": 0.1}), done]
    _, stream = await read_chat(variant, clients, facts)
    final = await variant.final(stream)
    assert (final["citations"], final["cost"]) == (["https://example.org"], 0.1)


PADDING = row(
    FORMS,
    "`obfuscation`, random characters on every chunk that hide how long a token is (OpenAI)",
    "kept with each chunk",
    "kept with each chunk, and no field of the final result",
)


@PADDING.only(task="chat")
async def test_padding_is_no_field_of_the_result(variant: Variant, clients: Clients) -> None:
    events = [event({"choices": [choice(content=word)], "obfuscation": "x7f"}) for word in WORDS]
    text, stream = await read_chat(variant, clients, [*events, chunk("stop"), DONE])
    assert text == "".join(WORDS)
    assert "obfuscation" not in await variant.final(stream)


REFUSALS = row(
    FORMS,
    '`logprobs: {"content": null, "refusal": [...]}`',
    "kept with each chunk",
    "the final result has them all",
)


@REFUSALS.only(task="chat")
async def test_log_probabilities_of_a_refusal_are_kept(variant: Variant, clients: Clients) -> None:
    def refusal(token: str) -> bytes:
        tokens = [{"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []}]
        return event({"choices": [{**choice(refusal=token), "logprobs": {"content": None, "refusal": tokens}}]})

    _, stream = await read_chat(variant, clients, [refusal("I"), refusal(" can't"), chunk("stop"), DONE])
    final = (await variant.final(stream)).choices[0]
    assert [entry.token for entry in final.logprobs.refusal] == ["I", " can't"]
    assert final.message.refusal == "I can't"
