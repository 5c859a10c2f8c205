"""The exchange, driven by hand: a clock that stands until it is moved, bytes that come when a test says so."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import math
import pickle
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NoReturn

import pytest
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st

from hfstream.core.base_stream import BaseStream
from hfstream.core.exchange import Exchange
from hfstream.core.retry import RetryPolicy
from hfstream.core.text_generation import text_generation
from hfstream.core.timeouts import Deadline, Timeouts
from hfstream.core.urls import Endpoint
from hfstream.errors import (
    GenerationError,
    IncompleteStreamError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    OverloadedError,
    ServerError,
    UnexpectedResponseError,
    ValidationError,
)
from hfstream.testing import final_event, token_event, token_events
from hfstream.types import FinishReason, StreamResponse, TextGenerationResponse, Token, Usage

KEEP_ALIVE = b":\n\n"
DONE = b"data: [DONE]\n\n"
OVERLOADED = b'data: {"error":"Model is overloaded","error_type":"overloaded"}\n\n'
INVALID = b'data: {"error":"Input validation error: bad","error_type":"validation"}\n\n'
AT_ONCE = RetryPolicy(attempts=3, wait=tenacity.wait_none())
FOREVER = Timeouts(None, None, None, None)


class Clock:
    """Seconds, as a test counts them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looked_at = 0

    def __call__(self) -> float:
        self.looked_at += 1
        return self.now


class Silence(Enum):
    """Nothing comes, until a socket that asks the deadline has enough."""

    UNTIL_THE_DEADLINE = "until the deadline"


SILENCE = Silence.UNTIL_THE_DEADLINE
Step = bytes | float | Exception | Silence


@dataclass
class Response:
    """What comes: bytes, seconds that pass, a failure."""

    steps: Sequence[Step] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})


def stream(*steps: Step) -> Response:
    return Response(steps)


def slowly(piece: bytes, *, times: int, every: float = 5.0) -> list[Step]:
    """The same again and again, and time that passes before each."""
    return [every, piece] * times


def whole(value: Any, status: int = 200, **headers: str) -> Response:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response([body[:5], body[5:]], status, {"content-type": "application/json", **named})


class Talk:
    """One exchange and its driver: wait, send, read."""

    def __init__(
        self,
        *answers: Response | Exception | Silence,
        streamed: bool = True,
        details: bool = False,
        retry: RetryPolicy = AT_ONCE,
        timeouts: Timeouts = Timeouts(),  # noqa: B008  immutable
    ) -> None:
        self.clock = Clock()
        target = Endpoint("http://user:pw@host:8080/generate?key=secret", stream_in_body=False)
        call = text_generation(target, "p", {}, stream=streamed, details=details, headers={})
        self.exchange: Exchange[Any, Any] = Exchange(call, retry=retry, timeouts=timeouts, clock=self.clock)
        self.answers = list(answers)
        self.items: list[Any] = []

    def run(self) -> Talk:
        while not self.exchange.over:
            self.clock.now += self.exchange.delay
            self.exchange.ask()
            try:
                self._read(self.answers.pop(0))
            except InferenceError as error:
                self.exchange.forgive(error)
        return self

    def _read(self, answer: Response | Exception | Silence) -> None:
        exchange = self.exchange
        if not isinstance(answer, Response):
            self._fail(answer)
        exchange.begin(answer.status, answer.headers)
        for step in answer.steps:
            if not exchange.hungry:
                break
            if isinstance(step, bytes):
                self.items += exchange.feed(step)
            elif isinstance(step, float):
                self.clock.now += step
            else:
                self._fail(step)
        self.items += exchange.finish()

    def _fail(self, step: Exception | Silence) -> NoReturn:
        if isinstance(step, Exception):
            raise step
        self.clock.now = self.exchange.deadline.at
        raise InferenceTimeoutError("nothing in time", phase="first_token")  # which limit it was, a socket cannot tell

    def error(self) -> InferenceError:
        with pytest.raises(InferenceError) as caught:
            self.run()
        assert self.exchange.over
        return caught.value

    @property
    def final(self) -> Any:
        return self.exchange.transcript.final()


# --- A whole answer, token by token ----------------------------------------------------------------------------------


