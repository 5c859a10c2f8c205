"""What it means that a stream failed: one sentence, the evidence, and what to change.

Does not depend on how requests are sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...core.sse import SSEParser
from ...errors import (
    AuthenticationError,
    IncompleteStreamError,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    NotFoundError,
    OverloadedError,
    UnexpectedResponseError,
)
from .findings import Finding, Mend, Severity
from .prober import Recorded
from .servers import GENERIC, find_between
from .words import base_url, count, duration, plain, quote, shown_url

__all__ = ["comments_in", "explain_failure", "is_page"]

_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)

_GATEWAY = frozenset({502, 504, *range(520, 528)})

LONG_SILENCE = 20.0
"""Seconds of silence after which a lost connection is likely a proxy's limit."""


@dataclass(frozen=True)
class _Failure:
    """A stream that failed, and what is known beside it."""

    recorded: Recorded
    error: InferenceError
    models: Sequence[str]
    key: bool


def explain_failure(recorded: Recorded, models: Sequence[str] = (), *, key: bool = False) -> Finding:
    """The finding for a stream that failed.

    `models` are the names that the server lists, and `key` is whether an API key was sent.
    """
    error = recorded.error
    assert error is not None  # noqa: S101  what works has nothing to explain
    failure = _Failure(recorded, error, models, key)
    if recorded.became_get:
        return _redirected(failure)
    if recorded.status in _GATEWAY:
        return _gateway(failure)
    if is_page(recorded):
        return _page(failure)
    explain = next((each for error_class, each in _EXPLANATIONS if isinstance(error, error_class)), _reported)
    return explain(failure)


def is_page(recorded: Recorded) -> bool:
    """Whether the body is HTML."""
    start = recorded.body.lstrip()[:15].lower()
    return start.startswith((b"<!doctype", b"<html"))


def comments_in(recorded: Recorded) -> int:
    """How many comments the body has: lines that begin with a colon, which servers send to keep a connection alive."""
    return sum(line.startswith(b":") for line in recorded.body.splitlines())


def _finding(summary: str, *evidence: str, mend: Sequence[Mend] = ()) -> Finding:
    return Finding("streaming", Severity.ERROR, summary, tuple(filter(None, evidence)), tuple(mend))


def _head(recorded: Recorded) -> str:
    """The head of the response, as evidence."""
    if recorded.status is None:
        return f"{recorded.url_shown}: no response"
    kind = recorded.header("content-type") or "no Content-Type"
    server = f", Server: {recorded.header('server')}" if recorded.header("server") else ""
    return f"{recorded.url_shown}: HTTP {recorded.status}, {plain(kind + server)}"


def _words(error: InferenceError) -> str:
    return f"the server's words: {quote(error.message)}"


def _so_far(recorded: Recorded) -> str:
    return f"the text so far: {quote(recorded.text)}" if recorded.text else ""


def _redirected(failure: _Failure) -> Finding:
    target = shown_url(failure.recorded.redirected_to)
    return _finding(
        "The URL redirects, and the request loses its body on the way: it becomes a GET",
        _head(failure.recorded), f"it redirects to {plain(target)}",
        mend=(Mend("the URL, here and in programs", plain(base_url(target))),),
    )  # fmt: skip


def _page(failure: _Failure) -> Finding:
    recorded = failure.recorded
    found = _TITLE.search(recorded.body.decode("utf-8", "replace"))
    title = f" {quote(found[1])}" if found else ""
    return _finding(
        f"This is a web page{title}, not a model server", _head(recorded), f"the body begins {_start(recorded)}",
        mend=(Mend("the URL: the API has another port, or a path of its own", f"{_origin(recorded)}/PATH/v1"),),
    )  # fmt: skip


def _unauthorized(failure: _Failure) -> Finding:
    recorded, error, key = failure.recorded, failure.error, failure.key
    status = error.status_code or recorded.status
    summary = (
        f"The server does not accept this API key: HTTP {status}"
        if key
        else f"The server wants an API key: HTTP {status}"
    )
    return _finding(
        summary, _head(recorded), _words(error), "an API key was sent" if key else "no API key was sent",
        mend=(Mend("the environment of this command", "export HFSTREAM_API_KEY=..."),),
    )  # fmt: skip


