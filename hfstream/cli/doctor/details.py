"""What else a stream that works shows: HTTP version, framing, keep-alives, its end, usage, compression.

Does not depend on how requests are sent.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ...core.sse import SSEParser
from .failures import comments_in
from .findings import Finding, Mend, Severity
from .prober import Recorded
from .servers import find_between
from .words import base_url, count, duration, plain, shown_url

__all__ = ["describe_stream", "numbers_events"]

_WAITED_FOR_END = 1.5
"""Seconds after the last token from which on the end of the stream was waited for in vain; the client waits for 2."""


KEPT_ALIVE = ("hfstream", "TGI")
"""Servers that send a comment after 15 s without a token."""


def describe_stream(recorded: Recorded, *, chat: bool, kind: str) -> Iterator[Finding]:
    """The findings about a stream beside its pace. `kind` is the server's."""
    yield from _redirect(recorded)
    yield from _http_version(recorded)
    yield from _framing(recorded)
    yield from _compression(recorded)
    yield _end(recorded, chat=chat)
    yield _silence(recorded, kind)


def numbers_events(recorded: Recorded) -> bool:
    """Whether the events have ids, from which a lost stream can be resumed."""
    parser = SSEParser()
    parser.feed(recorded.body)
    return bool(parser.last_event_id)


def _redirect(recorded: Recorded) -> Iterator[Finding]:
    if recorded.redirected_to:
        target = plain(shown_url(recorded.redirected_to))
        yield Finding(
            "redirect", Severity.NOTE, "The URL redirects: each request is sent twice",
            (f"to {target}",), (Mend("the URL, here and in programs", base_url(target)),),
        )  # fmt: skip


def _http_version(recorded: Recorded) -> Iterator[Finding]:
    if recorded.http_version == "HTTP/1.0":
        yield Finding(
            "http", Severity.WARNING,
            "A proxy answers in HTTP/1.0: the end of a stream looks like a lost connection",
            ("the status line says HTTP/1.0: the body has no length and no chunks, and ends with the connection",),
            (
                Mend("nginx, in the location that passes requests to the model server", "proxy_http_version 1.1;"),
                Mend("or the proxy's server: another that speaks HTTP/1.1 to its clients", "HTTP/1.1"),
            ),
        )  # fmt: skip


def _framing(recorded: Recorded) -> Iterator[Finding]:
    body = recorded.body
    if body.startswith(b"\xef\xbb\xbf"):
        yield Finding(
            "framing", Severity.NOTE, "The stream begins with a byte order mark: some clients lose its first event"
        )
    if b"\r" in body and b"\n" not in body:
        yield Finding(
            "framing", Severity.NOTE, "Lines end with CR alone: many clients read nothing, or each event late",
            (f"{count(body.count(bytes([13])), 'CR')}, and no LF",),
            (Mend("the server: what ends each line of an event", "\\n"),),
        )  # fmt: skip
    kind = recorded.header("content-type")
    if "text/event-stream" not in kind.lower():
        yield Finding(
            "framing", Severity.WARNING,
            f"The stream is named {plain(kind) or 'nothing'}: proxies and browsers collect it",
            ("the body is an event stream, and its Content-Type is another",),
            (Mend("the server, as a header of the streamed response", "Content-Type: text/event-stream"),),
        )  # fmt: skip


def _compression(recorded: Recorded) -> Iterator[Finding]:
    coding = recorded.header("content-encoding").strip().lower()
    if coding not in ("", "identity", "none"):
        yield Finding(
            "compression", Severity.NOTE, f"The stream is compressed ({plain(coding)}) when the client allows it",
            ("the request said Accept-Encoding: gzip, deflate; hfstream's client says identity",),
        )  # fmt: skip


def _end(recorded: Recorded, *, chat: bool) -> Finding:
    waited = recorded.ended_at - (recorded.arrivals[-1] if recorded.arrivals else 0.0)
    reason = f"finish reason {plain(str(recorded.finish_reason))}" if recorded.finish_reason else "no finish reason"
    usage = recorded.usage
    used = f"usage: {usage.prompt_tokens} tokens in, {usage.completion_tokens} out" if usage else "no usage"
    done = (
        any(event.data.strip() == b"[DONE]" for event in SSEParser().feed(recorded.body)) or b"[DONE]" in recorded.body
    )
    evidence = (reason, used, *(("[DONE]" if done else "no [DONE]",) if chat else ()))
    if waited > _WAITED_FOR_END and not done and chat:
        return Finding(
            "end", Severity.WARNING, "The stream stays open after its finish reason: clients wait for an end",
            (*evidence, f"nothing came for {duration(waited)} after the last token"),
            (Mend("the server, as the last event", "data: [DONE]"),),
        )  # fmt: skip
    if chat and not done:
        return Finding("end", Severity.NOTE, "The stream ends without [DONE]: clients that wait for it fail", evidence)
    if chat and not usage:
        return Finding("end", Severity.NOTE, "The stream has no usage, although stream_options asked for it", evidence)
    return Finding(
        "end",
        Severity.OK,
        "The stream ends as it should, with usage" if usage else "The stream ends as it should",
        evidence,
    )


def _silence(recorded: Recorded, kind: str) -> Finding:
    comments = comments_in(recorded)
    longest = max([recorded.head_at, *(after - before for before, after in itertools.pairwise(recorded.reads))])
    seen = f"the longest silence seen was {duration(longest)}"
    between = find_between(recorded.headers)
    if comments:
        summary = f"A silent minute: keep-alives come while there is no token ({count(comments, 'comment')})"
        return Finding("silence", Severity.OK, summary, (seen,))
    if kind in KEPT_ALIVE:
        summary = f"A silent minute: {kind} sends a comment every 15 s, so nothing on the way is silent for long"
        return Finding("silence", Severity.OK, summary, (f"{seen}: too short to see one",))
    if between is not None and between.silence:
        summary = f"A silent minute: {between.silence}"
        return Finding("silence", Severity.NOTE, summary, (seen, "no keep-alive comment was seen"), between.patient)
    summary = "A silent minute: what it does is not known"
    return Finding("silence", Severity.OK, summary, (seen, "no keep-alive comment was seen"))
