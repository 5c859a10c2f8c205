"""What else a stream that works shows: HTTP version, framing, keep-alives, its end, usage, compression.

Does not depend on how requests are sent.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ...core.sse import SSEParser
from .failures import comments_in
from .findings import Finding, Mend, Severity
from .pacing import Pacing
from .prober import Recorded
from .servers import find_between
from .words import count, duration, plain

__all__ = ["describe_stream", "numbers_events"]

_WAITED_FOR_END = 1.5
"""Seconds after the last token from which on the end of the stream was waited for in vain; the client waits for 2."""


def describe_stream(recorded: Recorded, pacing: Pacing, *, chat: bool) -> Iterator[Finding]:
    """The findings about a stream beside its pace."""
    yield from _http_version(recorded)
    yield from _framing(recorded)
    yield from _compression(recorded)
    yield _end(recorded, chat=chat)
    yield _silence(recorded, pacing)


def numbers_events(recorded: Recorded) -> bool:
    """Whether the events have ids, from which a lost stream can be resumed."""
    parser = SSEParser()
    parser.feed(recorded.body)
    return bool(parser.last_event_id)


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


def _silence(recorded: Recorded, pacing: Pacing) -> Finding:
    comments = comments_in(recorded)
    longest = max([recorded.head_at, *(b - a for a, b in itertools.pairwise(recorded.reads))])
    seen = f"the longest silence seen was {duration(longest)}"
    between = find_between(recorded.headers)
    if comments:
        return Finding(
            "silence", Severity.OK, f"Keep-alives come while there is no token: {count(comments, 'comment')}", (seen,)
        )
    if between is not None and between.silence:
        return Finding(
            "silence", Severity.NOTE, f"A silent minute: {between.silence}",
            (seen, "no keep-alive comment was seen in it"), between.patient,
        )  # fmt: skip
    return Finding(
        "silence",
        Severity.OK,
        "No silence was long enough to need a keep-alive",
        (seen, "what a minute of it does is not known"),
    )