def _overloaded(failure: _Failure) -> Finding:
    recorded, error = failure.recorded, failure.error
    wait = error.retry_after
    asks = "it does not say when to try again" if wait is None else f"it asks to wait {wait:g} s"
    if recorded.status == 200:
        summary = f"The server is overloaded: it says so within the stream, after HTTP 200; {asks}"
    elif "loading" in error.message.lower():
        summary = f"The server is still loading its model: HTTP {recorded.status}; {asks}"
    else:
        summary = f"The server is overloaded: HTTP {recorded.status}; {asks}"
    header = recorded.header("retry-after")
    mend = (
        () if wait or recorded.status == 200 else (Mend("the server, as a header of this response", "Retry-After: 1"),)
    )
    return _finding(
        summary, _head(recorded), _words(error), f"Retry-After: {plain(header)}" if header else "no Retry-After",
        mend=mend,
    )  # fmt: skip


def _silent(failure: _Failure) -> Finding:
    recorded, error = failure.recorded, failure.error
    tokens, comments = len(recorded.arrivals), comments_in(recorded)
    waited = recorded.ended_at - (recorded.arrivals[-1] if recorded.arrivals else 0.0)
    alive = f"; {count(comments, 'keep-alive comment')} came, so the server is alive" if comments else ""
    if recorded.status is None:
        summary = (
            f"The server does not answer: it accepts the connection, and then nothing comes for {duration(waited)}"
        )
        evidence = "not even the head of a response came"
    elif getattr(error, "phase", "") == "total" and tokens and waited < recorded.ended_at / 2:
        summary = (
            f"The stream is too slow to be seen to its end: {count(tokens, 'token')} in {duration(recorded.ended_at)}"
        )
        evidence = "a longer --timeout waits longer"
    elif tokens:
        summary = f"The stream stops after {count(tokens, 'token')}: nothing more for {duration(waited)}{alive}"
        evidence = "the connection is still open: neither its end nor an error came"
    else:
        summary = f"The stream has no token: nothing for {duration(waited)} after the head{alive}"
        evidence = f"the head came after {duration(recorded.head_at)}"
    return _finding(summary, _head(recorded), evidence, _so_far(recorded), mend=_mend_silence(recorded, comments))


def _mend_silence(recorded: Recorded, comments: int) -> tuple[Mend, ...]:
    if comments or recorded.status is None:
        return ()
    between = find_between(recorded.headers) or GENERIC
    return between.unbuffered if not recorded.arrivals and recorded.status else ()


def _lost(failure: _Failure) -> Finding:
    recorded, error = failure.recorded, failure.error
    tokens = len(recorded.arrivals)
    if recorded.status is None:
        proxied = "proxy" in error.message
        summary = plain(error.message) if proxied else "The server closes the connection without a response"
        return _finding(summary[0].upper() + summary[1:], _head(recorded), "" if proxied else plain(error.message))
    silence = recorded.ended_at - (recorded.reads[-1] if recorded.reads else recorded.head_at)
    between = find_between(recorded.headers)
    mend = [*between.patient] if between and silence > LONG_SILENCE else []
    mend.append(Mend("the client, which then goes on with a lost stream", "InferenceClient(URL, resume=True)"))
    return _finding(
        f"The connection is lost after {count(tokens, 'token')}, in the middle of the stream",
        _head(recorded), f"it was lost {duration(recorded.ended_at)} after the request, {duration(silence)} after the "
        f"last byte: {plain(error.message)}",
        between.silence if between and silence > LONG_SILENCE else "", _so_far(recorded), mend=mend,
    )  # fmt: skip


def _ended(failure: _Failure) -> Finding:
    recorded, error = failure.recorded, failure.error
    tokens = len(recorded.arrivals)
    if not tokens and not _events(recorded):
        return _finding(
            "The stream is empty: HTTP 200, and then no event",
            _head(recorded), f"{count(len(recorded.body), 'byte')} of body, {plain(error.message)}",
        )  # fmt: skip
    if not tokens:
        return _finding("The stream ends without a token", _head(recorded), f"the body begins {_start(recorded)}")
    return _finding(
        f"The stream ends too early: {count(tokens, 'token')}, then neither a finish reason nor [DONE]",
        _head(recorded), "the body ends as if it were complete: many clients take the half answer for a whole one",
        _so_far(recorded),
    )  # fmt: skip


