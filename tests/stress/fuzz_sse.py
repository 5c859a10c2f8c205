"""Fuzzing: any bytes, cut anywhere, for the decoder and for the readers of answers above it.

    python tests/stress/fuzz_sse.py [--minutes 5] [--target decoder|answers]     # with atheris (nox -s fuzz)
    python tests/stress/fuzz_sse.py --replay                                     # the corpus, without it

What must hold of the decoder: the cut changes nothing; a second reading of the WHATWG text, written as plainly as it
goes, agrees; what is encoded again reads the same; nothing is raised but what is documented. Of the answers: whatever
comes, nothing is raised but an `InferenceError`, and the cut changes nothing of what was said.
"""

from __future__ import annotations

import argparse
import base64
import importlib
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from hfstream import InferenceError, UnexpectedResponseError
from hfstream.core.stream_decoders import ChatStreamDecoder, CompletionStreamDecoder, TGIStreamDecoder
from hfstream.sse import ServerSentEvent, SSEDecoder, encode
from hfstream.testing import chat_events, faults, token_events

__all__ = ["TARGETS", "corpus", "replay"]

BOUND = 512
"""Bytes of an event that is too large: so few that a fuzzer finds them."""

CORPUS = Path(__file__).with_name("corpus.txt")
"""What fuzzing found to be worth keeping: a line of base64 each."""

Seen = tuple[str, str, str, int | None]


def cut(data: bytes) -> tuple[bytes, list[bytes]]:
    """What an input says: its first byte how many lengths of pieces follow, and then comes the wire."""
    if not data:
        return b"", []
    lengths, wire = data[1 : 1 + data[0] % 16], data[1 + data[0] % 16 :]
    pieces: list[bytes] = []
    at = 0
    while at < len(wire):
        size = lengths[len(pieces) % len(lengths)] if lengths else len(wire)
        pieces.append(wire[at : at + size])
        at += size
        if not size and len(pieces) > 3 * len(wire):
            pieces.append(wire[at:])
            break
    return wire, pieces


# The decoder ---------------------------------------------------------------------------------------------------------


def read(pieces: Iterable[bytes], bound: int) -> tuple[list[Seen], bool, str, int | None]:
    """The events, whether one was too large, and what is left behind."""
    decoder = SSEDecoder(bound)
    events: list[ServerSentEvent] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.finish()
    except UnexpectedResponseError:
        return [_seen(event) for event in events], True, "", None
    return [_seen(event) for event in events], False, decoder.last_event_id, decoder.retry


def _seen(event: ServerSentEvent) -> Seen:
    return event.data, event.event, event.id, event.retry


def plain(wire: bytes) -> tuple[list[Seen], str, int | None]:
    """The specification, read once more: the whole stream at once, without a thought for speed."""
    text = wire.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _ = re.split("\r\n|\r|\n", text)  # the last one has no end
    events: list[Seen] = []
    data: list[str] = []
    name, id_, last_id = "", "", ""
    block_retry: int | None = None
    retry: int | None = None
    for line in lines:
        if line == "":
            last_id = id_
            if data:
                events.append(("\n".join(data), name or "message", last_id, block_retry))
            data, name, block_retry = [], "", None
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            id_ = value
        elif field == "retry" and re.fullmatch("[0-9]+", value):
            block_retry = retry = int(value.lstrip("0")[:19] or "0")
    return events, last_id, retry


def decoder(data: bytes) -> None:
    """One input for the decoder. Raises AssertionError if something does not hold."""
    wire, pieces = cut(data)
    events, overflown, last_id, retry = read(pieces, BOUND)
    assert (events, overflown, last_id, retry) == read([wire], BOUND), "the cut matters"
    expected = plain(wire)
    if overflown:
        assert expected[0][: len(events)] == events, "before an event that is too large something else was read"
        return
    assert (events, last_id, retry) == expected, "the specification reads otherwise"
    for text, name, id_, milliseconds in events:
        if "\r" in name + id_ or "\n" in name + id_:
            raise AssertionError("a line end in a field of one line")
        again = encode(ServerSentEvent(event=name, data=text, id=id_, retry=milliseconds))
        [seen], _, _, _ = read([again], 1 << 20)
        assert seen == (text, name, id_, milliseconds), "what is encoded reads otherwise"


