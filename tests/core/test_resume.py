"""How an exchange comes back to an answer that was lost: a clock that stands, and servers that are functions."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st

from hfstream.core.chat_completion import chat_completion
from hfstream.core.exchange import Exchange
from hfstream.core.request_spec import RequestSpec
from hfstream.core.retry import BURST, MAX_INTERVAL, RetryPacer, RetryPolicy
from hfstream.core.stream_decoders import TGIStreamDecoder
from hfstream.core.text_generation import text_generation
from hfstream.core.timeouts import Timeouts
from hfstream.core.urls import text_generation_endpoint
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

URL = "http://host:8080"
AT_ONCE = RetryPolicy(attempts=3, wait=tenacity.wait_none())
EVER = RetryPolicy(stop=tenacity.stop_never, wait=tenacity.wait_none())
SSE = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
LOST = InferenceConnectionError("connection lost")


def given_up(error: InferenceError, lost: Exception | None) -> None:
    """An answer that could not be gone on with: it is incomplete, and why is its cause."""
    assert type(error) is IncompleteStreamError
    assert type(error.__cause__) is (type(lost) if lost else IncompleteStreamError)
    assert not error.retryable
    if isinstance(error.__cause__, InferenceTimeoutError):
        assert error.__cause__.phase == "between_tokens"


GREEDY: dict[str, Any] = {"max_new_tokens": 20}


@dataclass
class Response:
    """What comes: bytes, and then the body's end, or a failure."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: dict(SSE))
    end: Exception | None = None
    pieces: int = 10**9


def lost(*events: bytes, how: Exception = LOST) -> Response:
    return Response(b"".join(events), end=how)


def refusal(status: int, message: str, **more: str) -> Response:
    return Response(json.dumps({"error": message, **more}).encode(), status, dict(JSON))


def tokens(*found: int) -> Response:
    spans = [{"id": token, "text": "x", "start": 0, "stop": 1} for token in found]
    return Response(json.dumps(spans).encode(), 200, dict(JSON))


def numbered(events: Sequence[bytes], stream: str = "s") -> list[bytes]:
    return [b"id: %b:%d\n%b" % (stream.encode(), at, event) for at, event in enumerate(events, 1)]


Server = Callable[[RequestSpec[Any, Any, Any]], Response]


def playing(*answers: Response) -> Server:
    """One after the other."""
    rest = list(answers)
    return lambda call: rest.pop(0)


class Talk:
    """One exchange and its driver: wait, send, read."""

    def __init__(
        self,
        server: Server,
        *,
        chat: bool = False,
        details: bool = False,
        resume: bool = True,
        retry: RetryPolicy = AT_ONCE,
        timeouts: Timeouts = Timeouts(),  # noqa: B008  immutable
        parameters: dict[str, Any] | None = None,
        extra_body: dict[str, Any] | None = None,
        url: str = URL,
        budget: RetryPacer | None = None,
        streamed: bool = True,
    ) -> None:
        self.now = 100.0
        self.asked: list[RequestSpec[Any, Any, Any]] = []
        self.items: list[Any] = []
        self._server = server
        headers = {"Authorization": "Bearer t", "Prefer": "resumable", "Accept": "text/event-stream"}
        told = parameters if parameters is not None else {} if chat else GREEDY
        if chat:
            call = chat_completion(
                url, "m", [{"role": "user", "content": "p"}], told, stream=True, headers=headers, resume=resume
            )
        else:
            target = text_generation_endpoint(url, stream=streamed)
            call = text_generation(
                target,
                "p",
                told,
                stream=streamed,
                details=details,
                headers=headers,
                extra_body=extra_body,
                resume=resume,
            )
        self.exchange: Exchange[Any, Any] = Exchange(
            call, retry=retry, timeouts=timeouts, budget=budget, clock=lambda: self.now
        )

    def run(self) -> Talk:
        while not self.exchange.over:
            self.now += self.exchange.delay
            call = self.exchange.ask()
            self.asked.append(call)
            try:
                self._read(self._server(call))
            except InferenceError as error:
                self.exchange.forgive(error)
        return self

    def _read(self, answer: Response) -> None:
        exchange = self.exchange
        exchange.begin(answer.status, answer.headers)
        for start in range(0, len(answer.body), answer.pieces):
            if not exchange.hungry:
                break
            self.items += exchange.feed(answer.body[start : start + answer.pieces])
        if answer.end is not None and exchange.hungry:
            if isinstance(answer.end, InferenceTimeoutError):
                self.now = exchange.deadline.at
            raise answer.end
        self.items += exchange.finish()

    def error(self) -> InferenceError:
        with pytest.raises(InferenceError) as caught:
            self.run()
        assert self.exchange.over
        return caught.value

    @property
    def final(self) -> Any:
        return self.exchange.transcript.final()

    @property
    def methods(self) -> list[str]:
        return [f"{call.method} {call.url.removeprefix(URL)}" for call in self.asked]

    def body(self, at: int) -> Any:
        return json.loads(self.asked[at].body or b"")


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


