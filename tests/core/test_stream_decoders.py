"""The decoder of chat streams, from bytes alone: the recorded streams of real servers, divided anywhere, and errors."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfstream.core.stream_decoders import MAX_PRELUDE_SIZE, ChatStreamDecoder
from hfstream.errors import (
    AuthenticationError,
    BadRequestError,
    GenerationError,
    IncompleteGenerationError,
    IncompleteStreamError,
    InferenceError,
    OverloadedError,
    ServerError,
    UnexpectedResponseError,
    ValidationError,
)
from hfstream.testing import chat_event
from hfstream.types import ChatCompletionChunk, ChatCompletionChunkChoice, ChatCompletionDelta
from tests.helpers import decoding
from tests.helpers.recordings import DONE, RECORDINGS, Recording, choice, chunk, event

PRELUDE = chunk(role="assistant", content="")
HELLO = [chunk(content="Hel"), chunk(content="lo")]
FINISH = chunk("stop")
USAGE = event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})


@pytest.fixture(params=list(RECORDINGS.values()), ids=list(RECORDINGS))
def recording(request: pytest.FixtureRequest) -> Recording:
    found: Recording = request.param
    return found


def decode_all(chunks: Iterable[bytes]) -> tuple[list[ChatCompletionChunk], InferenceError | None]:
    return decoding.decode_all(ChatStreamDecoder(), chunks)


def texts(chunks: Iterable[bytes]) -> tuple[list[str | None], InferenceError | None]:
    items, error = decode_all(chunks)
    return [chunk.choices[0].delta.content for chunk in items], error


def failure(*chunks: bytes) -> InferenceError:
    error = decode_all(chunks)[1]
    assert error is not None
    return error


def divisions(raw_body: bytes) -> Iterator[list[bytes]]:
    return decoding.divisions(raw_body, step=1 + len(raw_body) // 400)


# --- What servers send -----------------------------------------------------------------------------------------------


def test_a_recorded_stream_is_read_to_its_end(recording: Recording) -> None:
    items, error = decode_all(recording.events)
    assert error is None
    assert len(items) >= recording.content + recording.held


def test_chunks_with_content_are_counted(recording: Recording) -> None:
    decoder = ChatStreamDecoder()
    items = [decoder.feed(piece) for piece in b"".join(recording.events).splitlines(keepends=True)]
    assert decoder.content_count == recording.content
    assert len(next(filter(None, items))) == recording.held + 1


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("between", [b"", b":\n\n", b": OPENROUTER PROCESSING\n\n"])
def test_a_stream_gives_the_same_items_however_it_is_divided(end: bytes, start: bytes, between: bytes) -> None:
    raw_body = start + between.join(RECORDINGS["OpenAI"].events).replace(b"\n", end)
    complete_stream, error = decode_all(RECORDINGS["OpenAI"].events)
    assert error is None
    for chunks in divisions(raw_body):
        assert decode_all(chunks) == (complete_stream, None)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_any_stream_gives_the_same_items_byte_by_byte(recording: Recording, end: bytes) -> None:
    complete_stream, _ = decode_all(recording.events)
    raw_body = b"".join(recording.events).replace(b"\n", end)
    assert decode_all([raw_body]) == (complete_stream, None)
    assert decode_all(raw_body[position : position + 1] for position in range(len(raw_body))) == (complete_stream, None)
    unspaced = b"".join(recording.events).replace(b"data: ", b"data:")
    assert decode_all([unspaced]) == (complete_stream, None)


@given(st.lists(st.integers(0, 5000), max_size=12), st.sampled_from(sorted(RECORDINGS)))
@settings(deadline=None, max_examples=150)
def test_any_stream_in_any_chunks_gives_the_same_items(positions: list[int], name: str) -> None:
    raw_body = b"".join(RECORDINGS[name].events)
    bounds = [0, *sorted(position % len(raw_body) for position in positions), len(raw_body)]
    assert decode_all(raw_body[a:b] for a, b in itertools.pairwise(bounds)) == (decode_all([raw_body])[0], None)


def test_the_usual_loop_never_raises(recording: Recording) -> None:
    items, error = texts(recording.events)
    assert error is None
    first = recording.whole["choices"][0]["message"].get("content") or ""
    if len(recording.whole["choices"]) == 1:
        assert "".join(text or "" for text in items) == first


def test_chunks_without_choices_get_an_empty_one() -> None:
    for choices in (list[Any](), None):
        items, error = decode_all(
            [*HELLO, FINISH, event({"choices": choices, "usage": {"prompt_tokens": 5}, "x": 1}), DONE]
        )
        assert error is None
        assert (items[-1].choices, len(items[-1].choices)) == ([], 0)
        assert items[-1].choices[0].delta.content == ""
        assert items[-1].choices[0].finish_reason is None
        assert items[-1].usage is not None
        assert items[-1].usage.prompt_tokens == 5
        assert items[-1]["x"] == 1
    items, error = decode_all([*HELLO, FINISH, event({"usage": {"prompt_tokens": 5}}), DONE])
    assert error is None
    assert (items[-1].choices[0].delta.content, items[-1].usage and items[-1].usage.prompt_tokens) == ("", 5)


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": [{"index": 0, "delta": None}]},
        {"choices": [{"index": 0}]},
        {"choices": [{}]},
        {"choices": [{"delta": {}}]},
        {"choices": [{"index": None, "delta": {"content": None}}]},
        {"choices": [{"delta": {"tool_calls": None}}], "usage": None},
        {"choices": [{"delta": {"tool_calls": []}}], "usage": {}},
        {"choices": [{"delta": {"content": ""}, "finish_reason": ""}]},
        {"choices": [{"delta": {"content": "", "reasoning": "", "reasoning_content": None}}]},
        {"choices": [{"delta": {}, "logprobs": {"content": None}}]},
        {"choices": [{"delta": {}, "logprobs": {}}], "error": None},
        {"choices": []},
        {"choices": None, "id": None, "model": None, "created": None, "object": None},
        {"choices": [], "usage": {"prompt_tokens": None, "completion_tokens": 0}},
    ],
)
def test_a_chunk_without_content_is_harmless(odd: dict[str, Any]) -> None:
    decoder = ChatStreamDecoder()
    assert decoder.feed(event(odd)) == []
    assert decoder.content_count == 0
    assert not decoder.complete
    assert len(decoder.feed(HELLO[0])) == 2
    assert len(decoder.feed(event(odd))) == 1
    assert decoder.content_count == 1
    assert texts([event(odd), *HELLO, event(odd), FINISH, event(odd), DONE])[1] is None


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a"},
        {"content": " "},
        {"reasoning": "a"},
        {"reasoning_content": "a"},
        {"refusal": "a"},
        {"tool_calls": [{}]},
        {"tool_calls": [{"index": 0, "function": {"name": "f"}}]},
        {"role": "assistant", "content": "a"},
    ],
)
def test_deltas_that_are_content(delta: dict[str, Any]) -> None:
    decoder = ChatStreamDecoder()
    assert len(decoder.feed(PRELUDE + chunk(**delta))) == 2
    assert decoder.content_count == 1


@pytest.mark.parametrize(
    "reason", ["stop", "length", "tool_calls", "eos_token", "stop_sequence", "content_filter", "x"]
)
def test_a_finish_reason_is_content(reason: str) -> None:
    items, error = decode_all([PRELUDE, chunk(reason), DONE])
    assert error is None
    assert len(items) == 2
    assert items[1].choices[0].finish_reason == reason


def test_the_prelude_is_returned_with_the_first_content_in_order() -> None:
    decoder = ChatStreamDecoder()
    for role in ("a", "b", "c"):
        assert decoder.feed(chunk(role=role)) == []
    items = decoder.feed(HELLO[0] + HELLO[1])
    assert [each.choices[0].delta.role for each in items] == ["a", "b", "c", None, None]
    assert [each.choices[0].delta.content for each in decoder.feed(PRELUDE)] == [""]


def test_the_prelude_has_a_limit_in_bytes() -> None:
    decoder = ChatStreamDecoder()
    count = 0
    while not decoder.done and count < 40:
        assert decoder.feed(chunk(role=f"{count}" + "x" * 2**20)) == []
        count += 1
    assert count == MAX_PRELUDE_SIZE // 2**20
    with pytest.raises(UnexpectedResponseError, match="without any content"):
        decoder.finish()


def test_the_prelude_has_no_limit_in_chunks() -> None:
    """A server that holds back a tool call sends empty chunks for minutes; the same one again adds nothing."""
    decoder = ChatStreamDecoder()
    assert [items for _ in range(20_000) for items in decoder.feed(PRELUDE)] == []
    assert len(decoder.feed(HELLO[0])) == 2
    assert len(ChatStreamDecoder().feed(b"".join(chunk(role=str(role)) for role in range(2_000)) + HELLO[0])) == 2_001


def test_after_the_first_content_nothing_is_kept_back() -> None:
    decoder = ChatStreamDecoder()
    decoder.feed(HELLO[0])
    assert sum(len(decoder.feed(PRELUDE)) for _ in range(2_000)) == 2_000
    assert vars(decoder)["_prelude"] == []


def test_no_choices_are_empty_and_readable() -> None:
    """Both loops of the field's tutorials: one reads the first choice, the other asks first whether there is one."""
    items, error = decode_all([HELLO[0], USAGE, HELLO[1], FINISH, USAGE, DONE])
    assert error is None
    assert "".join(each.choices[0].delta.content or "" for each in items) == "Hello"
    empty = items[1].choices
    assert (empty, list(empty), len(empty), bool(empty), empty[:1], str(empty)) == ([], [], 0, False, [], "[]")
    assert empty[0] == empty[-1] == ChatCompletionChunkChoice(delta=ChatCompletionDelta(content=""))
    assert items[1].model_dump()["choices"] == []
    for copied in (copy.deepcopy(items[1]), pickle.loads(pickle.dumps(items[1]))):
        assert copied == items[1]
        assert copied.choices[0].delta.content == ""