def test_a_stream_of_text_and_what_it_comes_to() -> None:
    talk = Talk(stream(*token_events("Hello", ",", " you"))).run()
    assert talk.items == ["Hello", ",", " you"]
    assert talk.final == talk.exchange.transcript.text == "Hello, you"
    assert talk.exchange.transcript.finish_reason is FinishReason.Length
    assert talk.exchange.transcript.usage == Usage(prompt_tokens=7, completion_tokens=3, total_tokens=10)
    [attempt] = talk.exchange.attempts
    assert (attempt.number, attempt.delay, attempt.status_code, attempt.error) == (1, 0.0, 200, None)


def test_the_final_event_ends_the_answer_before_the_body_does() -> None:
    talk = Talk()
    exchange = talk.exchange
    exchange.ask()
    exchange.begin(200, {"content-type": "text/event-stream"})
    first, last = token_events("a", "b")
    assert exchange.feed(first) == ["a"]
    assert (exchange.hungry, exchange.answered, exchange.speaking, exchange.over) == (True, False, True, False)
    assert exchange.feed(last) == ["b"]
    assert (exchange.hungry, exchange.answered, exchange.over) == (False, True, False)
    assert exchange.finish() == []
    assert (exchange.answered, exchange.over) == (True, True)


def test_a_stream_of_details_and_what_it_comes_to() -> None:
    events = token_events("a", "b", finish_reason="eos_token")
    talk = Talk(stream(*events), details=True).run()
    assert [type(item) for item in talk.items] == [StreamResponse] * 3
    assert [item.token.text for item in talk.items] == ["a", "b", "</s>"]
    assert talk.exchange.transcript.text == "ab"
    final = talk.final
    assert isinstance(final, TextGenerationResponse)
    assert final.generated_text == "ab"
    assert final.details is not None
    assert final.details.tokens == [item.token for item in talk.items]
    assert final.details.finish_reason is FinishReason.EndOfSequenceToken
    assert final.details.generated_tokens == 3


TOKENS = [{"id": 101 + n, "text": text, "logprob": -0.5, "special": False} for n, text in enumerate("ab")]
WHOLE = {
    "generated_text": "ab",
    "details": {
        "finish_reason": "length", "generated_tokens": 2, "seed": None, "prefill": [], "tokens": TOKENS,
    },
}  # fmt: skip


@pytest.mark.parametrize("details", [True, False])
def test_a_stream_comes_to_the_same_as_the_answer_in_one_piece(details: bool) -> None:
    streamed = Talk(stream(*token_events("a", "b")), details=details).run().final
    document = WHOLE if details else {"generated_text": "ab"}
    for body in (document, [document]):
        at_once = Talk(whole(body), streamed=False, details=details).run()
        assert streamed == at_once.final
        assert type(streamed) is type(at_once.final)
        assert at_once.items == [at_once.final]


TOP = [{"id": 1, "text": "x", "logprob": -1.0, "special": False}]


@pytest.mark.parametrize("tops", [[None, None, None], [TOP, TOP, TOP]])
def test_top_tokens_come_to_one_list_for_each_token(tops: list[Any]) -> None:
    assert_top_tokens(tops)


@pytest.mark.parametrize("tops", [[TOP, None, TOP], [None, TOP, TOP], [TOP, TOP, None]])
def test_a_token_without_top_tokens_keeps_its_place(tops: list[Any]) -> None:
    assert_top_tokens(tops)


def assert_top_tokens(tops: list[Any]) -> None:
    events = [token_event(n, "a", **({"top_tokens": top} if top else {})) for n, top in enumerate(tops, 1)]
    last = final_event(3, "a", "aaa", **({"top_tokens": tops[2]} if tops[2] else {}))
    details = Talk(stream(*events[:2], last), details=True).run().final.details
    expected = [[Token.model_validate(token) for token in top or []] for top in tops]
    assert details.top_tokens == (expected if any(tops) else None)


def test_special_tokens_are_no_text_but_they_are_content() -> None:
    special = token_event(1, "<s>", special=True)
    talk = Talk(stream(special, token_event(2, ""), *token_events("a", "b")))
    assert talk.run().items == ["", "a", "b"]
    assert talk.exchange.metrics.tokens == 4
    assert Talk(stream(special, *token_events("b")), details=True).run().items[0].token.text == "<s>"
    talk = Talk()
    talk.exchange.ask()
    talk.exchange.begin(200, {})
    assert talk.exchange.feed(special) == []
    assert talk.exchange.speaking