def keeping(events: Sequence[bytes], cuts: Sequence[int], *, pieces: int = 10**9) -> Server:
    """A server that numbers and keeps everything; its connections are lost after so many bytes each, then no more."""
    said, left = numbered(events), list(cuts)

    def answer(call: RequestSpec[Any, Any, Any]) -> Response:
        at = int(call.headers.get("Last-Event-ID", "s:0").removeprefix("s:"))
        body = b": hello\n\n" + b"".join(said[at:])
        if not left:
            return Response(body, pieces=pieces)
        return Response(body[: left.pop(0)], pieces=pieces, end=LOST)

    return answer


def undisturbed(events: Sequence[bytes], **how: Any) -> Talk:
    return Talk(keeping(events, []), **how).run()


@EACH
def test_a_stream_cut_at_any_byte_is_the_same_stream(route: str) -> None:
    events, how = ROUTES[route]
    expected = undisturbed(events, **how)
    for cut in range(len(b": hello\n\n" + b"".join(numbered(events)))):
        talk = Talk(keeping(events, [cut]), **how).run()
        assert talk.items == expected.items
        assert talk.final == expected.final
        assert talk.exchange.transcript.usage == expected.exchange.transcript.usage
        assert talk.exchange.transcript.finish_reason == expected.exchange.transcript.finish_reason
        assert talk.exchange.metrics.tokens == expected.exchange.metrics.tokens


@EACH
@given(cuts=st.lists(st.integers(0, 900), max_size=12), pieces=st.integers(1, 300))
@settings(deadline=None, max_examples=60)
def test_a_stream_cut_into_any_connections_is_the_same_stream(route: str, cuts: list[int], pieces: int) -> None:
    events, how = ROUTES[route]
    expected = undisturbed(events, **how)
    talk = Talk(keeping(events, cuts, pieces=pieces), retry=EVER, **how).run()
    assert talk.items == expected.items
    assert talk.final == expected.final
    assert talk.exchange.metrics.tokens == expected.exchange.metrics.tokens
    assert talk.exchange.metrics.continued == 0
    assert talk.exchange.metrics.resumed <= len(cuts)


def test_the_same_request_is_sent_again_with_the_last_id() -> None:
    events = numbered(TEXT)
    talk = Talk(playing(lost(*events[:2], events[2][:30]), Response(b"".join(events[2:])))).run()
    first, second = talk.asked
    assert (second.method, second.url, second.body) == (first.method, first.url, first.body)
    assert second.headers == {**first.headers, "Last-Event-ID": "s:2"}
    assert "Last-Event-ID" not in first.headers
    assert (talk.exchange.metrics.resumed, talk.exchange.metrics.continued) == (1, 0)
    assert [(attempt.number, type(attempt.error)) for attempt in talk.exchange.attempts] == [
        (1, InferenceConnectionError),
        (2, type(None)),
    ]


@pytest.mark.parametrize(
    "how",
    [
        LOST,
        None,
        InferenceTimeoutError("nothing", phase="between_tokens"),
        OverloadedError("Model is overloaded"),
    ],
    ids=["lost", "early end", "stalled", "overloaded"],
)
def test_what_an_interruption_is(how: Exception | None) -> None:
    events = numbered(TEXT)
    talk = Talk(playing(Response(b"".join(events[:2]), end=how), Response(b"".join(events[2:])))).run()
    assert talk.final == "Grüß 👩‍🚀 \nend"
    assert talk.exchange.metrics.resumed == 1