# Answers -------------------------------------------------------------------------------------------------------------


def answers(data: bytes) -> None:
    """One input for what reads answers. Raises whatever is no InferenceError."""
    wire, pieces = cut(data)
    for kind in (TGIStreamDecoder, ChatStreamDecoder, CompletionStreamDecoder):
        whole, in_pieces = _decoded(kind, [wire]), _decoded(kind, pieces)
        assert whole == in_pieces, f"the cut matters to {kind.__name__}: {whole} or {in_pieces}"


def _decoded(kind: Callable[[], Any], pieces: Iterable[bytes]) -> tuple[list[str], str]:
    reply = kind()
    items: list[str] = []
    try:
        for piece in pieces:
            items += map(repr, reply.feed(piece))
            if reply.done:
                break
        items += map(repr, reply.finish())
    except InferenceError as error:
        return items, f"{type(error).__name__}: {error}"
    return items, "whole" if reply.complete else "not whole"


TARGETS: dict[str, Callable[[bytes], None]] = {"decoder": decoder, "answers": answers}


# The corpus ----------------------------------------------------------------------------------------------------------


def seeds() -> Iterator[bytes]:
    """Where fuzzing begins: streams, whole and odd."""
    texts = ["Grüß", faults.UNICODE_LINE_SEPARATORS, "👩‍🚀"]
    for events in (
        token_events(*texts),
        chat_events(*texts),
        [b"id: 1\nevent: e\nretry: 5\ndata: a\ndata: b\n\n: c\n\n"],
    ):
        for odd in (faults.byte_order_mark, faults.cr_only, faults.crlf, faults.keep_alives, faults.retry_frames):
            wire = b"".join(step for step in odd(events).body if isinstance(step, bytes))
            yield b"\x00" + wire
            yield b"\x03\x01\x07\x1f" + wire
    for refusal in (faults.overloaded_in_stream(), faults.overloaded_in_stream(chat=True), faults.overloaded()):
        yield b"\x00" + b"".join(step for step in refusal.body if isinstance(step, bytes))


def corpus() -> list[bytes]:
    """All inputs that are kept."""
    kept = [base64.b64decode(line) for line in CORPUS.read_text("ascii").splitlines()] if CORPUS.exists() else []
    return [*seeds(), *kept]


def replay() -> int:
    """Every target with the whole corpus; how many inputs that were."""
    inputs = corpus()
    for target in TARGETS.values():
        for data in inputs:
            target(data)
    return len(inputs)


def fuzz(target: str, seconds: int, *options: str) -> None:
    """Runs atheris, which ends the process. A find is written to the working directory, as libFuzzer does."""
    atheris: Any = importlib.import_module("atheris")
    for name in [name for name in sys.modules if name.startswith("hfstream")]:
        del sys.modules[name]  # they come again, with atheris looking on
    with atheris.instrument_imports(include=["hfstream"]):
        targets = importlib.import_module(Path(__file__).stem).TARGETS
    where = Path(tempfile.mkdtemp(prefix="fuzz_sse_"))
    for number, data in enumerate(corpus()):
        (where / f"{number:05}").write_bytes(data)
    print(f"{target}: {seconds} s, from {len(corpus())} inputs, in {where}", flush=True)
    limits = [f"-max_total_time={seconds}", "-max_len=2048", "-timeout=10", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([sys.argv[0], str(where), *limits, *options], targets[target])
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--target", choices=[*TARGETS], default="decoder")
    parser.add_argument("--replay", action="store_true")
    arguments, options = parser.parse_known_args()
    if arguments.replay:
        began = time.monotonic()
        print(f"{replay()} inputs, {time.monotonic() - began:.2f} s: all as it should be")
    else:
        fuzz(arguments.target, round(arguments.minutes * 60), *options)


if __name__ == "__main__":
    main()
