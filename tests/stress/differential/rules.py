"""Where hfstream reads a stream in another way than another client does, and why.

A difference that no rule explains fails the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .catalogue import CATALOGUE, FAILURE
from .readers import Reading
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
            f"  theirs {self.theirs}\n  ours   {self.ours}\n"
            f"  right  {self.stream.text!r} {self.stream.calls}\n  {body!r}"
        )


def differences(streams: Sequence[Stream], readings: Mapping[str, Sequence[Reading]]) -> Iterator[Difference]:
    """All differences between hfstream and each other client, between its two variants, and from what was sent."""
    for number, stream in enumerate(streams):
        ours, ours_async = readings["hfstream"][number], readings["hfstream, async"][number]
        if ours != ours_async:
            yield Difference("variants", "hfstream, async", stream, ours_async, ours)
        if "cut" not in stream.labels and (ours.error or _misread(stream, ours)):
            yield Difference("sent", "the server", stream, Reading(stream.text, stream.calls), ours)
        for peer, of_peer in readings.items():
            theirs = of_peer[number]
            if theirs.error or peer.startswith("hfstream"):
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


def _is_cut(difference: Difference) -> bool:
    return difference.ours.error.startswith("IncompleteStreamError") and "cut" in difference.stream.labels


def _has_no_end(difference: Difference) -> bool:
    labels = difference.stream.labels & {"finish_reason changed", "finish_reason removed", "details changed"}
    body = b"".join(difference.stream.events)
    return bool(labels) and b"[DONE]" not in body and difference.ours.error.startswith("IncompleteStreamError")


def _ends_with_message(difference: Difference) -> bool:
    has_message = 'event data: {"message":"queued"}' in difference.stream.labels
    return has_message and difference.ours.error == "ServerError: queued"


def _loses_first_event(difference: Difference) -> bool:
    return "byte order mark" in difference.stream.labels and _ours_is_right(difference)


def _ours_is_right(difference: Difference) -> bool:
    stream, ours = difference.stream, difference.ours
    if difference.kind not in ("text", "calls") or ours.error:
        return False
    # Of a stream that was cut, what is right is not known: what the others have read is at the end of it.
    return ours.text == stream.text or ("cut" in stream.labels and stream.text.startswith(ours.text))


def _carries_an_error(difference: Difference) -> bool:
    return FAILURE in difference.stream.labels and bool(difference.ours.error)


def _has_text_elsewhere(difference: Difference) -> bool:
    return CATALOGUE in difference.stream.labels and _ours_is_right(difference)


def _has_another_whole_text(difference: Difference) -> bool:
    stream, ours = difference.stream, difference.ours
    sent = f'"generated_text":"{ours.final}"'.encode()
    return (
        difference.kind == "sent" and (ours.text, ours.error) == (stream.text, "") and sent in b"".join(stream.events)
    )


RULES: Mapping[str, Callable[[Difference], bool]] = {
    "the stream was cut before its end: the others take half an answer for a whole one": _is_cut,
    "neither a finish reason nor [DONE] says that the stream is whole": _has_no_end,
    "the last event of a stream without a finish reason is a message: it says why the stream ended": _ends_with_message,
    "with a byte order mark the others lose the first event": _loses_first_event,
    "the stream carries an error, or has no end: the others take it for a whole answer": _carries_an_error,
    "the text is where the others do not look for it": _has_text_elsewhere,
    "TGI's `generated_text` is not its tokens: `final()` returns it as it came": _has_another_whole_text,
}
"""Reason, and whether it is that of a difference."""


def reason_for(difference: Difference) -> str | None:
    """Why hfstream differs; None if no rule says."""
    return next((reason for reason, applies in RULES.items() if applies(difference)), None)