@EACH
def test_nothing_is_resumed_without_being_asked(route: str) -> None:
    events, how = ROUTES[route]
    talk = Talk(keeping(events, [len(b": hello\n\n" + b"".join(numbered(events[:3])))]), resume=False, **how)
    error = talk.error()
    assert type(error) is InferenceConnectionError
    assert error.message == "connection lost"
    assert len(talk.asked) == 1
    assert talk.exchange.farewell() is None


def test_before_the_first_content_it_is_a_new_question() -> None:
    events = numbered(CHAT)
    talk = Talk(playing(lost(events[0]), Response(b"".join(events))), chat=True).run()
    assert "Last-Event-ID" not in talk.asked[1].headers
    assert talk.exchange.metrics.resumed == 0
    assert talk.final.choices[0].message.content == "Grüß 👩‍🚀end"


def test_new_content_starts_patience_anew() -> None:
    events = numbered(TEXT)
    away = refusal(503, "Service unavailable")
    answers = [part for event in events[:-1] for part in (lost(event), away)]
    talk = Talk(playing(*answers, Response(events[-1]))).run()
    assert talk.final == "Grüß 👩‍🚀 \nend"
    assert talk.exchange.metrics.resumed == len(events) - 1
    assert len(talk.exchange.attempts) == 2 * len(events) - 1


def test_patience_ends_where_no_content_comes() -> None:
    events = numbered(TEXT)
    talk = Talk(playing(lost(*events[:2]), lost(b":\n\n"), lost(events[2][:-1]), Response()))
    error = talk.error()
    assert type(error) is InferenceConnectionError
    assert error.partial_text == "Grüß 👩‍🚀"
    assert len(talk.asked) == 3
    assert talk.exchange.metrics.resumed == 0


@pytest.mark.parametrize("retry", [None, 1, RetryPolicy(attempts=1)])
def test_with_one_attempt_a_lost_stream_is_come_back_to_all_the_same(retry: Any) -> None:
    events = numbered(TEXT)
    answers = [lost(events[0]), lost(), lost(), Response()]
    talk = Talk(playing(*answers), retry=RetryPolicy.of(retry))
    assert type(talk.error()) is InferenceConnectionError
    assert len(talk.asked) == RetryPolicy().attempts
    once = Talk(playing(lost(), Response()), retry=RetryPolicy.of(retry))
    assert type(once.error()) is InferenceConnectionError
    assert len(once.asked) == 1


@pytest.mark.parametrize("how", [LOST, None, InferenceTimeoutError("nothing", phase="between_tokens")])
@pytest.mark.parametrize(("status", "why"), [(404, "no such stream"), (410, "keeps its events from number 9 on")])
def test_a_stream_that_is_gone_is_the_error_that_lost_it(how: Exception | None, status: int, why: str) -> None:
    events = numbered(TEXT)
    talk = Talk(playing(Response(b"".join(events[:2]), end=how), refusal(status, why)))
    error = talk.error()
    given_up(error, how)
    assert "cannot be gone on with" in error.message
    assert why in error.message
    assert error.partial_text == "Grüß 👩‍🚀"
    assert not error.retryable
    assert len(talk.asked) == 2


def test_an_error_that_the_resumed_stream_tells_is_its_error() -> None:
    events = numbered(TEXT)
    failed = b'id: s:3\ndata: {"error":"out of memory","error_type":"generation"}\n\n'
    error = Talk(playing(lost(*events[:2]), Response(failed))).error()
    assert type(error) is GenerationError
    assert error.message == "out of memory"
    assert error.partial_text == "Grüß 👩‍🚀"


def test_a_page_in_place_of_the_rest_is_the_error_that_lost_it() -> None:
    events = numbered(TEXT)
    page = Response(b"<html>Sign in</html>", 200, {"content-type": "text/html"})
    error = Talk(playing(lost(*events[:2]), page)).error()
    given_up(error, LOST)
    assert "Sign in" in error.message