@pytest.mark.parametrize(
    ("generated_text", "final"), [("ab", "ab"), ("", ""), (" ab", " ab"), ("prompt ab", "prompt ab"), (None, "ab")]
)
@pytest.mark.parametrize("details", [True, False])
def test_the_servers_own_text_is_what_counts(generated_text: str | None, final: str, details: bool) -> None:
    told = {"finish_reason": "length", "generated_tokens": 2}
    last = token_event(2, "b", generated_text=generated_text, details=told)
    talk = Talk(stream(token_event(1, "a"), last), details=details).run()
    assert talk.exchange.transcript.text == "ab"
    assert (talk.final.generated_text if details else talk.final) == final


def test_a_server_without_details_tells_no_reason() -> None:
    talk = Talk(stream(token_event(1, "a", generated_text="a")), details=True).run()
    assert talk.final == TextGenerationResponse(generated_text="a", details=None)
    assert (talk.exchange.transcript.finish_reason, talk.exchange.transcript.usage) == (None, None)


def test_broken_UTF_8_is_a_replacement_character() -> None:
    broken = token_event(1, "@").replace(b"@", b"\xf0\x9f")
    talk = Talk(stream(broken, final_event(2, "b", "\ufffdb"))).run()
    assert talk.items == ["\ufffd", "b"]


ANSWER = b"".join([KEEP_ALIVE, *token_events("Grüß ", "\u2028", "👩‍🚀", "\n", finish_reason="eos_token"), KEEP_ALIVE])


@pytest.mark.parametrize("details", [True, False])
def test_a_stream_cut_at_any_place_gives_the_same_items(details: bool) -> None:
    expected = Talk(stream(ANSWER), details=details).run()
    for place in range(1, len(ANSWER)):
        talk = Talk(stream(ANSWER[:place], ANSWER[place:]), details=details).run()
        assert talk.items == expected.items
        assert talk.final == expected.final
        assert talk.exchange.metrics.tokens == 5


@given(st.lists(st.integers(1, len(ANSWER) - 1), max_size=10))
@settings(deadline=None, max_examples=100)
def test_a_stream_in_any_pieces_gives_the_same_items(places: list[int]) -> None:
    bounds = [0, *sorted(places), len(ANSWER)]
    pieces = [ANSWER[a:b] for a, b in itertools.pairwise(bounds)]
    assert Talk(stream(*pieces)).run().items == ["Grüß ", "\u2028", "👩‍🚀", "\n"]


# --- Ends that are none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [[], [KEEP_ALIVE], [DONE], [b"data:[DONE]\n\n"], [b"data: {"]])
def test_an_early_end_raises_with_what_was_said_and_is_not_tried_again(end: list[bytes]) -> None:
    talk = Talk(stream(*token_events("a", "b", "c")[:2], *end))
    error = talk.error()
    assert type(error) is IncompleteStreamError
    assert error.partial_text == "ab"
    assert talk.items == ["a", "b"]
    assert len(talk.exchange.attempts) == 1


@pytest.mark.parametrize(
    "empty", [[], [KEEP_ALIVE] * 3, [DONE], [b"data:[DONE]\n\n"], [b"data: {"], [b"event: ping\n\n"]]
)
def test_an_empty_stream_is_tried_again_and_then_raised(empty: list[bytes]) -> None:
    assert Talk(stream(*empty), stream(*empty), stream(*token_events("a", "b"))).run().items == ["a", "b"]
    talk = Talk(*[stream(*empty)] * 3)
    error = talk.error()
    assert type(error) is IncompleteStreamError
    assert error.partial_text == ""
    assert len(talk.exchange.attempts) == 3
    assert all(type(attempt.error) is IncompleteStreamError for attempt in talk.exchange.attempts)


@pytest.mark.parametrize("kind", ["text/html", "application/json", "text/event-stream", ""])
@pytest.mark.parametrize("body", [b"<html>Hello</html>", b'{"a": 1}', b"[1]"])
def test_a_200_that_is_no_answer_is_quoted_and_not_tried_again(kind: str, body: bytes) -> None:
    talk = Talk(Response([body[:4], body[4:]], headers={"content-type": kind}))
    error = talk.error()
    assert type(error) is UnexpectedResponseError
    assert body.decode() in error.message
    assert len(talk.exchange.attempts) == 1


