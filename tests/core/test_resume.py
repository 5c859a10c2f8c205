"""How a lost stream is resumed: from its last event, or by a new request with the text so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st

from hfstream.core.exchange import Exchange
from hfstream.core.request_spec import PreparedRequest
from hfstream.core.retry import RetryPolicy
from hfstream.core.timeouts import Timeouts
from hfstream.errors import (
    GenerationError,
    IncompleteStreamError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    OverloadedError,
    ValidationError,
)
from hfstream.testing import DONE, chat_event, chat_events, final_event, token_event, token_events
from tests.helpers.exchanges import (
    JSON,
    LOST,
    SILENCE,
    SSE,
    URL,
    ExchangeDriver,
    Response,
    Server,
    Silence,
    Step,
    error_response,
    in_turn,
    lost,
    numbered,
    stream,
    tokenized,
)
from tests.helpers.resuming import GREEDY, drive

UNTIL_IT_SUCCEEDS = RetryPolicy(stop=tenacity.stop_never, wait=tenacity.wait_none())


def ending(error: Exception | Silence | None) -> list[Step]:
    """The last step of a response: a failure, or (None) the end of the body."""
    return [] if error is None else [error]


def assert_cannot_resume(error: InferenceError, lost: Exception | Silence | None) -> None:
    """The answer is incomplete; what had ended its connection is the cause."""
    assert type(error) is IncompleteStreamError
    kind = InferenceTimeoutError if lost is SILENCE else type(lost) if lost else IncompleteStreamError
    assert type(error.__cause__) is kind
    assert not error.retryable
    if isinstance(error.__cause__, InferenceTimeoutError):
        assert error.__cause__.phase == "between_tokens"


# --- From the last event ---------------------------------------------------------------------------------------------

TEXT = token_events("Grüß ", "👩‍🚀", " ", "\n", "e", "nd", finish_reason="eos_token")
CHAT = chat_events("Grüß ", "👩‍🚀", "", "end")
WITHOUT_DONE = CHAT[:-1]
COMPLETION = [
    *(
        b'data: {"choices":[{"index":0,"text":"%b","finish_reason":null}]}\n\n' % text
        for text in (b"a", b"", b"\xc3\xbc", b"c")
    ),
    b'data: {"choices":[{"index":0,"text":"","finish_reason":"stop"}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}\n\n',
    DONE,
]
ROUTES: dict[str, tuple[list[bytes], dict[str, Any]]] = {
    "text": (TEXT, {}),
    "details": (TEXT, {"details": True}),
    "chat": (CHAT, {"chat": True}),
    "chat without DONE": (WITHOUT_DONE, {"chat": True}),
    "completions": (COMPLETION, {"url": URL + "/v1/completions", "details": True}),
}
EACH = pytest.mark.parametrize("route", ROUTES)


def keeping(events: Sequence[bytes], cuts: Sequence[int], *, chunk_size: int = 10**9) -> Server:
    """A server that numbers and keeps all events. Its connections are lost after `cuts` bytes, then no more."""
    kept, remaining_cuts = numbered(events), list(cuts)

    def respond(request: PreparedRequest) -> Response:
        at = int(request.headers.get("Last-Event-ID", "s:0").removeprefix("s:"))
        body = b": hello\n\n" + b"".join(kept[at:])
        end: list[Step] = []
        if remaining_cuts:
            body, end = body[: remaining_cuts.pop(0)], [LOST]
        return Response([*(body[at : at + chunk_size] for at in range(0, len(body), chunk_size)), *end])

    return respond


def undisturbed(events: Sequence[bytes], **how: Any) -> ExchangeDriver:
    return drive(keeping(events, []), **how).run()


@EACH
@pytest.mark.slow
def test_a_stream_cut_at_any_byte_is_resumed_completely(route: str) -> None:
    events, how = ROUTES[route]
    expected = undisturbed(events, **how)
    for cut in range(len(b": hello\n\n" + b"".join(numbered(events)))):
        driver = drive(keeping(events, [cut]), **how).run()
        assert driver.items == expected.items
        assert driver.result == expected.result
        assert driver.exchange.accumulator.usage == expected.exchange.accumulator.usage
        assert driver.exchange.accumulator.finish_reason == expected.exchange.accumulator.finish_reason
        assert driver.exchange.metrics.tokens == expected.exchange.metrics.tokens


@EACH
@given(cuts=st.lists(st.integers(0, 900), max_size=12), chunk_size=st.integers(1, 300))
@settings(deadline=None, max_examples=60)
@pytest.mark.slow
def test_a_stream_over_any_number_of_connections_is_resumed_completely(
    route: str, cuts: list[int], chunk_size: int
) -> None:
    events, how = ROUTES[route]
    expected = undisturbed(events, **how)
    driver = drive(keeping(events, cuts, chunk_size=chunk_size), retry=UNTIL_IT_SUCCEEDS, **how).run()
    assert driver.items == expected.items
    assert driver.result == expected.result
    assert driver.exchange.metrics.tokens == expected.exchange.metrics.tokens
    assert driver.exchange.metrics.continued == 0
    assert driver.exchange.metrics.resumed <= len(cuts)


def test_resuming_sends_the_same_request_with_the_last_event_id() -> None:
    events = numbered(TEXT)
    driver = drive(in_turn(lost(*events[:2], events[2][:30]), stream(b"".join(events[2:])))).run()
    first, second = driver.requests
    assert (second.method, second.url, second.body) == (first.method, first.url, first.body)
    assert second.headers == {**first.headers, "Last-Event-ID": "s:2"}
    assert "Last-Event-ID" not in first.headers
    assert (driver.exchange.metrics.resumed, driver.exchange.metrics.continued) == (1, 0)
    assert [(attempt.number, type(attempt.error)) for attempt in driver.exchange.attempts] == [
        (1, InferenceConnectionError),
        (2, type(None)),
    ]


@pytest.mark.parametrize(
    "how",
    [
        LOST,
        None,
        SILENCE,
        OverloadedError("Model is overloaded"),
    ],
    ids=["lost", "early end", "stalled", "overloaded"],
)
def test_every_kind_of_interruption_is_resumed(how: Exception | Silence | None) -> None:
    events = numbered(TEXT)
    driver = drive(in_turn(Response([b"".join(events[:2]), *ending(how)]), stream(b"".join(events[2:])))).run()
    assert driver.result == "Grüß 👩‍🚀 \nend"
    assert driver.exchange.metrics.resumed == 1


@EACH
def test_without_resume_nothing_is_resumed(route: str) -> None:
    events, how = ROUTES[route]
    driver = drive(keeping(events, [len(b": hello\n\n" + b"".join(numbered(events[:3])))]), resume=False, **how)
    error = driver.error()
    assert type(error) is InferenceConnectionError
    assert error.message == "connection lost"
    assert len(driver.requests) == 1
    assert driver.exchange.cancel_request() is None


def test_before_content_the_request_is_sent_anew() -> None:
    events = numbered(CHAT)
    driver = drive(in_turn(lost(events[0]), stream(b"".join(events))), chat=True).run()
    assert "Last-Event-ID" not in driver.requests[1].headers
    assert driver.exchange.metrics.resumed == 0
    assert driver.result.choices[0].message.content == "Grüß 👩‍🚀end"


def test_new_content_restarts_the_retry_limits() -> None:
    events = numbered(TEXT)
    away = error_response(503, "Service unavailable")
    answers = [part for event in events[:-1] for part in (lost(event), away)]
    driver = drive(in_turn(*answers, stream(events[-1]))).run()
    assert driver.result == "Grüß 👩‍🚀 \nend"
    assert driver.exchange.metrics.resumed == len(events) - 1
    assert len(driver.exchange.attempts) == 2 * len(events) - 1


def test_retries_end_when_no_content_comes() -> None:
    events = numbered(TEXT)
    driver = drive(in_turn(lost(*events[:2]), lost(b":\n\n"), lost(events[2][:-1]), stream()))
    error = driver.error()
    assert type(error) is InferenceConnectionError
    assert error.partial_text == "Grüß 👩‍🚀"
    assert len(driver.requests) == 3
    assert driver.exchange.metrics.resumed == 0


@pytest.mark.parametrize("retry", [None, 1, RetryPolicy(attempts=1)])
def test_a_policy_of_one_attempt_still_resumes(retry: Any) -> None:
    events = numbered(TEXT)
    answers = [lost(events[0]), lost(), lost(), stream()]
    driver = drive(in_turn(*answers), retry=RetryPolicy.of(retry))
    assert type(driver.error()) is InferenceConnectionError
    assert len(driver.requests) == RetryPolicy().attempts
    once = drive(in_turn(lost(), stream()), retry=RetryPolicy.of(retry))
    assert type(once.error()) is InferenceConnectionError
    assert len(once.requests) == 1


@pytest.mark.parametrize("how", [LOST, None, SILENCE])
@pytest.mark.parametrize(("status", "why"), [(404, "no such stream"), (410, "keeps its events from number 9 on")])
@EACH
def test_a_stream_that_is_gone_raises_with_the_loss_as_its_cause(
    how: Exception | Silence | None, status: int, why: str, route: str
) -> None:
    events, options = ROUTES[route]
    events = numbered(events)
    sampled: dict[str, Any] = (
        {"parameters": {"temperature": 0.5, "max_new_tokens": 20}} if route in ("text", "details") else {}
    )
    answers = in_turn(Response([b"".join(events[:2]), *ending(how)]), error_response(status, why))
    driver = drive(answers, **options, **sampled)
    error = driver.error()
    assert_cannot_resume(error, how)
    assert f"cannot resume: {why}; nor can a new request continue it: it is" in error.message
    assert error.partial_text == driver.exchange.accumulator.text != ""
    assert not error.retryable
    assert len(driver.requests) == 2


def test_an_error_in_the_resumed_stream_is_raised() -> None:
    events = numbered(TEXT)
    failed = b'id: s:3\ndata: {"error":"out of memory","error_type":"generation"}\n\n'
    error = drive(in_turn(lost(*events[:2]), stream(failed))).error()
    assert type(error) is GenerationError
    assert error.message == "out of memory"
    assert error.partial_text == "Grüß 👩‍🚀"


def test_an_HTML_page_instead_of_the_rest_raises_with_the_loss_as_its_cause() -> None:
    events = numbered(TEXT)
    page = Response([b"<html>Sign in</html>"], 200, {"content-type": "text/html"})
    error = drive(in_turn(lost(*events[:2]), page)).error()
    assert_cannot_resume(error, LOST)
    assert "Sign in" in error.message


def test_a_missing_usage_is_not_an_error() -> None:
    events = numbered(CHAT)
    for answer in (error_response(404, "no such stream"), error_response(500, "broken")):
        driver = drive(in_turn(lost(*events[:6]), answer), chat=True).run()
        assert driver.result.choices[0].finish_reason == "stop"
        assert driver.result.usage is None
        assert driver.exchange.complete
        assert len(driver.requests) == 2
    driver = drive(in_turn(lost(*events[:6]), lost(), lost()), chat=True).run()
    assert driver.exchange.complete
    unnumbered = drive(in_turn(lost(*CHAT[:6])), chat=True).run()
    assert unnumbered.result.choices[0].finish_reason == "stop"


def test_the_total_limit_spans_resumes() -> None:
    events = numbered(TEXT)
    slowly = RetryPolicy(attempts=9, wait=tenacity.wait_fixed(10))
    driver = drive(in_turn(lost(events[0]), lost(events[1]), stream()), retry=slowly, timeouts=Timeouts(total=15))
    error = driver.error()
    assert type(error) is InferenceConnectionError
    assert error.partial_text == "Grüß 👩‍🚀"
    assert len(driver.requests) == 2
    late = Timeouts(total=15, first_token=30, between_tokens=30)
    silent = stream(events[1], SILENCE)
    driver = drive(in_turn(lost(events[0]), silent, stream()), retry=slowly, timeouts=late)
    ended = driver.error()
    assert isinstance(ended, InferenceTimeoutError)
    assert ended.phase == "total"
    assert ended.partial_text == "Grüß 👩‍🚀"
    assert driver.clock.now == 15


# --- Cancelling --------------------------------------------------------------------------------------------------


def begun(*events: bytes, **how: Any) -> Exchange[Any, Any]:
    exchange = drive(in_turn(), **how).exchange
    exchange.next_request()
    exchange.receive_headers(200, SSE)
    exchange.feed(b"".join(events))
    return exchange


def test_closing_a_resumable_stream_sends_one_DELETE() -> None:
    exchange = begun(*numbered(TEXT)[:2])
    call = exchange.cancel_request()
    assert call is not None
    assert (call.method, call.url, call.body) == ("DELETE", exchange.spec.url, None)
    assert call.headers["Last-Event-ID"] == "s:2"
    assert call.headers["Authorization"] == "Bearer t"
    assert exchange.cancel_request() is None


def test_no_DELETE_is_sent_where_no_server_keeps_the_stream() -> None:
    assert begun(*numbered(TEXT)[:2], resume=False).cancel_request() is None
    assert begun(*TEXT[:2]).cancel_request() is None
    assert begun(*numbered(TEXT)).cancel_request() is None
    assert drive(in_turn()).exchange.cancel_request() is None


def test_a_DELETE_is_sent_for_a_stream_that_is_being_resumed() -> None:
    exchange = begun(*numbered(TEXT)[:3])
    exchange.handle_error(InferenceConnectionError("lost"))
    exchange.next_request()
    call = exchange.cancel_request()
    assert call is not None
    assert call.headers["Last-Event-ID"] == "s:3"


# --- By a new request with the text so far ------------------------------------------------------------------------

PLAIN = [token_event(1, "a"), token_event(2, " b"), token_event(3, "c")]
REST = [token_event(1, "d"), final_event(2, "e", "de")]
PROMPT, SO_FAR = tokenized(7, 8), tokenized(7, 8, 101, 102, 103)


@pytest.mark.parametrize("details", [True, False])
def test_a_server_without_ids_is_probed_and_asked_for_the_rest(details: bool) -> None:
    driver = drive(in_turn(lost(*PLAIN), PROMPT, SO_FAR, stream(b"".join(REST))), details=details).run()
    assert driver.methods == ["POST /generate_stream", "POST /tokenize", "POST /tokenize", "POST /generate_stream"]
    assert (driver.body(1), driver.body(2)) == ({"inputs": "p"}, {"inputs": "pa bc"})
    first, last = driver.body(0), driver.body(3)
    assert last["inputs"] == "pa bc"
    assert last["parameters"] == {**first["parameters"], "max_new_tokens": 17, "return_full_text": False}
    assert "Prefer" not in driver.requests[1].headers
    assert driver.requests[1].headers["Authorization"] == "Bearer t"
    assert (driver.exchange.metrics.resumed, driver.exchange.metrics.continued) == (1, 1)
    assert driver.exchange.metrics.tokens == 5
    usage = driver.exchange.accumulator.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (2, 5)
    if details:
        assert [item.index for item in driver.items] == [1, 2, 3, 4, 5]
        assert driver.result.generated_text == "a bcde"
        assert driver.result.details.generated_tokens == 5
        assert driver.items[-1].details.input_length == 2
    else:
        assert driver.items == ["a", " b", "c", "d", "e"]
        assert driver.result == "a bcde"


def test_the_full_text_has_the_prompt_once() -> None:
    full = {**GREEDY, "return_full_text": True}
    driver = drive(in_turn(lost(*PLAIN), PROMPT, SO_FAR, stream(b"".join(REST))), parameters=full).run()
    assert driver.result == "pa bcde"
    assert driver.body(3)["parameters"]["return_full_text"] is False


def test_a_second_loss_continues_from_all_of_the_text() -> None:
    again = tokenized(7, 8, 101, 102, 103, 101)
    rest = stream(b"".join([token_event(1, "x"), final_event(2, "y", "xy")]))
    driver = drive(in_turn(lost(*PLAIN), PROMPT, SO_FAR, lost(REST[0]), PROMPT, again, rest), details=True).run()
    assert [item.index for item in driver.items] == [1, 2, 3, 4, 5, 6]
    assert driver.result.generated_text == "a bcdxy"
    assert driver.result.details.generated_tokens == 6
    assert driver.body(5) == {"inputs": "pa bcd"}
    assert driver.body(6)["parameters"]["max_new_tokens"] == 16
    assert (driver.exchange.metrics.resumed, driver.exchange.metrics.continued) == (2, 2)


def test_a_continuation_that_is_lost_before_content_is_retried() -> None:
    driver = drive(
        in_turn(lost(*PLAIN), PROMPT, SO_FAR, lost(), PROMPT, SO_FAR, stream(b"".join(REST))), retry=UNTIL_IT_SUCCEEDS
    )
    assert driver.run().result == "a bcde"
    assert driver.exchange.metrics.resumed == 1


@pytest.mark.parametrize(
    "failure", [lost(), lost(b"[{"), error_response(503, "busy"), error_response(429, "Model is overloaded")]
)
@pytest.mark.parametrize("at", [0, 1])
def test_an_interrupted_probe_is_sent_again(failure: Response, at: int) -> None:
    questions = [PROMPT, SO_FAR]
    answers = [*questions[:at], failure, *questions[at:]]
    driver = drive(in_turn(lost(*PLAIN), *answers, stream(b"".join(REST)))).run()
    assert driver.result == "a bcde"
    assert driver.methods[1:4] == ["POST /tokenize"] * 3
    assert driver.body(1 + at) == driver.body(2 + at)


def test_retries_end_at_the_probes_too() -> None:
    driver = drive(in_turn(lost(*PLAIN), lost(), lost(), stream()))
    error = driver.error()
    assert type(error) is InferenceConnectionError
    assert error.partial_text == "a bc"
    assert driver.methods[1:] == ["POST /tokenize"] * 2


UNSOUND: dict[str, tuple[dict[str, Any], str]] = {
    "sampled": ({"do_sample": True}, "sampled"),
    "by temperature": ({"temperature": 0.5}, "sampled"),
    "by top_k": ({"top_k": 3}, "sampled"),
    "by top_p": ({"top_p": 0.9}, "sampled"),
    "by typical_p": ({"typical_p": 0.9}, "sampled"),
    "no budget": ({"max_new_tokens": None}, "max_new_tokens"),
    "grammar": ({"grammar": {"type": "regex", "value": "a*"}}, "grammar"),
    "truncated": ({"truncate": 5}, "truncate"),
    "watermark": ({"watermark": True}, "watermark"),
    "top tokens": ({"top_n_tokens": 2}, "top_n_tokens"),
    "stop begun": ({"stop": ["xyz", "bcd"]}, "stop string"),
    "stop begun by one letter": ({"stop": ["cat"]}, "stop string"),
}


@pytest.mark.parametrize("case", UNSOUND)
@pytest.mark.parametrize("how", [LOST, None], ids=["lost", "early end"])
def test_an_answer_that_might_continue_differently_is_not_continued(case: str, how: Exception | Silence | None) -> None:
    parameters, why = UNSOUND[case]
    driver = drive(in_turn(Response([b"".join(PLAIN), *ending(how)])), parameters={**GREEDY, **parameters})
    error = driver.error()
    assert_cannot_resume(error, how)
    assert "cannot resume" in error.message
    assert why in error.message
    assert error.partial_text == "a bc"
    assert len(driver.requests) == 1


@pytest.mark.parametrize(
    "parameters", [{"stop": ["abc", "x"]}, {"do_sample": False}, {"temperature": 1.0}, {"seed": 3}]
)
def test_an_answer_that_cannot_continue_differently_is_continued(parameters: dict[str, Any]) -> None:
    driver = drive(
        in_turn(lost(*PLAIN), PROMPT, SO_FAR, stream(b"".join(REST))), parameters={**GREEDY, **parameters}
    ).run()
    assert driver.result == "a bcde"


def test_extra_body_counts_too() -> None:
    sampled = drive(in_turn(lost(*PLAIN)), extra_body={"parameters": {"temperature": 2.0}})
    assert "sampled" in sampled.error().message
    other = drive(in_turn(lost(*PLAIN)), extra_body={"inputs": "another prompt"})
    assert "cannot resume" in other.error().message
    more = drive(in_turn(lost(*PLAIN)), extra_body={"adapter": "pirate"})
    assert "more than a prompt" in more.error().message


@pytest.mark.parametrize(
    "found",
    [
        tokenized(7, 8),
        tokenized(7, 9, 101, 102, 103),
        tokenized(7, 8, 101, 104),
        tokenized(7, 8, 101, 102, 103, 104),
        tokenized(),
    ],
)
@pytest.mark.parametrize("how", [LOST, None, SILENCE])
def test_a_text_that_is_tokenized_differently_is_not_continued(
    found: Response, how: Exception | Silence | None
) -> None:
    driver = drive(in_turn(Response([b"".join(PLAIN), *ending(how)]), PROMPT, found))
    error = driver.error()
    assert_cannot_resume(error, how)
    assert "differently from how it was generated" in error.message
    assert error.partial_text == "a bc"
    assert not error.retryable
    assert len(driver.requests) == 3


def test_special_tokens_in_the_text_prevent_a_continuation() -> None:
    driver = drive(in_turn(lost(*PLAIN, token_event(4, "<tool>", special=True)), PROMPT, SO_FAR))
    assert "differently from how it was generated" in driver.error().message


@pytest.mark.parametrize("status", [404, 405, 401, 422])
def test_a_server_without_tokenize_prevents_a_continuation(status: int) -> None:
    driver = drive(in_turn(lost(*PLAIN), error_response(status, "not here")))
    error = driver.error()
    assert_cannot_resume(error, LOST)
    assert "not here" in error.message
    assert error.partial_text == "a bc"
    assert len(driver.requests) == 2


@pytest.mark.parametrize("body", [b"{}", b"<html>", b'{"tokens":[1]}', b""])
def test_a_probe_answered_with_something_else_prevents_a_continuation(body: bytes) -> None:
    driver = drive(in_turn(lost(*PLAIN), Response([body], 200, JSON)))
    error = driver.error()
    assert_cannot_resume(error, LOST)
    assert "cannot resume" in error.message


def test_a_refused_continuation_quotes_the_refusal() -> None:
    invalid = error_response(422, "inputs tokens + max_new_tokens must be <= 9", error_type="validation")
    error = drive(in_turn(lost(*PLAIN), PROMPT, SO_FAR, invalid)).error()
    assert_cannot_resume(error, LOST)
    assert "must be <= 9" in error.message
    in_a_200 = stream(b'data: {"error":"Input validation error: no","error_type":"validation"}\n\n')
    error = drive(in_turn(lost(*PLAIN), PROMPT, SO_FAR, in_a_200)).error()
    assert not isinstance(error, ValidationError)
    assert "Input validation error" in error.message


@pytest.mark.parametrize("chat", [True, False])
def test_only_TGI_servers_are_asked_for_a_continuation(chat: bool) -> None:
    if chat:
        driver = drive(in_turn(lost(chat_event("a"))), chat=True)
    else:
        driver = drive(in_turn(lost(COMPLETION[0])), url=URL + "/v1/completions")
    error = driver.error()
    assert_cannot_resume(error, LOST)
    assert "sends no event ids" in error.message
    assert error.partial_text == "a"


def test_a_continuation_with_event_ids_is_resumed_by_them() -> None:
    rest = numbered([token_event(1, "d"), token_event(2, "e"), final_event(3, "f", "def")], "t")
    driver = drive(in_turn(lost(*PLAIN), PROMPT, SO_FAR, lost(*rest[:2]), stream(rest[2])), details=True).run()
    assert driver.requests[4].headers["Last-Event-ID"] == "t:2"
    assert [item.index for item in driver.items] == [1, 2, 3, 4, 5, 6]
    assert driver.result.generated_text == "a bcdef"


# --- By a new request, after a reconnect in vain ---------------------------------------------------------------------

NUMBERED = numbered(PLAIN)
GONE = {
    "404": error_response(404, "no such stream"),
    "410": error_response(410, "keeps its events from number 9 on"),
    "an HTML page with status 404": Response([b"<html>Not found</html>"], 404, {"content-type": "text/html"}),
    "begun again": stream(b"".join(NUMBERED)),
    "begun again without ids": stream(b"".join(PLAIN)),
}
IN_VAIN = pytest.mark.parametrize("gone", GONE.values(), ids=GONE)


@IN_VAIN
@pytest.mark.parametrize("details", [True, False])
def test_a_stream_whose_events_are_gone_is_continued_from_its_text(gone: Response, details: bool) -> None:
    seen: list[float] = []
    policy = RetryPolicy(attempts=2, wait=tenacity.wait_fixed(3), before_sleep=lambda state: seen.append(1))
    answers = in_turn(lost(*NUMBERED), gone, PROMPT, SO_FAR, stream(b"".join(REST)))
    driver = drive(answers, details=details, retry=policy).run()
    assert driver.methods == ["POST /generate_stream"] * 2 + ["POST /tokenize"] * 2 + ["POST /generate_stream"]
    assert driver.requests[1].headers["Last-Event-ID"] == "s:3"
    assert not any("Last-Event-ID" in request.headers for request in driver.requests[2:])
    assert driver.requests[4].headers == driver.requests[0].headers
    assert driver.body(4)["inputs"] == "pa bc"
    assert driver.body(4)["parameters"]["max_new_tokens"] == 17
    if details:
        assert [item.index for item in driver.items] == [1, 2, 3, 4, 5]
        assert driver.result.generated_text == "a bcde"
        assert driver.result.details.generated_tokens == 5
    else:
        assert driver.items == ["a", " b", "c", "d", "e"]
        assert driver.result == "a bcde"
    metrics = driver.exchange.metrics
    assert (metrics.tokens, metrics.resumed, metrics.continued) == (5, 1, 1)
    attempts = driver.exchange.attempts
    assert [attempt.delay for attempt in attempts] == [0, 3, 0, 0, 0]  # the policy's wait is for the reconnect only
    assert len(seen) == 1
    assert [attempt.status_code for attempt in attempts] == [200, gone.status, 200, 200, 200]
    assert [attempt.error is None for attempt in attempts] == [False, False, True, True, True]
    assert driver.exchange.cancel_request() is None


@IN_VAIN
@pytest.mark.parametrize("case", UNSOUND)
def test_a_stream_whose_events_are_gone_and_that_might_continue_differently_is_not_continued(
    case: str, gone: Response
) -> None:
    parameters, why = UNSOUND[case]
    driver = drive(in_turn(lost(*NUMBERED), gone), parameters={**GREEDY, **parameters})
    error = driver.error()
    assert_cannot_resume(error, LOST)
    assert "nor can a new request continue it: it" in error.message
    assert why in error.message
    assert error.partial_text == "a bc"
    assert len(driver.requests) == 2


def test_a_continuation_after_a_reconnect_in_vain_needs_the_same_tokens() -> None:
    driver = drive(in_turn(lost(*NUMBERED), GONE["404"], PROMPT, tokenized(7, 8, 101, 104)))
    error = driver.error()
    assert_cannot_resume(error, LOST)
    assert "differently from how it was generated" in error.message
    assert error.partial_text == "a bc"


def test_probes_after_a_reconnect_in_vain_are_retried_without_another_reconnect() -> None:
    busy = error_response(429, "Model is overloaded")
    answers = in_turn(lost(*NUMBERED), GONE["410"], lost(), PROMPT, busy, SO_FAR, lost(), PROMPT, SO_FAR, busy)
    driver = drive(answers, retry=RetryPolicy(attempts=5, wait=tenacity.wait_none()))
    assert type(driver.error()) is OverloadedError
    assert sum("Last-Event-ID" in request.headers for request in driver.requests) == 1
    assert driver.exchange.metrics.resumed == 0


def test_each_way_is_taken_again_after_another_loss() -> None:
    rest = numbered([token_event(1, "d"), token_event(2, "e"), final_event(3, "f", "def")], "t")
    so_far = tokenized(7, 8, 101, 102, 103, 101, 102)
    last = stream(final_event(1, "f", "f"))
    gone = GONE["404"]
    answers = in_turn(lost(*NUMBERED), gone, PROMPT, SO_FAR, lost(rest[0]), lost(rest[1]), gone, PROMPT, so_far, last)
    driver = drive(answers, details=True).run()
    ids = [request.headers.get("Last-Event-ID") for request in driver.requests]
    assert ids == [None, "s:3", None, None, None, "t:1", "t:2", None, None, None]
    assert driver.requests[5].body == driver.requests[4].body
    assert [item.index for item in driver.items] == [1, 2, 3, 4, 5, 6]
    assert driver.result.generated_text == "a bcdef"
    metrics = driver.exchange.metrics
    assert (metrics.tokens, metrics.resumed, metrics.continued) == (6, 3, 2)


def test_only_the_answer_to_a_reconnect_tells_that_events_are_gone() -> None:
    failed = stream(b'data: {"error":"not any more","error_type":"x","code":404}\n\n')
    for answer in (failed, error_response(403, "no"), error_response(422, "no"), error_response(500, "no")):
        driver = drive(in_turn(lost(*NUMBERED), answer))
        assert "no" in driver.error().message
        assert len(driver.requests) == 2
    after_content = numbered([token_event(1, "d")], "t")[0] + b'data: {"error":"gone","code":410}\n\n'
    driver = drive(in_turn(lost(*NUMBERED), stream(after_content)))
    assert driver.error().partial_text == "a bcd"
    assert len(driver.requests) == 2


def test_the_total_limit_ends_a_continuation_too() -> None:
    answers = in_turn(lost(*NUMBERED), Response([16.0], 404), SILENCE)
    driver = drive(answers, timeouts=Timeouts(total=15))
    error = driver.error()
    assert isinstance(error, InferenceTimeoutError)
    assert error.phase == "total"
    assert error.partial_text == "a bc"


def test_a_DELETE_is_sent_for_a_continuation_with_event_ids() -> None:
    rest = numbered(REST, "t")
    driver = drive(in_turn(lost(*NUMBERED), GONE["404"], PROMPT, SO_FAR))
    for _ in range(4):
        driver.step()
    exchange = driver.exchange
    exchange.next_request()
    exchange.receive_headers(200, SSE)
    exchange.feed(rest[0])
    call = exchange.cancel_request()
    assert call is not None
    assert call.headers["Last-Event-ID"] == "t:1"