def test_the_usage_is_not_worth_an_error() -> None:
    events = numbered(CHAT)
    for answer in (refusal(404, "no such stream"), refusal(500, "broken")):
        talk = Talk(playing(lost(*events[:6]), answer), chat=True).run()
        assert talk.final.choices[0].finish_reason == "stop"
        assert talk.final.usage is None
        assert talk.exchange.answered
        assert len(talk.asked) == 2
    talk = Talk(playing(lost(*events[:6]), lost(), lost()), chat=True).run()
    assert talk.exchange.answered
    unnumbered = Talk(playing(lost(*CHAT[:6])), chat=True).run()
    assert unnumbered.final.choices[0].finish_reason == "stop"


def test_the_total_spans_all_of_it() -> None:
    events = numbered(TEXT)
    slowly = RetryPolicy(attempts=9, wait=tenacity.wait_fixed(10))
    talk = Talk(playing(lost(events[0]), lost(events[1]), Response()), retry=slowly, timeouts=Timeouts(total=15))
    error = talk.error()
    assert type(error) is InferenceConnectionError
    assert error.partial_text == "Grüß 👩‍🚀"
    assert len(talk.asked) == 2
    late = Timeouts(total=15, first_token=30, between_tokens=30)
    silent = Response(events[1], end=InferenceTimeoutError("nothing", phase="between_tokens"))
    talk = Talk(playing(lost(events[0]), silent, Response()), retry=slowly, timeouts=late)
    ended = talk.error()
    assert isinstance(ended, InferenceTimeoutError)
    assert ended.phase == "total"
    assert ended.partial_text == "Grüß 👩‍🚀"
    assert talk.now == 115


# --- Saying goodbye --------------------------------------------------------------------------------------------------


def begun(*events: bytes, **how: Any) -> Exchange[Any, Any]:
    exchange = Talk(playing(), **how).exchange
    exchange.ask()
    exchange.begin(200, SSE)
    exchange.feed(b"".join(events))
    return exchange


def test_a_stream_that_is_given_up_is_taken_leave_of_once() -> None:
    exchange = begun(*numbered(TEXT)[:2])
    call = exchange.farewell()
    assert call is not None
    assert (call.method, call.url, call.body) == ("DELETE", exchange.call.url, None)
    assert call.headers["Last-Event-ID"] == "s:2"
    assert call.headers["Authorization"] == "Bearer t"
    assert exchange.farewell() is None


def test_there_is_nothing_to_take_leave_of_where_nobody_waits() -> None:
    assert begun(*numbered(TEXT)[:2], resume=False).farewell() is None
    assert begun(*TEXT[:2]).farewell() is None
    assert begun(*numbered(TEXT)).farewell() is None
    assert Talk(playing()).exchange.farewell() is None


def test_a_stream_is_taken_leave_of_while_it_is_being_come_back_to() -> None:
    exchange = begun(*numbered(TEXT)[:3])
    exchange.forgive(InferenceConnectionError("lost"))
    exchange.ask()
    call = exchange.farewell()
    assert call is not None
    assert call.headers["Last-Event-ID"] == "s:3"


# --- From the text so far --------------------------------------------------------------------------------------------

PLAIN = [token_event(1, "a"), token_event(2, " b"), token_event(3, "c")]
REST = [token_event(1, "d"), final_event(2, "e", "de")]
PROMPT, SO_FAR = tokens(7, 8), tokens(7, 8, 101, 102, 103)