def test_an_event_that_is_no_token_ends_the_stream() -> None:
    talk = Talk(stream(*token_events("a", "b", "c")[:2], b"data: nonsense\n\n"))
    error = talk.error()
    assert type(error) is UnexpectedResponseError
    assert "'nonsense'" in error.message
    assert error.partial_text == "ab"


# --- Errors that the server tells ------------------------------------------------------------------------------------


def test_overload_in_the_first_event_of_a_200_is_tried_again() -> None:
    talk = Talk(stream(OVERLOADED), stream(KEEP_ALIVE, OVERLOADED, DONE), stream(*token_events("a", "b"))).run()
    assert talk.items == ["a", "b"]
    first, second, third = talk.exchange.attempts
    assert isinstance(first.error, OverloadedError)
    assert isinstance(second.error, OverloadedError)
    assert first.error.status_code == 429
    assert (first.status_code, third.error) == (200, None)


@pytest.mark.parametrize("refusal", [stream(INVALID), whole({"error": "bad", "error_type": "validation"}, 422)])
def test_a_refusal_is_raised_at_once(refusal: Response) -> None:
    talk = Talk(refusal)
    assert type(talk.error()) is ValidationError
    assert len(talk.exchange.attempts) == 1


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("last", [OVERLOADED, INVALID])
def test_an_error_after_tokens_comes_after_them_and_is_raised(together: bool, last: bytes) -> None:
    pieces = [*token_events("a", "b", "c")[:2], last]
    talk = Talk(stream(*([b"".join(pieces)] if together else pieces)))
    error = talk.error()
    assert type(error) is (OverloadedError if last is OVERLOADED else ValidationError)
    assert error.partial_text == "ab"
    assert talk.items == ["a", "b"]
    assert len(talk.exchange.attempts) == 1


@pytest.mark.parametrize(
    ("failure", "tries"),
    [
        *((whole({"error": "x"}, status), 3) for status in (408, 429, 502, 503, 504, 529)),
        *((whole({"error": "x"}, status), 1) for status in (400, 401, 403, 404, 410, 422, 424, 500, 501)),
        (InferenceConnectionError("no"), 3),
        (InferenceTimeoutError("no", phase="connect"), 3),
        (SILENCE, 3),
        (stream(SILENCE), 3),
        (stream(KEEP_ALIVE, InferenceConnectionError("reset")), 3),
        (GenerationError("x"), 1),
        (UnexpectedResponseError("x"), 1),
        (ServerError("x"), 1),
    ],
)  # fmt: skip
def test_what_may_pass_is_tried_again(failure: Any, tries: int) -> None:
    talk = Talk(*[failure] * 3)
    error = talk.error()
    assert [attempt.number for attempt in talk.exchange.attempts] == list(range(1, tries + 1))
    assert all(type(attempt.error) is type(error) for attempt in talk.exchange.attempts)


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_are_counted(attempts: int) -> None:
    talk = Talk(*[stream(OVERLOADED)] * 9, retry=RetryPolicy(attempts=attempts, wait=tenacity.wait_none()))
    error = talk.error()
    assert type(error) is OverloadedError
    assert len(talk.exchange.attempts) == attempts
    assert str(error) == "Model is overloaded", "the server's words, and ours beside them"
    notes = getattr(error, "__notes__", [])
    assert [f"tried {attempts} times" in note for note in notes] == [True] * (attempts > 1)


def test_nothing_is_tried_again_once_there_was_a_token() -> None:
    for failure in (InferenceConnectionError("reset"), SILENCE, OVERLOADED):
        talk = Talk(stream(token_event(1, "<s>", special=True), failure))
        talk.error()
        assert len(talk.exchange.attempts) == 1


def test_delays_are_the_policys_and_are_noted() -> None:
    retry = RetryPolicy(attempts=3, wait=tenacity.wait_incrementing(1, 2))
    talk = Talk(stream(OVERLOADED), stream(OVERLOADED), stream(*token_events("a")), retry=retry).run()
    assert [attempt.delay for attempt in talk.exchange.attempts] == [0, 1, 3]
    assert talk.clock.now == 4


def test_what_the_server_asks_to_wait_is_waited() -> None:
    refusal = whole({"error": "Model is overloaded"}, 429, retry_after="4")
    talk = Talk(refusal, stream(*token_events("a")), retry=RetryPolicy()).run()
    assert 4 <= talk.exchange.attempts[1].delay <= 5