def _gateway(failure: _Failure) -> Finding:
    recorded, error = failure.recorded, failure.error
    between = find_between(recorded.headers)
    name = between.name if between else "A proxy"
    name = name[0].upper() + name[1:] if not between else name
    return _finding(
        f"{name} answers in the server's place: HTTP {recorded.status}, it gets no answer from the model server",
        _head(recorded), _words(error), f"after {duration(recorded.ended_at)}",
        mend=between.patient if between and recorded.ended_at > LONG_SILENCE else (),
    )  # fmt: skip


def _not_found(failure: _Failure) -> Finding:
    recorded, error, models = failure.recorded, failure.error, failure.models
    if models and "model" in error.message.lower():
        names = ", ".join(plain(name) for name in models[:5]) + (" ..." if len(models) > 5 else "")
        return _finding(
            "The server does not have this model", _head(recorded), _words(error), f"it lists {names}",
            mend=(Mend("this command, and the client's calls", f"--model {plain(models[0])}"),),
        )  # fmt: skip
    return _finding(
        "There is neither chat nor text generation at this URL: HTTP 404", _head(recorded), _words(error),
        mend=(Mend("the URL: a path before the API's own routes belongs to it", f"{_origin(recorded)}/PATH/v1"),),
    )  # fmt: skip


def _unexpected(failure: _Failure) -> Finding:
    recorded, error = failure.recorded, failure.error
    body = recorded.body.lstrip()
    if recorded.status == 200 and body.startswith(b"{") and (b'"choices"' in body or b'"generated_text"' in body):
        return _finding(
            "The server does not stream: it was asked to, and answers with the whole text as JSON",
            _head(recorded), f"the body begins {_start(recorded)}",
            mend=(Mend("a gateway before the server must pass on this field of the request", '"stream": true'),),
        )  # fmt: skip
    return _finding(
        f"The answer is no stream of tokens: {plain(error.message)}", _head(recorded),
        f"the body begins {_start(recorded)}",
    )  # fmt: skip


def _reported(failure: _Failure) -> Finding:
    recorded, error = failure.recorded, failure.error
    tokens = len(recorded.arrivals)
    mend: list[Mend] = []
    if recorded.status == 200:
        summary = f"The server ends the stream with an error after {count(tokens, 'token')}: {plain(error.message)}"
    elif recorded.status == 407:
        summary = "A proxy on the way asks for user and password: HTTP 407"
        mend.append(Mend("the environment", "export HTTPS_PROXY=http://user:password@proxy:3128"))
    else:
        summary = f"The server refuses the request: HTTP {recorded.status}: {plain(error.message)}"
        if "model" in error.message.lower():
            mend.append(Mend("this command, with the name of a model that the server has", "--model NAME"))
    kind = f" (error_type {plain(error.error_type)})" if error.error_type else ""
    seen = f"hfstream's client raises {type(error).__name__}{kind}"
    return _finding(summary, _head(recorded), seen, _so_far(recorded), mend=mend)


_EXPLANATIONS: tuple[tuple[type[InferenceError], Callable[[_Failure], Finding]], ...] = (
    (AuthenticationError, _unauthorized),
    (OverloadedError, _overloaded),
    (InferenceTimeoutError, _silent),
    (InferenceConnectionError, _lost),
    (IncompleteStreamError, _ended),
    (NotFoundError, _not_found),
    (UnexpectedResponseError, _unexpected),
)
"""How the error of each class is explained; those of all others in the server's words."""


def _events(recorded: Recorded) -> int:
    parser = SSEParser()
    return len(parser.feed(recorded.body))


def _start(recorded: Recorded) -> str:
    return quote(recorded.body[:200].decode("utf-8", "replace"))


def _origin(recorded: Recorded) -> str:
    return "/".join(recorded.url_shown.split("/")[:3])