@pytest.mark.parametrize("details", [True, False])
def test_a_plain_TGI_is_asked_how_it_reads_and_then_for_the_rest(details: bool) -> None:
    talk = Talk(playing(lost(*PLAIN), PROMPT, SO_FAR, Response(b"".join(REST))), details=details).run()
    assert talk.methods == ["POST /generate_stream", "POST /tokenize", "POST /tokenize", "POST /generate_stream"]
    assert (talk.body(1), talk.body(2)) == ({"inputs": "p"}, {"inputs": "pa bc"})
    first, last = talk.body(0), talk.body(3)
    assert last["inputs"] == "pa bc"
    assert last["parameters"] == {**first["parameters"], "max_new_tokens": 17, "return_full_text": False}
    assert "Prefer" not in talk.asked[1].headers
    assert talk.asked[1].headers["Authorization"] == "Bearer t"
    assert (talk.exchange.metrics.resumed, talk.exchange.metrics.continued) == (1, 1)
    assert talk.exchange.metrics.tokens == 5
    usage = talk.exchange.transcript.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (2, 5)
    if details:
        assert [item.index for item in talk.items] == [1, 2, 3, 4, 5]
        assert talk.final.generated_text == "a bcde"
        assert talk.final.details.generated_tokens == 5
        assert talk.items[-1].details.input_length == 2
    else:
        assert talk.items == ["a", " b", "c", "d", "e"]
        assert talk.final == "a bcde"


def test_the_full_text_begins_with_the_prompt_once() -> None:
    full = {**GREEDY, "return_full_text": True}
    talk = Talk(playing(lost(*PLAIN), PROMPT, SO_FAR, Response(b"".join(REST))), parameters=full).run()
    assert talk.final == "pa bcde"
    assert talk.body(3)["parameters"]["return_full_text"] is False


def test_a_second_loss_is_gone_on_with_from_all_of_the_text() -> None:
    again = tokens(7, 8, 101, 102, 103, 101)
    rest = Response(b"".join([token_event(1, "x"), final_event(2, "y", "xy")]))
    talk = Talk(playing(lost(*PLAIN), PROMPT, SO_FAR, lost(REST[0]), PROMPT, again, rest), details=True).run()
    assert [item.index for item in talk.items] == [1, 2, 3, 4, 5, 6]
    assert talk.final.generated_text == "a bcdxy"
    assert talk.final.details.generated_tokens == 6
    assert talk.body(5) == {"inputs": "pa bcd"}
    assert talk.body(6)["parameters"]["max_new_tokens"] == 16
    assert (talk.exchange.metrics.resumed, talk.exchange.metrics.continued) == (2, 2)


def test_a_continuation_that_is_lost_before_it_speaks_is_tried_again() -> None:
    talk = Talk(playing(lost(*PLAIN), PROMPT, SO_FAR, lost(), PROMPT, SO_FAR, Response(b"".join(REST))), retry=EVER)
    assert talk.run().final == "a bcde"
    assert talk.exchange.metrics.resumed == 1


@pytest.mark.parametrize("failure", [lost(), lost(b"[{"), refusal(503, "busy"), refusal(429, "Model is overloaded")])
@pytest.mark.parametrize("at", [0, 1])
def test_a_question_that_is_interrupted_is_asked_again(failure: Response, at: int) -> None:
    questions = [PROMPT, SO_FAR]
    answers = [*questions[:at], failure, *questions[at:]]
    talk = Talk(playing(lost(*PLAIN), *answers, Response(b"".join(REST)))).run()
    assert talk.final == "a bcde"
    assert talk.methods[1:4] == ["POST /tokenize"] * 3
    assert talk.body(1 + at) == talk.body(2 + at)


def test_patience_ends_at_the_questions_too() -> None:
    talk = Talk(playing(lost(*PLAIN), lost(), lost(), Response()))
    error = talk.error()
    assert type(error) is InferenceConnectionError
    assert error.partial_text == "a bc"
    assert talk.methods[1:] == ["POST /tokenize"] * 2


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
def test_what_might_go_on_otherwise_is_not_gone_on_with(case: str, how: Exception | None) -> None:
    parameters, why = UNSOUND[case]
    talk = Talk(playing(Response(b"".join(PLAIN), end=how)), parameters={**GREEDY, **parameters})
    error = talk.error()
    given_up(error, how)
    assert "cannot be gone on with" in error.message
    assert why in error.message
    assert error.partial_text == "a bc"
    assert len(talk.asked) == 1