def test_the_text_of_an_unusual_chunk_is_handed_on() -> None:
    odd: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": False}], "created": "2026-01-01"},
        {"choices": [{"index": 0, "delta": {"content": "b"}, "logprobs": []}], "usage": []},
        {"choices": [{"index": 0, "delta": {"content": "c", "tool_calls": [None]}}]},
        {"choices": [{"index": 0, "delta": []}]},
        {"choices": [{"index": 0, "delta": ""}]},
        {"choices": {"index": 0, "delta": {"content": ["d", {"type": "reference", "reference_ids": [1]}]}}},
        {"choices": [{"index": 0, "delta": {"content": "\ud83d"}}], "created": "x"},
    ]
    items, error = texts([*(event(json.dumps(each)) for each in odd), FINISH, DONE])
    assert ("".join(text or "" for text in items), error) == ("abcd\ufffd", None)


# --- How it ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [DONE, b"data:[DONE]\n\n", b"data:  [DONE] \n\n", b"event: done\ndata: [DONE]\n\n"])
@pytest.mark.parametrize("before", [[*HELLO], [*HELLO, FINISH], [*HELLO, FINISH, USAGE], [HELLO[0], PRELUDE]])
def test_DONE_ends_it(done: bytes, before: list[bytes]) -> None:
    decoder = ChatStreamDecoder()
    for piece in before:
        decoder.feed(piece)
    assert not decoder.done
    assert decoder.feed(done + chunk(content="never")) == []
    assert decoder.done
    assert decoder.complete
    assert decoder.finish() == []