def test_the_request_id_of_a_failure_is_kept() -> None:
    named = {"content-type": "text/event-stream", "x-request-id": "r-1"}
    ends: list[Step] = [INVALID, InferenceConnectionError("reset"), SILENCE]
    for end in ends:
        assert Talk(Response([token_event(1, "a"), end], headers=named)).error().request_id == "r-1"
    assert Talk(Response([INVALID], headers=named)).error().request_id == "r-1"


def test_a_failure_is_not_given_the_request_id_of_the_attempt_before() -> None:
    talk = Talk(whole({"error": "x"}, 429, x_request_id="r-1"), InferenceConnectionError("refused"), retry=AT_ONCE)
    talk.answers.append(InferenceConnectionError("refused"))
    assert talk.error().request_id is None
    assert talk.exchange.headers == {}


@pytest.mark.parametrize("error", [ValueError("foreign"), RuntimeError("x"), OSError("x")])
def test_a_foreign_exception_is_not_forgiven(error: Exception) -> None:
    talk = Talk(error)
    with pytest.raises(type(error)) as caught:
        try:
            talk.run()
        except Exception as raised:
            talk.exchange.forgive(raised)
    assert caught.value is error
    assert talk.exchange.over
    assert not talk.exchange.answered


def test_a_failure_before_the_first_attempt_is_raised_as_it_is() -> None:
    with pytest.raises(ValidationError):
        Talk().exchange.forgive(ValidationError("x"))


def test_an_answer_given_up_says_how_far_it_came() -> None:
    talk = Talk(stream(*token_events("a", "b", "c")[:2]))
    talk.error()
    error = talk.exchange.unfinished()
    assert type(error) is IncompleteStreamError
    assert (error.partial_text, error.retryable) == ("ab", False)


# --- Time ------------------------------------------------------------------------------------------------------------

ONCE = RetryPolicy.of(None)


def phase_of(talk: Talk) -> str:
    error = talk.error()
    assert isinstance(error, InferenceTimeoutError)
    assert f"Timeouts.{error.phase}" in error.message
    return error.phase


def test_keep_alives_alone_are_no_first_token() -> None:
    talk = Talk(stream(*slowly(KEEP_ALIVE, times=100)), retry=ONCE, timeouts=Timeouts(first_token=20))
    assert phase_of(talk) == "first_token"
    assert talk.clock.now == 25


def test_keep_alives_between_tokens_are_no_progress() -> None:
    talk = Talk(stream(token_event(1, "a"), *slowly(KEEP_ALIVE, times=100)), timeouts=Timeouts(between_tokens=20))
    error = talk.error()
    assert isinstance(error, InferenceTimeoutError)
    assert (error.phase, error.partial_text, talk.clock.now) == ("between_tokens", "a", 25)
    assert "20 s" in error.message


@pytest.mark.parametrize("crumbs", [b"data: {", b"event: ping\n\n", b"data:\n\n", b": \n", b"id: 1\n\n"])
def test_nothing_but_content_is_progress(crumbs: bytes) -> None:
    talk = Talk(stream(token_event(1, "a"), *slowly(crumbs, times=100)), timeouts=Timeouts(between_tokens=20))
    assert phase_of(talk) == "between_tokens"


def test_every_token_starts_the_limit_anew() -> None:
    steps: list[Step] = [19.0, KEEP_ALIVE, token_event(1, "a"), 19.0, KEEP_ALIVE, *token_events("b")]
    timeouts = Timeouts(first_token=20, between_tokens=20)
    assert Talk(stream(*steps), timeouts=timeouts).run().items == ["a", "b"]


def test_each_attempt_has_the_whole_first_limit() -> None:
    timeouts = Timeouts(first_token=20)
    talk = Talk(stream(15.0, OVERLOADED), stream(15.0, KEEP_ALIVE, *token_events("a")), timeouts=timeouts)
    assert talk.run().items == ["a"]
    talk = Talk(SILENCE, SILENCE, stream(*token_events("a")), timeouts=timeouts)
    assert talk.run().clock.now == 40