@pytest.mark.parametrize(
    "parameters", [{"stop": ["abc", "x"]}, {"do_sample": False}, {"temperature": 1.0}, {"seed": 3}]
)
def test_what_cannot_go_on_otherwise_is_gone_on_with(parameters: dict[str, Any]) -> None:
    talk = Talk(
        playing(lost(*PLAIN), PROMPT, SO_FAR, Response(b"".join(REST))), parameters={**GREEDY, **parameters}
    ).run()
    assert talk.final == "a bcde"


def test_what_extra_body_asks_for_counts_too() -> None:
    sampled = Talk(playing(lost(*PLAIN)), extra_body={"parameters": {"temperature": 2.0}})
    assert "sampled" in sampled.error().message
    other = Talk(playing(lost(*PLAIN)), extra_body={"inputs": "another prompt"})
    assert "cannot be gone on with" in other.error().message
    more = Talk(playing(lost(*PLAIN)), extra_body={"adapter": "pirate"})
    assert "more than a prompt" in more.error().message


@pytest.mark.parametrize(
    "found",
    [tokens(7, 8), tokens(7, 9, 101, 102, 103), tokens(7, 8, 101, 104), tokens(7, 8, 101, 102, 103, 104), tokens()],
)
@pytest.mark.parametrize("how", [LOST, None, InferenceTimeoutError("nothing", phase="between_tokens")])
def test_a_text_that_would_be_read_otherwise_is_not_gone_on_with(found: Response, how: Exception | None) -> None:
    talk = Talk(playing(Response(b"".join(PLAIN), end=how), PROMPT, found))
    error = talk.error()
    given_up(error, how)
    assert "as other tokens" in error.message
    assert error.partial_text == "a bc"
    assert not error.retryable
    assert len(talk.asked) == 3


def test_tokens_that_are_no_text_make_it_unsound() -> None:
    talk = Talk(playing(lost(*PLAIN, token_event(4, "<tool>", special=True)), PROMPT, SO_FAR))
    assert "as other tokens" in talk.error().message


@pytest.mark.parametrize("status", [404, 405, 401, 422])
def test_a_server_that_cannot_be_asked_how_it_reads(status: int) -> None:
    talk = Talk(playing(lost(*PLAIN), refusal(status, "not here")))
    error = talk.error()
    given_up(error, LOST)
    assert "not here" in error.message
    assert error.partial_text == "a bc"
    assert len(talk.asked) == 2


@pytest.mark.parametrize("body", [b"{}", b"<html>", b'{"tokens":[1]}', b""])
def test_an_answer_that_is_no_list_of_tokens(body: bytes) -> None:
    talk = Talk(playing(lost(*PLAIN), Response(body, 200, dict(JSON))))
    error = talk.error()
    given_up(error, LOST)
    assert "cannot be gone on with" in error.message


def test_a_continuation_that_is_refused_says_so() -> None:
    invalid = refusal(422, "inputs tokens + max_new_tokens must be <= 9", error_type="validation")
    error = Talk(playing(lost(*PLAIN), PROMPT, SO_FAR, invalid)).error()
    given_up(error, LOST)
    assert "must be <= 9" in error.message
    in_a_200 = Response(b'data: {"error":"Input validation error: no","error_type":"validation"}\n\n')
    error = Talk(playing(lost(*PLAIN), PROMPT, SO_FAR, in_a_200)).error()
    assert not isinstance(error, ValidationError)
    assert "Input validation error" in error.message


@pytest.mark.parametrize("chat", [True, False])
def test_what_is_no_TGI_is_never_asked_anew(chat: bool) -> None:
    if chat:
        talk = Talk(playing(lost(chat_event("a"))), chat=True)
    else:
        talk = Talk(playing(lost(COMPLETION[0])), url=URL + "/v1/completions")
    error = talk.error()
    given_up(error, LOST)
    assert "does not number events" in error.message
    assert error.partial_text == "a"


def test_a_continuation_that_is_numbered_is_come_back_to_by_its_numbers() -> None:
    rest = numbered([token_event(1, "d"), token_event(2, "e"), final_event(3, "f", "def")], "t")
    talk = Talk(playing(lost(*PLAIN), PROMPT, SO_FAR, lost(*rest[:2]), Response(rest[2])), details=True).run()
    assert talk.asked[4].headers["Last-Event-ID"] == "t:2"
    assert [item.index for item in talk.items] == [1, 2, 3, 4, 5, 6]
    assert talk.final.generated_text == "a bcdef"