@pytest.mark.parametrize("rest", [[], [USAGE], [b":\n\n"], [b'data: {"cho'], [b"data: [DO"], [b"data: [DONE]"]])
def test_after_the_finish_a_stream_is_complete_without_DONE(rest: list[bytes]) -> None:
    decoder = ChatStreamDecoder()
    for piece in [PRELUDE, *HELLO, FINISH, *rest]:
        decoder.feed(piece)
    assert decoder.complete
    assert not decoder.done
    assert decoder.finish() == []


@pytest.mark.parametrize("rest", [[], [b":\n\n"], [b'data: {"cho'], [b"data: [DO"], [PRELUDE], [USAGE]])
def test_before_the_finish_a_stream_is_incomplete_without_DONE(rest: list[bytes]) -> None:
    items, error = texts([PRELUDE, *HELLO, *rest])
    assert items[:3] == ["", "Hel", "lo"]
    assert type(error) is IncompleteStreamError
    assert "after 2 tokens" in error.message


@pytest.mark.parametrize("done", [b"data: [DONE]", b"data:[DONE]\n", b"data: [DONE]\r"])
def test_DONE_needs_no_blank_line(done: bytes) -> None:
    assert decode_all([*HELLO, done])[1] is None
    assert type(failure(done)) is IncompleteStreamError, "of nothing"


