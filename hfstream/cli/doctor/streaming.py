"""How a stream that works comes: token by token or in lumps, and what holds it back.

If the tokens come together, two more requests tell why: one for a single token, which shows how soon the first token
could have come, and the same stream again without compression. Does not depend on how requests are sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from .findings import Finding, Mend, Severity
from .pacing import Pace, Pacing, judge_pacing
from .prober import LimitReachedError, Recorded
from .questions import LONG_STREAM_TOKENS, STREAM_TOKENS
from .servers import GENERIC, HAPROXY, find_between
from .words import count, duration, plain, quote

__all__ = ["SendStream", "Streaming", "buffer_size", "is_delayed", "time_stream"]

BUFFER_UNIT = 1024
"""Bytes of which every buffer is a multiple; a packet of TCP, whose size a read may have too, is not."""

HELD_BY_SOCKET = (0.18, 0.23)
"""Seconds between lumps that a socket holds back (TCP_CORK, MSG_MORE)."""

MIN_DELAYED = 3
"""How many lumps must have come for their pauses to say so."""

TOKENS_IN_EVENT = 4.0
"""Tokens in an event, on average, from which on the server itself sends lumps."""


class SendStream(Protocol):
    """Sends a streamed request for so many tokens."""

    def __call__(
        self, tokens: int = ..., *, compressed: bool = ..., until: Callable[[Recorded], bool] | None = ...
    ) -> Recorded: ...


@dataclass
class Streaming:
    """What is known about the pace of the streams."""

    first: Recorded
    pacing: Pacing
    again: Recorded | None = None
    """The stream for more tokens and without compression; None if it was not needed."""
    pacing_again: Pacing | None = None
    baseline: float | None = None
    """Seconds that a request for one token took."""
    notes: list[str] = field(default_factory=list[str])

    @property
    def compression(self) -> str:
        """The coding of the first stream; empty without one."""
        coding = self.first.header("content-encoding").strip().lower()
        return plain(coding) if coding not in ("", "identity", "none") else ""

    @property
    def final(self) -> tuple[Recorded, Pacing]:
        """The stream that decides."""
        if self.again is None or self.pacing_again is None or self.pacing_again.pace is Pace.TOO_FEW:
            return self.first, self.pacing
        return self.again, self.pacing_again

    def finding(self) -> Finding:
        """The diagnosis."""
        pace = self.final[1].pace
        if pace is Pace.SEVERAL and buffer_size(self.final[0]):
            pace = Pace.LUMPS
        recovered = pace in (Pace.ONE_BY_ONE, Pace.SEVERAL) and self.pacing.pace in (Pace.HELD_BACK, Pace.LUMPS)
        if self.compression and recovered:
            return self._compressed()
        if pace in (Pace.HELD_BACK, Pace.LUMPS):
            return self._held_back(pace)
        per_event = _tokens_per_event(self.final[0])
        if per_event >= TOKENS_IN_EVENT:
            return self._lumps_of_the_server(per_event)
        return self._undecided(pace) if pace in (Pace.AT_ONCE, Pace.TOO_FEW) else self._one_by_one()

    def _compressed(self) -> Finding:
        between = find_between(self.first.headers) or GENERIC
        return _finding(
            Severity.ERROR,
            f"Compression holds the stream back: with {self.compression} {_how(self.pacing)}",
            f"{_head(self.first)}, Content-Encoding: {self.compression}",
            *self._evidence(),
            mend=between.uncompressed,
        )

    def _held_back(self, pace: Pace) -> Finding:
        recorded, pacing = self.final
        between = find_between(recorded.headers)
        in_lumps = pace is Pace.LUMPS
        size = buffer_size(recorded)
        delayed = in_lumps and between is None and not size and is_delayed(pacing)
        name = between.name if between else "a proxy such as HAProxy" if delayed else "something before the server"
        what = "The tokens come in lumps" if in_lumps else "The stream is held back"
        evidence = [_head(recorded), *self._evidence()]
        mend = [*(between or GENERIC).unbuffered]
        if length := recorded.header("content-length"):
            evidence.append(f"Content-Length: {plain(length)} says that all was collected before the head was sent")
        if in_lumps:
            evidence.append(f"the lumps, in bytes: {_lump_sizes(recorded)}")
        if size:
            evidence.append(f"a buffer of {size:,} bytes cuts events in two")
        elif in_lumps and between is None and is_delayed(pacing):
            evidence.append(
                "lumps 200 ms apart are what HAProxy makes of small chunks, and it has no header of its own"
            )
            mend = [HAPROXY, *(each for each in mend if each != HAPROXY)]
        if self.compression:
            mend += (between or GENERIC).uncompressed[:1]
        return _finding(Severity.ERROR, f"{what}: {_how(pacing)}; {name} collects them", *evidence, mend=tuple(mend))

    def _lumps_of_the_server(self, per_event: float) -> Finding:
        recorded, pacing = self.final
        whole = pacing.tokens == 1
        tokens = recorded.usage.completion_tokens if recorded.usage else 0
        return _finding(
            Severity.ERROR if whole else Severity.WARNING,
            f"The server does not stream: it sends all {tokens} tokens in one event"
            if whole
            else f"The server itself sends lumps: about {per_event:.0f} tokens in each event",
            _head(recorded),
            f"{count(tokens, 'token')} in {count(pacing.tokens, 'event')}, by the server's own usage",
            *self._evidence(),
        )

    def _undecided(self, pace: Pace) -> Finding:
        recorded, pacing = self.final
        if pace is Pace.TOO_FEW:
            few = f"{count(pacing.tokens, 'token')} {'is' if pacing.tokens == 1 else 'are'} too few"
            summary = f"It streams, but {few} to see how they come"
            evidence = f"the text: {quote(recorded.text)}"
        else:
            summary = f"It streams, too fast to see more: {_how(pacing)}"
            evidence = "a buffer on the way would not be seen at this speed: a longer answer would show it"
        return _finding(Severity.NOTE, summary, _head(recorded), evidence, *self._evidence())

    def _one_by_one(self) -> Finding:
        recorded, pacing = self.final
        several = pacing.pace is Pace.SEVERAL
        groups = pacing.lumps if several else pacing.tokens
        how = f"about {pacing.tokens / groups:.0f} tokens at a time" if several else "token by token"
        pause = (pacing.last - pacing.first) / max(1, groups - 1)
        return _finding(
            Severity.OK,
            f"It streams, {how}: the first after {duration(pacing.first)}, then {'some' if several else 'one'} every "
            f"{duration(pause)}",
            _head(recorded),
            *self._evidence(),
            "if a program shows all at once, the cause is in it: print(token, end=\"\", flush=True)",
        )  # fmt: skip

    def _evidence(self) -> list[str]:
        lines = [_timed(self.first, self.pacing)]
        if self.baseline is not None:
            lines.append(f"a request for one token was answered after {duration(self.baseline)}")
        if self.again is not None and self.pacing_again is not None:
            lines.append(f"again, without compression: {_timed(self.again, self.pacing_again)}")
        return lines + self.notes


def time_stream(first: Recorded, send: SendStream) -> Streaming:
    """Judges a stream that works; sends further ones with `send` if it takes them to say more."""
    streaming = Streaming(first, judge_pacing(first.arrivals))
    if streaming.pacing.pace in (Pace.ONE_BY_ONE, Pace.TOO_FEW):
        return streaming
    try:
        baseline = send(1)
        streaming.baseline = (baseline.arrivals or [baseline.ended_at])[0]
        streaming.pacing = judge_pacing(first.arrivals, streaming.baseline)
        # Longer if what there is so far was too fast. And without a model's first request, which may have loaded it.
        tokens = LONG_STREAM_TOKENS if streaming.pacing.pace is Pace.AT_ONCE else STREAM_TOKENS
        again = send(tokens, compressed=False)
        if again.works:
            streaming.again, streaming.pacing_again = again, judge_pacing(again.arrivals, streaming.baseline)
    except LimitReachedError as limit:
        streaming.notes.append(f"not asked further: {limit}")
    return streaming


def _finding(severity: Severity, summary: str, *evidence: str, mend: tuple[Mend, ...] = ()) -> Finding:
    return Finding("streaming", severity, summary, tuple(filter(None, evidence)), mend)


def _how(pacing: Pacing) -> str:
    """How the tokens came, within a sentence."""
    if pacing.pace in (Pace.LUMPS, Pace.SEVERAL):
        pause = (pacing.last - pacing.first) / max(1, pacing.lumps - 1)
        return f"{count(pacing.tokens, 'token')} in {pacing.lumps} lumps, {duration(pause)} apart"
    return f"all {count(pacing.tokens, 'token')} come at once, after {duration(pacing.last)}"


def _timed(recorded: Recorded, pacing: Pacing) -> str:
    return (
        f"{count(pacing.tokens, 'token')} in {count(len(recorded.reads), 'read')}: head after "
        f"{duration(recorded.head_at)}, first token after {duration(pacing.first)}, last after {duration(pacing.last)}"
    )


def _head(recorded: Recorded) -> str:
    server = recorded.header("server")
    kind = plain(recorded.header("content-type") or "no Content-Type")
    return f"{recorded.url_shown}: {kind}" + (f", Server: {plain(server)}" if server else "")


def _tokens_per_event(recorded: Recorded) -> float:
    tokens = recorded.usage.completion_tokens if recorded.usage else 0
    return (tokens or 0) / max(1, len(recorded.arrivals))


def buffer_size(recorded: Recorded) -> int:
    """The size of a buffer on the way; 0 if none shows.

    A server writes whole events. What comes again and again in the same size, and ends within an event, is a buffer
    that was full.
    """
    position, sizes = 0, Counter[int]()
    for size in recorded.read_sizes:
        position += size
        if size and size % BUFFER_UNIT == 0 and not recorded.body[:position].endswith((b"\n\n", b"\r\n\r\n", b"\r\r")):
            sizes[size] += 1
    found = sizes.most_common(1)
    return found[0][0] if found and found[0][1] > 1 else 0


def is_delayed(pacing: Pacing) -> bool:
    """Whether the pauses are those of a socket that waits for more to send: Linux sends after 200 ms what is held."""
    pause = (pacing.last - pacing.first) / max(1, pacing.lumps - 1)
    return pacing.lumps > MIN_DELAYED and HELD_BY_SOCKET[0] <= pause <= HELD_BY_SOCKET[1]


def _lump_sizes(recorded: Recorded) -> str:
    sizes = [each for each in recorded.read_sizes if each]
    return ", ".join(f"{size:,}" for size in sizes[:6]) + (" ..." if len(sizes) > 6 else "")
