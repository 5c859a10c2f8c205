"""What an exchange returns: items, results, and what it keeps. The network and the time are a test's."""

from __future__ import annotations

import contextlib
import gc
import itertools
import pickle
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st

from hfstream.core.base_stream import BaseStream
from hfstream.core.retry import RetryPolicy
from hfstream.errors import (
    IncompleteStreamError,
    InferenceError,
    UnexpectedResponseError,
)
from hfstream.testing import final_event, token_event, token_events
from hfstream.types import FinishReason, StreamResponse, TextGenerationResponse, Token, Usage
from tests.helpers import exchanges
from tests.helpers.exchanges import (
    DONE,
    INVALID,
    KEEP_ALIVE,
    OVERLOADED,
    ExchangeDriver,
    Response,
    Step,
    in_turn,
    json_response,
    stream,
)


def drive(*responses: Any, **options: Any) -> ExchangeDriver:
    return exchanges.drive(in_turn(*responses), **options)


# --- A whole answer, token by token ----------------------------------------------------------------------------------


def test_a_stream_of_text_has_items_and_a_result() -> None:
    driver = drive(stream(*token_events("Hello", ",", " you"))).run()
    assert driver.items == ["Hello", ",", " you"]
    assert driver.result == driver.exchange.accumulator.text == "Hello, you"
    assert driver.exchange.accumulator.finish_reason is FinishReason.Length
    assert driver.exchange.accumulator.usage == Usage(prompt_tokens=7, completion_tokens=3, total_tokens=10)
    [attempt] = driver.exchange.attempts
    assert (attempt.number, attempt.delay, attempt.status_code, attempt.error) == (1, 0.0, 200, None)


def test_the_final_event_ends_the_answer_before_the_body_does() -> None:
    driver = drive()
    exchange = driver.exchange
    exchange.next_request()
    exchange.receive_headers(200, {"content-type": "text/event-stream"})
    first, last = token_events("a", "b")
    assert exchange.feed(first) == ["a"]
    assert (exchange.needs_data, exchange.complete, exchange.has_content, exchange.closed) == (True, False, True, False)
    assert exchange.feed(last) == ["b"]
    assert (exchange.needs_data, exchange.complete, exchange.closed) == (False, True, False)
    assert exchange.finish() == []
    assert (exchange.complete, exchange.closed) == (True, True)


def test_a_stream_of_details_has_items_and_a_result() -> None:
    events = token_events("a", "b", finish_reason="eos_token")
    driver = drive(stream(*events), details=True).run()
    assert [type(item) for item in driver.items] == [StreamResponse] * 3
    assert [item.token.text for item in driver.items] == ["a", "b", "</s>"]
    assert driver.exchange.accumulator.text == "ab"
    final = driver.result
    assert isinstance(final, TextGenerationResponse)
    assert final.generated_text == "ab"
    assert final.details is not None
    assert final.details.tokens == [item.token for item in driver.items]
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
def test_the_result_of_a_stream_equals_that_of_the_call_without_streaming(details: bool) -> None:
    streamed = drive(stream(*token_events("a", "b")), details=details).run().result
    document = WHOLE if details else {"generated_text": "ab"}
    for body in (document, [document]):
        at_once = drive(json_response(body), streamed=False, details=details).run()
        assert streamed == at_once.result
        assert type(streamed) is type(at_once.result)
        assert at_once.items == [at_once.result]


TOP = [{"id": 1, "text": "x", "logprob": -1.0, "special": False}]


@pytest.mark.parametrize("tops", [[None, None, None], [TOP, TOP, TOP]])
def test_top_tokens_are_one_list_for_each_token(tops: list[Any]) -> None:
    assert_top_tokens(tops)


@pytest.mark.parametrize("tops", [[TOP, None, TOP], [None, TOP, TOP], [TOP, TOP, None]])
def test_a_token_without_top_tokens_keeps_its_place(tops: list[Any]) -> None:
    assert_top_tokens(tops)


def assert_top_tokens(tops: list[Any]) -> None:
    events = [token_event(n, "a", **({"top_tokens": top} if top else {})) for n, top in enumerate(tops, 1)]
    last = final_event(3, "a", "aaa", **({"top_tokens": tops[2]} if tops[2] else {}))
    details = drive(stream(*events[:2], last), details=True).run().result.details
    expected = [[Token.model_validate(token) for token in top or []] for top in tops]
    assert details.top_tokens == (expected if any(tops) else None)