@pytest.mark.parametrize("indices", [[1, 1, 1], [1, 2, 3], [0, 1, 1], [1, 0, 2]])
def test_one_choice_may_have_any_index(indices: list[int]) -> None:
    """TGI 1.4 counts the tokens. Without [DONE] the stream is complete because its one choice has finished."""
    chunks = [event({"choices": [choice(index, content=text)]}) for index, text in zip(indices, "ab", strict=False)]
    assert decode_all([*chunks, event({"choices": [choice(indices[-1], "stop")]})])[1] is None
    assert type(failure(*chunks)) is IncompleteStreamError


@pytest.mark.parametrize("delta", [None, {}, {"role": "assistant"}, {"content": None}, {"content": ""}])
@pytest.mark.parametrize("beside", [{"text": "a"}, {"content": "a"}, {"message": "a"}, {"message": {"content": "a"}}])
@pytest.mark.parametrize("reason", [None, "stop"])
def test_text_beside_an_empty_delta_is_read(delta: Any, beside: dict[str, Any], reason: str | None) -> None:
    chunks = [event({"choices": [{"index": 0, "delta": delta, **beside, "finish_reason": reason}]}), DONE]
    assert texts(chunks) == (["a"], None)


@pytest.mark.parametrize("delta", [{"content": ""}, {"content": "b"}, {"reasoning": "b"}])
def test_a_message_so_far_beside_a_delta_is_not_read_again(delta: dict[str, Any]) -> None:
    whole = {"message": {"content": "Hello"}}
    assert texts([*HELLO, event({"choices": [{"delta": delta, **whole}]}), DONE])[0][2:] == [delta.get("content")]


def test_a_message_of_parts_instead_of_a_delta_is_read() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert texts([event({"choices": [{"message": {"content": parts}}]}), DONE]) == (["ab"], None)


@pytest.mark.parametrize("garbage", [b"data: bye\n\n", b'data: {"choices":[{"del\n\n'])
def test_what_cannot_be_read_after_a_finish_is_an_error_if_the_answer_goes_on(garbage: bytes) -> None:
    """A finish reason on every chunk: between two of them it may have been text."""
    every = [chunk("stop", content=text) for text in "ab"]
    assert decode_all([every[0], garbage, DONE])[1] is None
    for more in (every[1], chunk(content="b")):
        items, error = texts([every[0], garbage, more, DONE])
        assert (items, type(error)) == (["a"], UnexpectedResponseError)


def test_content_after_a_finish_means_that_it_was_none() -> None:
    """Some servers send a finish reason with every chunk: a cut stream of theirs must not pass for a whole one."""
    each = [chunk("stop", content=text) for text in "abc"]
    assert type(failure(*each)) is IncompleteStreamError
    assert decode_all([*each, DONE])[1] is None
    assert decode_all([*each, FINISH])[1] is None
    assert decode_all(each[:1])[1] is None, "an answer of one chunk cannot be told from the first of many"
    assert type(failure(chunk("stop"), chunk(content="a"))) is IncompleteStreamError
    assert type(failure(chunk("tool_calls"), chunk(tool_calls=[{"index": 0}]))) is IncompleteStreamError
    assert decode_all([*HELLO, FINISH, chunk(annotations=[{"url": "u"}])])[1] is None, "nothing that was generated"


def test_every_choice_must_finish() -> None:
    both = event({"choices": [choice(0, content="a"), choice(1, content="x")]})
    assert type(failure(both, event({"choices": [choice(0, "stop")]}))) is IncompleteStreamError
    assert type(failure(both, event({"choices": [choice(1, "stop")]}))) is IncompleteStreamError
    assert (
        decode_all([both, event({"choices": [choice(1, "stop")]}), event({"choices": [choice(0, "stop")]})])[1] is None
    )
    assert decode_all([both, event({"choices": [choice(0, "stop"), choice(1, "stop")]})])[1] is None


