"""How a chat's stream is read, from its bytes alone: what real servers send, however it is cut, and what is none."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfstream.core.stream_decoders import MAX_PRELUDE, ChatStreamDecoder
from hfstream.errors import (
    AuthenticationError,
    BadRequestError,
    GenerationError,
    IncompleteStreamError,
    InferenceError,
    OverloadedError,
    ServerError,
    UnexpectedResponseError,
    ValidationError,
)
from hfstream.testing import chat_event
from hfstream.types import ChatCompletionChunk
from tests.helpers.recordings import DONE, RECORDINGS, Recording, choice, chunk, event

HELD = chunk(role="assistant", content="")
HELLO = [chunk(content="Hel"), chunk(content="lo")]
FINISH = chunk("stop")
USAGE = event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})


@pytest.fixture(params=list(RECORDINGS.values()), ids=list(RECORDINGS))
def recording(request: pytest.FixtureRequest) -> Recording:
    found: Recording = request.param
    return found


def hear(pieces: Iterable[bytes]) -> tuple[list[ChatCompletionChunk], InferenceError | None]:
    """What is said in a body, and the error that it ends with: as a driver reads it."""
    reply = ChatStreamDecoder()
    said: list[ChatCompletionChunk] = []
    try:
        for piece in pieces:
            said += reply.feed(piece)
            if reply.done:
                break
        said += reply.finish()
    except InferenceError as error:
        return said, error
    return said, None


def texts(pieces: Iterable[bytes]) -> tuple[list[str | None], InferenceError | None]:
    said, error = hear(pieces)
    return [chunk.choices[0].delta.content for chunk in said], error


def failure(*pieces: bytes) -> InferenceError:
    error = hear(pieces)[1]
    assert error is not None
    return error


def cuts(wire: bytes) -> Iterator[list[bytes]]:
    yield [wire]
    yield [wire[place : place + 1] for place in range(len(wire))]
    for place in range(1, len(wire), 1 + len(wire) // 400):
        yield [wire[:place], wire[place:]]


# --- What servers send -----------------------------------------------------------------------------------------------


def test_a_recorded_stream_is_read_to_its_end(recording: Recording) -> None:
    said, error = hear(recording.events)
    assert error is None
    assert len(said) >= recording.content + recording.held


def test_content_is_what_counts(recording: Recording) -> None:
    reply = ChatStreamDecoder()
    said = [reply.feed(piece) for piece in b"".join(recording.events).splitlines(keepends=True)]
    assert reply.content_count == recording.content
    assert len(next(filter(None, said))) == recording.held + 1


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("between", [b"", b":\n\n", b": OPENROUTER PROCESSING\n\n"])
def test_a_stream_says_the_same_however_it_is_cut(end: bytes, start: bytes, between: bytes) -> None:
    wire = start + between.join(RECORDINGS["OpenAI"].events).replace(b"\n", end)
    whole, error = hear(RECORDINGS["OpenAI"].events)
    assert error is None
    for pieces in cuts(wire):
        assert hear(pieces) == (whole, None)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_any_stream_reads_the_same_byte_by_byte(recording: Recording, end: bytes) -> None:
    whole, _ = hear(recording.events)
    wire = b"".join(recording.events).replace(b"\n", end)
    assert hear([wire]) == (whole, None)
    assert hear(wire[place : place + 1] for place in range(len(wire))) == (whole, None)
    unspaced = b"".join(recording.events).replace(b"data: ", b"data:")
    assert hear([unspaced]) == (whole, None)


@given(st.lists(st.integers(0, 5000), max_size=12), st.sampled_from(sorted(RECORDINGS)))
@settings(deadline=None, max_examples=150)
def test_any_stream_in_any_pieces_says_the_same(places: list[int], name: str) -> None:
    wire = b"".join(RECORDINGS[name].events)
    bounds = [0, *sorted(place % len(wire) for place in places), len(wire)]
    assert hear(wire[a:b] for a, b in itertools.pairwise(bounds)) == (hear([wire])[0], None)


def test_the_loop_of_every_tutorial_never_raises(recording: Recording) -> None:
    said, error = texts(recording.events)
    assert error is None
    first = recording.whole["choices"][0]["message"].get("content") or ""
    if len(recording.whole["choices"]) == 1:
        assert "".join(text or "" for text in said) == first


def test_chunks_without_choices_get_one_that_says_nothing() -> None:
    for choices in (list[Any](), None):
        said, error = hear([*HELLO, FINISH, event({"choices": choices, "usage": {"prompt_tokens": 5}, "x": 1}), DONE])
        assert error is None
        assert said[-1].choices[0].delta.content is None
        assert said[-1].choices[0].finish_reason is None
        assert said[-1].usage is not None
        assert said[-1].usage.prompt_tokens == 5
        assert said[-1]["x"] == 1
    said, error = hear([*HELLO, FINISH, event({"usage": {"prompt_tokens": 5}}), DONE])
    assert error is None
    assert (said[-1].choices[0].delta.content, said[-1].usage and said[-1].usage.prompt_tokens) == (None, 5)


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
def test_a_chunk_that_says_nothing_is_no_content_and_does_no_harm(odd: dict[str, Any]) -> None:
    reply = ChatStreamDecoder()
    assert reply.feed(event(odd)) == []
    assert reply.content_count == 0
    assert not reply.complete
    assert len(reply.feed(HELLO[0])) == 2
    assert len(reply.feed(event(odd))) == 1
    assert reply.content_count == 1
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
def test_what_content_is(delta: dict[str, Any]) -> None:
    reply = ChatStreamDecoder()
    assert len(reply.feed(HELD + chunk(**delta))) == 2
    assert reply.content_count == 1


@pytest.mark.parametrize(
    "reason", ["stop", "length", "tool_calls", "eos_token", "stop_sequence", "content_filter", "x"]
)
def test_a_finish_reason_is_content_too(reason: str) -> None:
    said, error = hear([HELD, chunk(reason), DONE])
    assert error is None
    assert len(said) == 2
    assert said[1].choices[0].finish_reason == reason


def test_what_is_held_is_handed_over_with_the_first_content_in_its_order() -> None:
    reply = ChatStreamDecoder()
    for role in ("a", "b", "c"):
        assert reply.feed(chunk(role=role)) == []
    said = reply.feed(HELLO[0] + HELLO[1])
    assert [each.choices[0].delta.role for each in said] == ["a", "b", "c", None, None]
    assert [each.choices[0].delta.content for each in reply.feed(HELD)] == [""]


def test_what_is_held_has_a_bound() -> None:
    reply = ChatStreamDecoder()
    count = 0
    while not reply.done and count < 5 * MAX_PRELUDE:
        assert reply.feed(HELD) == []
        count += 1
    assert count == MAX_PRELUDE + 1
    with pytest.raises(UnexpectedResponseError, match="without any content"):
        reply.finish()
    assert len(ChatStreamDecoder().feed(HELD * MAX_PRELUDE + HELLO[0])) == MAX_PRELUDE + 1


def test_nothing_is_held_once_there_was_content() -> None:
    reply = ChatStreamDecoder()
    reply.feed(HELLO[0])
    assert sum(len(reply.feed(HELD)) for _ in range(2 * MAX_PRELUDE)) == 2 * MAX_PRELUDE
    assert vars(reply)["_prelude"] == []


# --- How it ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [DONE, b"data:[DONE]\n\n", b"data:  [DONE] \n\n", b"event: done\ndata: [DONE]\n\n"])
@pytest.mark.parametrize("before", [[*HELLO], [*HELLO, FINISH], [*HELLO, FINISH, USAGE], [HELLO[0], HELD]])
def test_DONE_ends_it(done: bytes, before: list[bytes]) -> None:
    reply = ChatStreamDecoder()
    for piece in before:
        reply.feed(piece)
    assert not reply.done
    assert reply.feed(done + chunk(content="never")) == []
    assert reply.done
    assert reply.complete
    assert reply.finish() == []


@pytest.mark.parametrize("rest", [[], [USAGE], [b":\n\n"], [b'data: {"cho'], [b"data: [DO"], [b"data: [DONE]"]])
def test_after_the_finish_a_stream_is_whole_without_DONE(rest: list[bytes]) -> None:
    reply = ChatStreamDecoder()
    for piece in [HELD, *HELLO, FINISH, *rest]:
        reply.feed(piece)
    assert reply.complete
    assert not reply.done
    assert reply.finish() == []


@pytest.mark.parametrize("rest", [[], [b":\n\n"], [b'data: {"cho'], [b"data: [DO"], [b"data: [DONE]"], [HELD], [USAGE]])
def test_before_the_finish_an_end_is_none(rest: list[bytes]) -> None:
    said, error = texts([HELD, *HELLO, *rest])
    assert said[:3] == ["", "Hel", "lo"]
    assert type(error) is IncompleteStreamError
    assert "after 2 tokens" in error.message


def test_every_answer_has_to_finish() -> None:
    both = event({"choices": [choice(0, content="a"), choice(1, content="x")]})
    assert type(failure(both, event({"choices": [choice(0, "stop")]}))) is IncompleteStreamError
    assert type(failure(both, event({"choices": [choice(1, "stop")]}))) is IncompleteStreamError
    assert hear([both, event({"choices": [choice(1, "stop")]}), event({"choices": [choice(0, "stop")]})])[1] is None
    assert hear([both, event({"choices": [choice(0, "stop"), choice(1, "stop")]})])[1] is None


@pytest.mark.parametrize(
    "late",
    [
        {"choices": [choice(content="")], "usage": {"prompt_tokens": 1}},
        {"choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": {"start_offset": 1}}]},
        {"choices": [choice()]},
    ],
)
def test_a_choice_that_has_finished_stays_finished(late: dict[str, Any]) -> None:
    reply = ChatStreamDecoder()
    reply.feed(HELLO[0] + FINISH)
    assert reply.complete
    assert len(reply.feed(event(late))) == 1
    assert reply.complete
    assert reply.finish() == []


@pytest.mark.parametrize(
    "pieces",
    [
        [], [b""], [b":\n\n"] * 3, [DONE], [b"data:[DONE]\n\n"], [HELD], [HELD, DONE], [HELD] * 9 + [USAGE, DONE],
        [b"\xef\xbb\xbf"], [b"data:\n\n"], [b"event: ping\ndata: {}\n\n"], [b"\n\n\n"], [USAGE, DONE], [USAGE],
    ],
)  # fmt: skip
def test_an_empty_stream_is_told(pieces: list[bytes]) -> None:
    reply = ChatStreamDecoder()
    assert [said for piece in pieces for said in reply.feed(piece)] == []
    assert not reply.complete
    error = failure(*pieces)
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
@pytest.mark.parametrize("before", [[], [HELD], [HELD, *HELLO], [HELD, *HELLO, USAGE]])
def test_an_error_comes_after_what_was_said(
    payload: Any, kind: type[InferenceError], words: str, name: bytes, before: list[bytes]
) -> None:
    wire = b"".join(before) + event(payload, name) + DONE
    spoken = ["", "Hel", "lo", None][: len(before)] if len(before) > 1 else []
    for pieces in ([wire], [wire[:9], wire[9:]], [wire[place : place + 1] for place in range(len(wire))]):
        said, error = texts(pieces)
        assert said == spoken
        assert type(error) is kind
        assert error.message == words


def test_an_error_after_the_finish_is_still_an_error() -> None:
    said, error = texts([*HELLO, FINISH, event({"error": "lost"}), DONE])
    assert len(said) == 3
    assert type(error) is ServerError


@pytest.mark.parametrize("payload", ["", " ", "{}", "ping", '{"type": "ping"}', "not json", "[1]"])
@pytest.mark.parametrize("name", [b"ping", b"keep-alive"])
def test_events_of_other_names_do_not_matter(payload: str, name: bytes) -> None:
    other = event(payload, b"event: " + name + b"\ndata: ")
    assert texts([other, HELLO[0], other, HELLO[1], FINISH, other, DONE, other]) == (["Hel", "lo", None], None)


@pytest.mark.parametrize(
    "payload",
    [
        "nonsense", "{", "null", "5", '"text"', "[]", "{}", "[DONE", "true", '{"id": "x"}', '{"choices": 5}',
        '{"choices": [5]}', '{"choices": [null]}', '{"choices": {"delta": {}}}', '{"choices": [{"delta": "a"}]}',
        '{"choices": [{"delta": {"tool_calls": [5]}}]}', '{"usage": 5}', "<html>", "[" * 5000,
        '{"token":{"id":1,"text":"a","logprob":null,"special":false},"generated_text":null,"details":null}',
    ],
)  # fmt: skip
def test_an_event_that_is_no_chunk_is_quoted(payload: str) -> None:
    said, error = texts([*HELLO, event(payload)])
    assert said == ["Hel", "lo"]
    assert type(error) is UnexpectedResponseError
    assert payload.strip('{} "')[:10] in error.message


@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_a_JSON_error_that_calls_itself_an_event_stream_is_that_error(cut: int) -> None:
    body = b'{\n  "error": {"message": "Model is overloaded", "type": "x"}\n}\n\n'
    error = failure(*(body[place : place + cut] for place in range(0, len(body), cut)))
    assert type(error) is OverloadedError


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"a\xffb", "a\ufffdb"), (b"\xe2\x82", "\ufffd"), (b"\\ud83d", "\ufffd"), (b"\\ude00 \\ud83d\\ude00", "\ufffd 😀"),
     (b"\\\\ud83d\\ud83d", "\\ud83d\ufffd"), (b"\xff\\ud83d", "\ufffd\ufffd")],
)  # fmt: skip
def test_text_that_is_no_Unicode_is_still_text(raw: bytes, text: str) -> None:
    broken = chunk(content="@").replace(b"@", raw)
    for pieces in cuts(broken + FINISH + DONE):
        assert texts(pieces) == ([text, None], None)


def test_an_early_end_is_one_wherever_the_wire_was_cut() -> None:
    wire = chat_event("", role="assistant") + chat_event("Hi")[:-9]
    for cut in range(len(wire) + 1):
        reply = ChatStreamDecoder()
        reply.feed(wire[:cut])
        reply.feed(wire[cut:])
        with pytest.raises(IncompleteStreamError):
            reply.finish()