def test_special_tokens_are_content_but_not_text() -> None:
    special = token_event(1, "<s>", special=True)
    driver = drive(stream(special, token_event(2, ""), *token_events("a", "b")))
    assert driver.run().items == ["", "a", "b"]
    assert driver.exchange.metrics.tokens == 4
    assert drive(stream(special, *token_events("b")), details=True).run().items[0].token.text == "<s>"
    driver = drive()
    driver.exchange.next_request()
    driver.exchange.receive_headers(200, {})
    assert driver.exchange.feed(special) == []
    assert driver.exchange.has_content


@pytest.mark.parametrize(
    ("generated_text", "final"), [("ab", "ab"), ("", ""), (" ab", " ab"), ("prompt ab", "prompt ab"), (None, "ab")]
)
@pytest.mark.parametrize("details", [True, False])
def test_the_servers_generated_text_wins_over_the_joined_tokens(
    generated_text: str | None, final: str, details: bool
) -> None:
    last_details = {"finish_reason": "length", "generated_tokens": 2}
    last = token_event(2, "b", generated_text=generated_text, details=last_details)
    driver = drive(stream(token_event(1, "a"), last), details=details).run()
    assert driver.exchange.accumulator.text == "ab"
    assert (driver.result.generated_text if details else driver.result) == final


def test_without_details_there_is_no_finish_reason() -> None:
    driver = drive(stream(token_event(1, "a", generated_text="a")), details=True).run()
    assert driver.result == TextGenerationResponse(generated_text="a", details=None)
    assert (driver.exchange.accumulator.finish_reason, driver.exchange.accumulator.usage) == (None, None)


def test_invalid_UTF_8_becomes_a_replacement_character() -> None:
    broken = token_event(1, "@").replace(b"@", b"\xf0\x9f")
    driver = drive(stream(broken, final_event(2, "b", "\ufffdb"))).run()
    assert driver.items == ["\ufffd", "b"]


ANSWER = b"".join([KEEP_ALIVE, *token_events("Grüß ", "\u2028", "👩‍🚀", "\n", finish_reason="eos_token"), KEEP_ALIVE])


@pytest.mark.parametrize("details", [True, False])
def test_a_stream_cut_at_any_byte_gives_the_same_items(details: bool) -> None:
    expected = drive(stream(ANSWER), details=details).run()
    for place in range(1, len(ANSWER)):
        driver = drive(stream(ANSWER[:place], ANSWER[place:]), details=details).run()
        assert driver.items == expected.items
        assert driver.result == expected.result
        assert driver.exchange.metrics.tokens == 5


@given(st.lists(st.integers(1, len(ANSWER) - 1), max_size=10))
@settings(deadline=None, max_examples=100)
def test_a_stream_in_any_chunks_gives_the_same_items(places: list[int]) -> None:
    bounds = [0, *sorted(places), len(ANSWER)]
    pieces = [ANSWER[a:b] for a, b in itertools.pairwise(bounds)]
    assert drive(stream(*pieces)).run().items == ["Grüß ", "\u2028", "👩‍🚀", "\n"]


# --- Ends that are none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [[], [KEEP_ALIVE], [DONE], [b"data:[DONE]\n\n"], [b"data: {"]])
def test_an_early_end_raises_with_the_partial_text_and_is_not_retried(end: list[bytes]) -> None:
    driver = drive(stream(*token_events("a", "b", "c")[:2], *end))
    error = driver.error()
    assert type(error) is IncompleteStreamError
    assert error.partial_text == "ab"
    assert driver.items == ["a", "b"]
    assert len(driver.exchange.attempts) == 1


@pytest.mark.parametrize(
    "empty", [[], [KEEP_ALIVE] * 3, [DONE], [b"data:[DONE]\n\n"], [b"data: {"], [b"event: ping\n\n"]]
)
def test_an_empty_stream_is_retried_and_then_raised(empty: list[bytes]) -> None:
    assert drive(stream(*empty), stream(*empty), stream(*token_events("a", "b"))).run().items == ["a", "b"]
    driver = drive(*[stream(*empty)] * 3)
    error = driver.error()
    assert type(error) is IncompleteStreamError
    assert error.partial_text == ""
    assert len(driver.exchange.attempts) == 3
    assert all(type(attempt.error) is IncompleteStreamError for attempt in driver.exchange.attempts)


@pytest.mark.parametrize("kind", ["text/html", "application/json", "text/event-stream", ""])
@pytest.mark.parametrize("body", [b"<html>Hello</html>", b'{"a": 1}', b"[1]"])
def test_an_unexpected_body_is_quoted_and_not_retried(kind: str, body: bytes) -> None:
    driver = drive(Response([body[:4], body[4:]], headers={"content-type": kind}))
    error = driver.error()
    assert type(error) is UnexpectedResponseError
    assert body.decode() in error.message
    assert len(driver.exchange.attempts) == 1