@pytest.mark.parametrize(
    "late",
    [
        {"choices": [choice(content="")], "usage": {"prompt_tokens": 1}},
        {"choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": {"start_offset": 1}}]},
        {"choices": [choice()]},
    ],
)
def test_a_choice_that_has_finished_stays_finished(late: dict[str, Any]) -> None:
    decoder = ChatStreamDecoder()
    decoder.feed(HELLO[0] + FINISH)
    assert decoder.complete
    assert len(decoder.feed(event(late))) == 1
    assert decoder.complete
    assert decoder.finish() == []


@pytest.mark.parametrize(
    "chunks",
    [
        [], [b""],
        [b":\n\n"] * 3, [DONE], [b"data:[DONE]\n\n"], [PRELUDE], [PRELUDE, DONE], [PRELUDE] * 9 + [USAGE, DONE],
        [b"\xef\xbb\xbf"], [b"data:\n\n"], [b"event: ping\ndata: {}\n\n"], [b"\n\n\n"], [USAGE, DONE], [USAGE],
    ],
)  # fmt: skip
def test_an_empty_stream_raises(chunks: list[bytes]) -> None:
    decoder = ChatStreamDecoder()
    assert [items for piece in chunks for items in decoder.feed(piece)] == []
    assert not decoder.complete
    error = failure(*chunks)
    assert type(error) is IncompleteStreamError
    assert error.retryable
    assert "without a token" in error.message


# --- Errors ----------------------------------------------------------------------------------------------------------