@pytest.mark.parametrize(
    ("before", "expected"),
    [([], "first_token"), ([token_event(1, "a")], "between_tokens"), ([KEEP_ALIVE], "first_token")],
)
def test_a_silent_socket_runs_into_the_limit_that_is_in_force(before: list[Step], expected: str) -> None:
    timeouts = Timeouts(first_token=20, between_tokens=5)
    talk = Talk(stream(*before, SILENCE), retry=ONCE, timeouts=timeouts)
    assert phase_of(talk) == expected
    assert talk.clock.now == (5 if expected == "between_tokens" else 20)


@pytest.mark.parametrize("before", [[], [KEEP_ALIVE], [token_event(1, "a")]])
def test_the_total_ends_every_wait_and_is_final(before: list[Step]) -> None:
    talk = Talk(stream(*before, SILENCE), timeouts=Timeouts(total=3))
    assert phase_of(talk) == "total"
    assert talk.clock.now == 3
    assert len(talk.exchange.attempts) == 1


def test_the_total_spans_attempts_and_waits() -> None:
    retry = RetryPolicy(attempts=9, wait=tenacity.wait_fixed(4))
    talk = Talk(
        stream(OVERLOADED), stream(3.0, OVERLOADED), stream(OVERLOADED), retry=retry, timeouts=Timeouts(total=10)
    )
    error = talk.error()
    assert (
        type(error) is OverloadedError
    )  # another attempt would begin after the total: what went wrong is said instead
    assert (len(talk.exchange.attempts), talk.clock.now) == (2, 7)
    assert talk.exchange.deadline.at == 10


def test_the_total_counts_keep_alives() -> None:
    assert (
        phase_of(
            Talk(stream(token_event(1, "a"), *slowly(KEEP_ALIVE, times=30, every=1.0)), timeouts=Timeouts(total=10))
        )
        == "total"
    )


def test_a_stream_that_never_pauses_has_a_total_too() -> None:
    talk = Talk(stream(*slowly(token_event(1, "a"), times=30, every=1.0)), timeouts=Timeouts(total=10))
    assert phase_of(talk) == "total"
    assert talk.clock.now <= 12


def test_an_answer_that_is_whole_is_not_late() -> None:
    timeouts = Timeouts(first_token=1, between_tokens=1, total=2)
    assert Talk(stream(9.0, *token_events("a")), timeouts=timeouts).run().items == ["a"]
    assert Talk(stream(token_event(1, "a"), 9.0, *token_events("b")), timeouts=timeouts).run().items == ["a", "b"]


def test_an_error_that_the_server_tells_is_worth_more_than_a_limit() -> None:
    talk = Talk(stream(9.0, INVALID), timeouts=Timeouts(first_token=1))
    assert type(talk.error()) is ValidationError


def test_an_answer_in_one_piece_has_the_first_limit_to_its_end() -> None:
    timeouts = Timeouts(first_token=20)
    talk = Talk(Response([b'{"generated', 30.0, b'_text":']), streamed=False, retry=ONCE, timeouts=timeouts)
    assert phase_of(talk) == "first_token"
    late = Talk(Response([b'{"generated', 15.0, b'_text": "a"}']), streamed=False, timeouts=timeouts)
    assert late.run().final == "a"


def test_a_connection_that_is_not_made_keeps_its_phase() -> None:
    error = Talk(InferenceTimeoutError("no connection in time", phase="connect"), retry=ONCE).error()
    assert isinstance(error, InferenceTimeoutError)
    assert (error.phase, error.message) == ("connect", "no connection in time")


def test_the_total_may_end_the_wait_for_a_connection() -> None:
    talk = Talk(timeouts=Timeouts(connect=10, total=5))
    talk.exchange.ask()
    assert talk.exchange.limits()[0] == 5
    talk.clock.now = 5
    with pytest.raises(InferenceTimeoutError) as caught:
        talk.exchange.forgive(InferenceTimeoutError("no connection in time", phase="connect"))
    assert caught.value.phase == "total"


@pytest.mark.parametrize("before", [[], [token_event(1, "a")]])
def test_a_timeout_that_we_did_not_set_is_a_timeout_all_the_same(before: list[bytes]) -> None:
    theirs = InferenceTimeoutError("nothing in time", phase="first_token")  # such as a proxy's, or a transport's own
    talk = Talk(stream(*before, theirs), retry=ONCE, timeouts=FOREVER)
    assert isinstance(talk.error(), InferenceTimeoutError)