def test_an_event_that_is_not_a_token_is_an_error() -> None:
    driver = drive(stream(*token_events("a", "b", "c")[:2], b"data: nonsense\n\n"))
    error = driver.error()
    assert type(error) is UnexpectedResponseError
    assert "'nonsense'" in error.message
    assert error.partial_text == "ab"


# --- What it costs, what it shows, what it holds ---------------------------------------------------------------------


def test_the_clock_is_read_once_for_each_chunk() -> None:
    driver = drive()
    driver.exchange.next_request()
    driver.exchange.receive_headers(200, {})
    for piece in (*token_events("a", "b", "c")[:2], KEEP_ALIVE, b"data: ", b"".join(token_events("a", "b", "c")[:2])):
        before = driver.clock.reads
        driver.exchange.feed(piece)
        assert driver.clock.reads == before + 1


def test_the_first_token_is_timed_from_the_call_with_its_failures_and_waits() -> None:
    retry = RetryPolicy(attempts=3, wait=tenacity.wait_fixed(4))
    steps: list[Step] = [2.0, token_event(1, "a"), 1.0, *token_events("b")]
    metrics = drive(stream(1.0, OVERLOADED), stream(*steps), retry=retry).run().exchange.metrics
    assert (metrics.time_to_first_token, metrics.duration, metrics.tokens) == (7, 8, 2)
    assert metrics.tokens_per_second == 1
    assert metrics.inter_token.max == 1


def test_the_repr_of_a_stream_has_no_secrets() -> None:
    driver = drive(stream(*token_events("a", "b")))
    view: BaseStream[Any, Any] = BaseStream(driver.exchange)
    assert repr(view) == "<BaseStream of POST http://host:8080: open, 0 tokens>"
    assert (view.text, view.headers, view.request_id, view.attempts, view.usage, view.finish_reason) == (
        "", {}, None, (), None, None,
    )  # fmt: skip
    driver.run()
    assert repr(view) == "<BaseStream of POST http://host:8080: complete, 2 tokens>"
    assert view.text == "ab"
    assert len(view.attempts) == 1
    failed = drive(stream(token_event(1, "a")))
    failed.error()
    assert repr(BaseStream(failed.exchange)) == "<BaseStream of POST http://host:8080: closed, 1 tokens>"


def test_a_retry_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "hfstream"):
        drive(stream(OVERLOADED), stream(*token_events("a"))).run()
    [record] = caplog.records
    assert record.getMessage() == "attempt 1 of POST http://host:8080 failed, next in 0.00 s: OverloadedError"


def test_incomplete_error_names_the_error_that_ended_the_stream() -> None:
    driver = drive(stream(token_event(1, "a"), INVALID))
    first = driver.error()
    later = driver.exchange.incomplete_error()
    assert "has ended in an error: Input validation error: bad" in str(later)
    assert type(later.__cause__) is type(first)
    assert later.partial_text == "a"


def test_attempts_remember_their_errors_without_their_tracebacks() -> None:
    driver = drive(stream(OVERLOADED), stream(token_event(1, "a")))
    error = driver.error()
    assert error.__traceback__ is not None
    for attempt in driver.exchange.attempts:
        assert attempt.error is not None
        assert (attempt.error.__traceback__, attempt.error.__context__, attempt.error.__cause__) == (None, None, None)
    pickle.loads(pickle.dumps(driver.exchange.attempts))


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
        pytest.param([json_response({"error": "x"}, 429), stream(*token_events("a"))], id="retried after a 429"),
        pytest.param([stream(), stream(*token_events("a"))], id="retried after an empty stream"),
        pytest.param([stream(OVERLOADED), stream(*token_events("a"))], id="retried after an overload in a 200"),
        pytest.param([stream(token_event(1, "a"))], id="ended early"),
        pytest.param([stream()] * 3, id="retried in vain"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_an_exchange_is_freed_without_the_garbage_collector(answers: Sequence[Response]) -> None:
    driver = drive(*answers)
    gone = weakref.ref(driver.exchange)
    with contextlib.suppress(InferenceError):
        driver.run()
    del driver, answers
    assert gone() is None


def test_text_is_kept_in_fragments_and_tokens_only_with_details() -> None:
    plain, rich = (drive(stream(*token_events(*"a" * 500)), details=details).run() for details in (False, True))
    gc.collect()
    alive = gc.get_referents(vars(plain.exchange.accumulator))
    assert sum(isinstance(each, StreamResponse) for each in alive) <= 1
    assert len(rich.result.details.tokens) == 500
