"""Where hfstream reads a stream in another way than another client does, and why.

A difference that no rule explains fails the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .readers import PEERS, Reading
from .shapes import Stream

__all__ = ["RULES", "Difference", "differences", "reason_for"]


@dataclass(frozen=True)
class Difference:
    """One stream that another client reads to its end, or that has a known text, and that hfstream reads otherwise."""

    kind: str
    peer: str
    stream: Stream
    theirs: Reading
    ours: Reading

    def __str__(self) -> str:
        labels = ", ".join(sorted(self.stream.labels)) or "as it is"
        body = b"".join(self.stream.events)
        return (
            f"{self.kind}, {self.peer}: {self.stream.name} ({self.stream.task}), {labels}\n"
            f"  theirs {self.theirs}\n  ours   {self.ours}\n  right  {self.stream.text!r} {self.stream.calls}\n  {body!r}"
        )


def differences(streams: Sequence[Stream], readings: Mapping[str, Sequence[Reading]]) -> Iterator[Difference]:
    """All differences between hfstream and each other client, between its two variants, and from what was sent."""
    for number, stream in enumerate(streams):
        ours, ours_async = readings["hfstream"][number], readings["hfstream, async"][number]
        if ours != ours_async:
            yield Difference("variants", "hfstream, async", stream, ours_async, ours)
        if "cut" not in stream.labels and (ours.error or _misread(stream, ours)):
            yield Difference("sent", "the server", stream, Reading(stream.text, stream.calls), ours)
        for peer in PEERS:
            theirs = readings[peer][number]
            if theirs.error:
                continue
            if ours.error:
                yield Difference("error", peer, stream, theirs, ours)
            elif theirs.text != ours.text:
                yield Difference("text", peer, stream, theirs, ours)
            elif theirs.calls is not None and theirs.calls != ours.calls:
                yield Difference("calls", peer, stream, theirs, ours)


def _misread(stream: Stream, ours: Reading) -> bool:
    """Whether a whole stream was read otherwise than it was sent. With n=2 the loop shows both texts."""
    looped = ours.text == stream.text or stream.name == "OpenAI, n=2"
    return not looped or ours.final != stream.text or ours.final_calls != stream.calls


RULES: Mapping[str, Callable[[Difference], bool]] = {}
"""Reason, and whether it is that of a difference."""


def reason_for(difference: Difference) -> str | None:
    """Why hfstream differs; None if no rule says."""
    return next((reason for reason, applies in RULES.items() if applies(difference)), None)