def test_a_timer_that_rings_a_moment_early_rang_for_the_nearest_limit() -> None:
    talk = Talk(timeouts=Timeouts(first_token=120, total=5))
    talk.exchange.ask()
    talk.clock.now = 4.9999  # asyncio's timers may be early by a tick of its clock: 16 ms on Windows
    with pytest.raises(InferenceTimeoutError) as caught:
        talk.exchange.forgive(InferenceTimeoutError("nothing in time", phase="first_token"))
    assert caught.value.phase == "total"


def test_the_cause_of_a_timeout_is_kept() -> None:
    theirs = InferenceTimeoutError("x", phase="first_token")
    theirs.__cause__ = cause = OSError("x")
    talk = Talk(theirs, retry=ONCE)
    assert talk.error().__cause__ is cause


@pytest.mark.parametrize(
    ("timeouts", "limits"),
    [
        (Timeouts(), (10, 120, 120, 10)),
        (Timeouts(connect=1, first_token=2, between_tokens=3), (1, 3, 2, 1)),
        (Timeouts(connect=1, first_token=None, between_tokens=3), (1, None, None, 1)),
        (Timeouts(connect=None, first_token=2, between_tokens=None), (None, None, 2, None)),
        (FOREVER, (None, None, None, None)),
        (Timeouts(total=5), (5, 5, 5, 5)),
        (Timeouts(None, None, None, 5), (5, 5, 5, 5)),
        (Timeouts(connect=1, total=5), (1, 5, 5, 1)),
    ],
)
def test_limits_for_a_client_that_asks_no_deadline(timeouts: Timeouts, limits: tuple[Any, ...]) -> None:
    assert Talk(timeouts=timeouts).exchange.limits() == limits


def test_limits_shrink_with_what_is_left_of_the_total_but_not_to_nothing() -> None:
    talk = Talk(timeouts=Timeouts(total=50))
    talk.clock.now = 45
    assert talk.exchange.limits() == (5, 5, 5, 5)
    talk.clock.now = 99
    assert all(limit is not None and 0 < limit < 0.1 for limit in talk.exchange.limits())


def test_no_limit_has_two_names() -> None:
    talk = Talk(timeouts=Timeouts(math.inf, math.inf, math.inf, math.inf))
    assert talk.exchange.limits() == (None, None, None, None)


def test_the_deadline_tells_how_long_a_socket_may_wait() -> None:
    clock = Clock()
    deadline = Deadline(clock)
    assert deadline.remaining() is None
    deadline.at, clock.now = 10.0, 4.0
    assert deadline.remaining() == 6.0
    clock.now = 99.0
    assert deadline.remaining() == 0.001  # what has arrived can still be read


def test_the_deadline_moves_with_the_answer() -> None:
    talk = Talk(timeouts=Timeouts(first_token=20, between_tokens=5, total=23))
    exchange, clock = talk.exchange, talk.clock
    exchange.ask()
    assert exchange.deadline.at == 20
    exchange.begin(200, {})
    clock.now = 10
    exchange.feed(KEEP_ALIVE)
    assert exchange.deadline.at == 20
    exchange.feed(token_event(1, "a"))
    assert exchange.deadline.at == 15
    clock.now = 21
    exchange.feed(token_event(2, "a"))
    assert exchange.deadline.at == 23


# --- Timeouts --------------------------------------------------------------------------------------------------------


def test_timeouts_have_short_forms() -> None:
    timeouts = Timeouts(connect=1)
    assert Timeouts.of(timeouts) is timeouts
    assert Timeouts.of(5) == Timeouts(5, 5, 5, None)
    assert Timeouts.of(0.5) == Timeouts(0.5, 0.5, 0.5, None)
    assert Timeouts.of(None) == FOREVER
    assert repr(Timeouts()) == "Timeouts(connect=10.0, first_token=120.0, between_tokens=60.0, total=None)"


@pytest.mark.parametrize("name", ["connect", "first_token", "between_tokens", "total"])
@pytest.mark.parametrize("seconds", [0, -1, float("nan"), -math.inf, True, False])
def test_an_impossible_limit_is_refused_by_name(name: str, seconds: Any) -> None:
    with pytest.raises(ValueError, match=f"Timeouts.{name}"):
        Timeouts(**{name: seconds})