# --- The hook --------------------------------------------------------------------------------------------------------


@dataclass
class Notes:
    """What a hook was told, and what it does about it."""

    failure: BaseException | None = None
    told: list[tuple[int, float, float, type[BaseException]]] = field(
        default_factory=list[tuple[int, float, float, type[BaseException]]]
    )

    def __call__(self, state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None
        assert state.next_action is not None
        error = state.outcome.exception()
        assert error is not None
        self.told.append((state.attempt_number, state.next_action.sleep, state.upcoming_sleep, type(error)))
        if self.failure:
            raise self.failure


BUSY = refusal(429, "Model is overloaded")


def test_the_hook_is_called_before_each_wait() -> None:
    notes = Notes()
    policy = RetryPolicy(attempts=3, wait=tenacity.wait_fixed(2), before_sleep=notes)
    talk = Talk(playing(BUSY, lost(), Response(b"".join(TEXT))), retry=policy).run()
    assert notes.told == [(1, 2.0, 2.0, OverloadedError), (2, 2.0, 2.0, InferenceConnectionError)]
    assert [attempt.delay for attempt in talk.exchange.attempts] == [0.0, 2.0, 2.0]


def test_the_hook_is_not_called_where_no_wait_follows() -> None:
    notes = Notes()
    policy = RetryPolicy(attempts=2, wait=tenacity.wait_fixed(2), before_sleep=notes)
    assert type(Talk(playing(BUSY, BUSY), retry=policy).error()) is OverloadedError
    assert len(notes.told) == 1
    out_of_time = Talk(playing(BUSY), retry=policy, timeouts=Timeouts(total=1))
    assert type(out_of_time.error()) is OverloadedError
    assert type(Talk(playing(refusal(422, "bad")), retry=policy).error()) is not OverloadedError
    assert len(notes.told) == 1


@pytest.mark.parametrize("attempts", [1, 3])
def test_the_hook_is_called_on_the_way_back(attempts: int) -> None:
    notes = Notes()
    events = numbered(TEXT)
    policy = RetryPolicy(attempts=attempts, wait=tenacity.wait_fixed(2), before_sleep=notes)
    Talk(playing(lost(events[0]), lost(events[1]), Response(b"".join(events[2:]))), retry=policy).run()
    assert notes.told == [(1, 2.0, 2.0, InferenceConnectionError)] * 2


@pytest.mark.parametrize("failure", [RuntimeError("hook"), KeyboardInterrupt(), OverloadedError("hook")])
def test_a_hook_that_raises_ends_the_call(failure: BaseException) -> None:
    talk = Talk(playing(BUSY, Response(b"".join(TEXT))), retry=RetryPolicy(before_sleep=Notes(failure)))
    with pytest.raises(type(failure)) as caught:
        talk.run()
    assert caught.value is failure
    assert talk.exchange.over
    assert len(talk.asked) == 1


def test_the_hook_is_told_the_wait_that_the_budget_makes_of_it() -> None:
    notes, budget = Notes(), RetryPacer()
    for _ in range(500):
        budget.book(0.0, 100.0, overloaded=True)
    policy = RetryPolicy(wait=tenacity.wait_fixed(2), before_sleep=notes)
    talk = Talk(playing(BUSY, Response(b"".join(TEXT))), retry=policy, budget=budget).run()
    [(_, sleep, _, _)] = notes.told
    assert sleep == talk.exchange.attempts[1].delay > 2


# --- The budget ------------------------------------------------------------------------------------------------------


def test_the_first_few_retries_are_free() -> None:
    budget = RetryPacer()
    assert [budget.book(0.5, 100.0, overloaded=False) for _ in range(BURST)] == [0.5] * BURST
    assert [budget.book(0.5, 100.0, overloaded=False) for _ in range(5)][-1] > 0.5


def test_a_herd_is_spaced_out_and_nobody_is_forgotten() -> None:
    budget = RetryPacer()
    delays = [budget.book(0.5, 100.0, overloaded=True) for _ in range(1000)]
    assert delays == sorted(delays)
    gaps = [later - earlier for earlier, later in itertools.pairwise(delays[100:])]
    assert all(0 < gap <= MAX_INTERVAL + 1e-9 for gap in gaps)
    assert delays[-1] <= 0.5 + 1000 * MAX_INTERVAL


def test_one_that_was_told_to_wait_for_a_minute_is_in_nobodys_way() -> None:
    budget = RetryPacer()
    assert budget.book(60.0, 100.0, overloaded=True) == 60.0
    assert budget.book(0.1, 100.0, overloaded=True) == 0.1
    for _ in range(50):
        assert budget.book(60.0, 101.0, overloaded=False) < 62.0
    assert budget.book(0.1, 102.0, overloaded=False) == 0.1


def test_time_and_answers_make_room() -> None:
    budget = RetryPacer()
    for _ in range(1000):
        budget.book(0.0, 100.0, overloaded=True)
    assert budget.book(0.0, 100.0, overloaded=True) > 1
    assert budget.book(0.0, 100.0 + 1001 * MAX_INTERVAL, overloaded=False) == 0.0
    for _ in range(10):
        budget.answered()
    after = [budget.book(0.0, 200.0, overloaded=False) for _ in range(100)]
    assert after[-1] < 1


@given(
    st.lists(
        st.tuples(st.floats(0, 60), st.floats(0, 5), st.booleans(), st.booleans()),
        max_size=50,
    )
)
@settings(deadline=None, max_examples=100)
def test_the_budget_never_forbids_and_never_hastens(bookings: list[tuple[float, float, bool, bool]]) -> None:
    budget, now = RetryPacer(), 1000.0
    for count, (delay, passed, overloaded, answered) in enumerate(bookings, 1):
        now += passed
        booked = budget.book(delay, now, overloaded=overloaded)
        assert delay <= booked <= delay + count * MAX_INTERVAL
        if answered:
            budget.answered()


def test_a_call_whose_own_policy_allows_a_retry_has_it_in_spite_of_the_budget() -> None:
    budget = RetryPacer()
    for _ in range(5000):
        budget.book(0.0, 100.0, overloaded=True)
    talk = Talk(
        playing(BUSY, Response(b"".join(TEXT))),
        retry=RetryPolicy(attempts=2, wait=tenacity.wait_fixed(1)),
        timeouts=Timeouts(total=5),
        budget=budget,
    ).run()
    assert talk.final == "Grüß 👩‍🚀 \nend"
    assert talk.exchange.attempts[1].delay == 1.0


def test_an_answer_in_one_piece_makes_room_too() -> None:
    budget = RetryPacer()
    for _ in range(1000):
        budget.book(0.0, 100.0, overloaded=True)
    whole = Response(b'{"generated_text":"ab"}', 200, dict(JSON))
    for _ in range(10):
        Talk(playing(BUSY, whole), streamed=False, budget=budget).run()
    later = [budget.book(0.0, 1000.0, overloaded=False) for _ in range(100)]
    assert later[-1] < 1


@pytest.mark.parametrize("again", ["1", "2"])
def test_a_server_that_begins_anew_is_not_believed(again: str) -> None:
    """It numbers its events, and passes over Last-Event-ID: no token comes twice."""
    reply = TGIStreamDecoder()
    reply.feed(b"id: 1\n" + token_event(1, "a") + b"id: 2\n" + token_event(2, "b"))
    reply.resume()
    assert reply.feed(f"id: {again}\n".encode() + token_event(1, "a")) == []
    with pytest.raises(IncompleteStreamError, match="anew") as caught:
        reply.finish()
    assert not caught.value.retryable


def test_events_without_new_ids_are_not_believed_either() -> None:
    reply = TGIStreamDecoder()
    reply.feed(b"id: 1\n" + token_event(1, "a"))
    reply.resume()
    assert reply.feed(token_event(1, "a")) == []
    with pytest.raises(IncompleteStreamError, match="anew"):
        reply.finish()