SHAPES: list[tuple[Any, type[InferenceError], str]] = [
    ({"error": {"message": "Model is overloaded", "http_status_code": 422}}, OverloadedError, "Model is overloaded"),
    ({"error": {"message": "Input validation error: x", "http_status_code": 422}}, ValidationError,
     "Input validation error: x"),
    ({"error": {"message": "Request failed during generation: x", "http_status_code": 422}}, GenerationError,
     "Request failed during generation: x"),
    ({"error": "Model is overloaded", "error_type": "overloaded"}, OverloadedError, "Model is overloaded"),
    ({"error": {"message": "slow down", "type": "x", "param": None, "code": "rate_limit_exceeded"}}, OverloadedError,
     "slow down"),
    ({"error": {"message": "bad", "type": "BadRequestError", "param": None, "code": 400}}, BadRequestError, "bad"),
    ({"error": {"message": "key", "type": "x", "param": None, "code": 401}}, AuthenticationError, "key"),
    ({"error": "CUDA error: device-side assert triggered"}, ServerError, "CUDA error: device-side assert triggered"),
    ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, OverloadedError, "Overloaded"),
    ({"object": "error", "message": "boom", "code": 500}, ServerError, "boom"),
    ([{"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}], OverloadedError, "busy"),
    ({"detail": "boom"}, ServerError, "boom"),
    ({"message": "boom"}, ServerError, "boom"),
    # Beside what an answer has.
    ({"id": "gen-1", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
      "error": {"code": 502, "message": "Provider disconnected"}}, ServerError, "Provider disconnected"),
    ({"choices": [], "error": {"code": 429, "message": "no more"}}, OverloadedError, "no more"),
    ({"error": {"message": "boom"}, "usage": {"prompt_tokens": 1}}, ServerError, "boom"),
]  # fmt: skip


@pytest.mark.parametrize(("payload", "kind", "words"), SHAPES)
@pytest.mark.parametrize("name", [b"data: ", b"event: error\ndata: "])
@pytest.mark.parametrize("before", [[], [PRELUDE], [PRELUDE, *HELLO], [PRELUDE, *HELLO, USAGE]])
def test_an_error_is_raised_after_the_items_before_it(
    payload: Any, kind: type[InferenceError], words: str, name: bytes, before: list[bytes]
) -> None:
    raw_body = b"".join(before) + event(payload, name) + DONE
    expected = ["", "Hel", "lo", ""][: len(before)] if len(before) > 1 else []
    for chunks in (
        [raw_body],
        [raw_body[:9], raw_body[9:]],
        [raw_body[position : position + 1] for position in range(len(raw_body))],
    ):
        items, error = texts(chunks)
        assert items == expected
        assert type(error) is kind
        assert error.message == words


@pytest.mark.parametrize(
    ("last", "kind", "words"),
    [
        ({"choices": [{**choice(0, "error"), "error": {"code": 502, "message": "upstream"}}]}, ServerError, "upstream"),
        ({"choices": [{**choice(), "error": "upstream"}]}, ServerError, "upstream"),
        ({"choices": [choice(0, "error")]}, IncompleteGenerationError, "the finish reason 'error'"),
        ({"choices": [choice(0, "network_error")]}, IncompleteGenerationError, "'network_error'"),
        ({"choices": [choice(0, "abort")]}, IncompleteGenerationError, "'abort'"),
        ({"choices": [choice(0, "abort"), choice(1, "stop")]}, IncompleteGenerationError, "'abort'"),
        ({"choices": [choice(0, "stop")], "base_resp": {"status_code": 1027, "status_msg": "w"}}, BadRequestError, "w"),
        ({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "no money"}}, BadRequestError, "no money"),
        ({"choices": [choice(0, "stop")], "error_type": "generation", "error": "w"}, GenerationError, "w"),
    ],
)
@pytest.mark.parametrize("content", [None, "!"])
def test_an_error_beside_a_choice_is_raised_after_its_text(
    last: dict[str, Any], kind: type[InferenceError], words: str, content: str | None
) -> None:
    last = copy.deepcopy(last)
    for found in (last["choices"] or [])[:1]:
        found["delta"]["content"] = content
    for before in ([], [PRELUDE], [PRELUDE, *HELLO]):
        items, error = texts([*before, event(last), DONE])
        text = ("Hello" if len(before) > 1 else "") + (content or "" if last["choices"] else "")
        assert "".join(each or "" for each in items) == text
        assert type(error) is kind
        assert words in error.message


def test_an_error_after_the_finish_is_still_an_error() -> None:
    items, error = texts([*HELLO, FINISH, event({"error": "lost"}), DONE])
    assert len(items) == 3
    assert type(error) is ServerError


@pytest.mark.parametrize("payload", ["", " ", "{}", "ping", '{"type": "ping"}', "not json", "[1]"])
@pytest.mark.parametrize("name", [b"ping", b"keep-alive"])
def test_events_with_other_names_are_ignored(payload: str, name: bytes) -> None:
    other = event(payload, b"event: " + name + b"\ndata: ")
    assert texts([other, HELLO[0], other, HELLO[1], FINISH, other, DONE, other]) == (["Hel", "lo", None], None)


@pytest.mark.parametrize(
    "payload",
    [
        "nonsense", "{", '"text"', "[DONE", "<html>", "[" * 5000, '{"response": "a"}', '{"type": "x", "delta": "a"}',
        '{"message": {"role": "assistant", "content": "a"}, "done": false}',
        '{"token":{"id":1,"text":"a","logprob":null,"special":false},"generated_text":null,"details":null}',
    ],
)  # fmt: skip
def test_an_unexpected_event_is_quoted(payload: str) -> None:
    items, error = texts([*HELLO, event(payload)])
    assert items == ["Hel", "lo"]
    assert type(error) is UnexpectedResponseError
    assert payload.strip('{} "')[:10] in error.message


@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_a_JSON_error_with_the_content_type_of_a_stream_is_that_error(cut: int) -> None:
    body = b'{\n  "error": {"message": "Model is overloaded", "type": "x"}\n}\n\n'
    error = failure(*(body[position : position + cut] for position in range(0, len(body), cut)))
    assert type(error) is OverloadedError


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"a\xffb", "a\ufffdb"), (b"\xe2\x82", "\ufffd"), (b"\\ud83d", "\ufffd"), (b"\\ude00 \\ud83d\\ude00", "\ufffd 😀"),
     (b"\\\\ud83d\\ud83d", "\\ud83d\ufffd"), (b"\xff\\ud83d", "\ufffd\ufffd")],
)  # fmt: skip
def test_text_that_is_not_Unicode_is_replaced(raw: bytes, text: str) -> None:
    broken = chunk(content="@").replace(b"@", raw)
    for chunks in divisions(broken + FINISH + DONE):
        assert texts(chunks) == ([text, None], None)


def test_an_early_end_raises_wherever_the_body_ends() -> None:
    raw_body = chat_event("", role="assistant") + chat_event("Hi")[:-9]
    for cut in range(len(raw_body) + 1):
        decoder = ChatStreamDecoder()
        decoder.feed(raw_body[:cut])
        decoder.feed(raw_body[cut:])
        with pytest.raises(IncompleteStreamError):
            decoder.finish()