@pytest.mark.parametrize("seconds", ["5", (1, 2), object()])
def test_what_is_no_number_is_refused(seconds: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Timeouts.of(seconds)


# --- What it costs, what it shows, what it holds ---------------------------------------------------------------------


def test_the_clock_is_read_once_for_each_piece() -> None:
    talk = Talk()
    talk.exchange.ask()
    talk.exchange.begin(200, {})
    for piece in (*token_events("a", "b", "c")[:2], KEEP_ALIVE, b"data: ", b"".join(token_events("a", "b", "c")[:2])):
        before = talk.clock.looked_at
        talk.exchange.feed(piece)
        assert talk.clock.looked_at == before + 1


def test_the_first_token_is_timed_from_the_call_with_its_failures_and_waits() -> None:
    retry = RetryPolicy(attempts=3, wait=tenacity.wait_fixed(4))
    steps: list[Step] = [2.0, token_event(1, "a"), 1.0, *token_events("b")]
    metrics = Talk(stream(1.0, OVERLOADED), stream(*steps), retry=retry).run().exchange.metrics
    assert (metrics.time_to_first_token, metrics.duration, metrics.tokens) == (7, 8, 2)
    assert metrics.tokens_per_second == 1
    assert metrics.inter_token.max == 1


def test_a_stream_shows_itself_without_its_secrets() -> None:
    talk = Talk(stream(*token_events("a", "b")))
    view: BaseStream[Any, Any] = BaseStream(talk.exchange)
    assert repr(view) == "<BaseStream of POST http://host:8080: open, 0 tokens>"
    assert (view.text, view.headers, view.request_id, view.attempts, view.usage, view.finish_reason) == (
        "", {}, None, (), None, None,
    )  # fmt: skip
    talk.run()
    assert repr(view) == "<BaseStream of POST http://host:8080: complete, 2 tokens>"
    assert view.text == "ab"
    assert len(view.attempts) == 1
    failed = Talk(stream(token_event(1, "a")))
    failed.error()
    assert repr(BaseStream(failed.exchange)) == "<BaseStream of POST http://host:8080: over, 1 tokens>"


def test_a_retry_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "hfstream"):
        Talk(stream(OVERLOADED), stream(*token_events("a"))).run()
    [record] = caplog.records
    assert record.getMessage() == "attempt 1 of POST http://host:8080 failed, next in 0.00 s: OverloadedError"


def test_a_whole_answer_is_asked_for_after_an_error() -> None:
    talk = Talk(stream(token_event(1, "a"), INVALID))
    first = talk.error()
    later = talk.exchange.unfinished()
    assert "has ended in an error: Input validation error: bad" in str(later)
    assert type(later.__cause__) is type(first)
    assert later.partial_text == "a"


def test_attempts_remember_their_errors_without_their_tracebacks() -> None:
    talk = Talk(stream(OVERLOADED), stream(token_event(1, "a")))
    error = talk.error()
    assert error.__traceback__ is not None
    for attempt in talk.exchange.attempts:
        assert attempt.error is not None
        assert (attempt.error.__traceback__, attempt.error.__context__, attempt.error.__cause__) == (None, None, None)
    pickle.loads(pickle.dumps(talk.exchange.attempts))


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([stream(*token_events("a", "b"))], id="answered"),
        pytest.param([whole({"error": "x"}, 429), stream(*token_events("a"))], id="retried after a 429"),
        pytest.param([stream(), stream(*token_events("a"))], id="retried after an empty stream"),
        pytest.param([stream(OVERLOADED), stream(*token_events("a"))], id="retried after an overload in a 200"),
        pytest.param([stream(token_event(1, "a"))], id="ended early"),
        pytest.param([stream()] * 3, id="retried in vain"),
    ],
)  # fmt: skip
def test_an_exchange_goes_when_nobody_holds_it(answers: Sequence[Response]) -> None:
    talk = Talk(*answers)
    gone = weakref.ref(talk.exchange)
    with contextlib.suppress(InferenceError):
        talk.run()
    del talk, answers
    assert gone() is None


def test_text_is_kept_in_pieces_and_tokens_only_if_asked() -> None:
    plain, rich = (Talk(stream(*token_events(*"a" * 500)), details=details).run() for details in (False, True))
    gc.collect()
    alive = gc.get_referents(vars(plain.exchange.transcript))
    assert sum(isinstance(each, StreamResponse) for each in alive) <= 1
    assert len(rich.final.details.tokens) == 500
