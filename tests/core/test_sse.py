"""Server-Sent Events against the WHATWG standard. Expected values are written by hand from its text, never computed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from typing import Any, NamedTuple

import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from hfstream import UnexpectedResponseError
from hfstream.core.sse import MAX_EVENT_SIZE, UNFRAMED, EventTooLargeError, SSEParser
from hfstream.core.sse import encode as encode_fields
from hfstream.sse import SSEDecoder, encode

BOM = b"\xef\xbb\xbf"


class Seen(NamedTuple):
    """One event as a client sees it."""

    data: str
    event: str = "message"
    id: str = ""
    retry: int | None = None


class Case(NamedTuple):
    """A wire, and what the specification makes of it."""

    name: str
    wire: bytes
    events: list[Seen]
    last_event_id: str = ""
    retry: int | None = None


CASES = [
    Case("one event", b"data: a\n\n", [Seen("a")]),
    Case("two events", b"data: a\n\ndata: b\n\n", [Seen("a"), Seen("b")]),
    Case("the example of the specification: stocks", b"data: YHOO\ndata: +2\ndata: 10\n\n", [Seen("YHOO\n+2\n10")]),
    Case(
        "the example of the specification: four blocks",
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [Seen("first event", id="1"), Seen("second event"), Seen(" third event")],
    ),
    Case("the example of the specification: empty data", b"data\n\ndata\ndata\n\ndata:", [Seen(""), Seen("\n")]),
    Case("the example of the specification: a space", b"data:test\n\ndata: test\n\n", [Seen("test"), Seen("test")]),
    # Line ends
    Case("CR", b"data: a\r\rdata: b\r\r", [Seen("a"), Seen("b")]),
    Case("CRLF", b"data: a\r\n\r\ndata: b\r\n\r\n", [Seen("a"), Seen("b")]),
    Case("mixed line ends", b"data: a\rdata: b\ndata: c\r\n\ndata: d\n\r", [Seen("a\nb\nc"), Seen("d")]),
    Case("LF then CR are two line ends", b"data: a\n\rdata: b\n\r", [Seen("a"), Seen("b")]),
    Case("CRLF is one line end", b"data: a\r\ndata: b\r\n\r\n", [Seen("a\nb")]),
    Case("CR, CRLF: a line end and a blank line", b"data: a\r\r\ndata: b\r\r\n", [Seen("a"), Seen("b")]),
    Case("CRLF, LF: a line end and a blank line", b"data: a\r\n\n", [Seen("a")]),
    Case("many blank lines", b"\n\r\n\rdata: a\n\n\n\n\r\r", [Seen("a")]),
    # Byte order mark
    Case("a BOM", BOM + b"data: a\n\n", [Seen("a")]),
    Case("a second BOM is part of a field's name", BOM + BOM + b"data: a\n\ndata: b\n\n", [Seen("b")]),
    Case("a BOM after the first line", b"\n" + BOM + b"data: a\n\ndata: b\n\n", [Seen("b")]),
    Case("a BOM inside data", b"data: " + BOM + b"a\n\n", [Seen("\ufeffa")]),
    Case("half a BOM", BOM[:2] + b"data: a\n\ndata: b\n\n", [Seen("b")]),
    Case("a BOM and a blank line", BOM + b"\ndata: a\n\n", [Seen("a")]),
    Case("a BOM and no more", BOM, []),
    Case("nothing", b"", []),
    # Comments
    Case("comments only", b":\n\n: keep-alive\n\n:::\n\n", []),
    Case("a comment inside a block", b"data: a\n: data: no\ndata: b\n\n", [Seen("a\nb")]),
    Case("a comment after an id dispatches nothing", b"id: 7\ndata: a\n\n:\n\n:\n\n", [Seen("a", id="7")], "7"),
    # Fields
    Case("one leading space only", b"data:  a \n\n", [Seen(" a ")]),
    Case("a tab is no space", b"data:\ta\n\n", [Seen("\ta")]),
    Case("a space before the colon", b"data : a\n\ndata: b\n\n", [Seen("b")]),
    Case("a space before the name", b" data: a\n\ndata: b\n\n", [Seen("b")]),
    Case("no space", b"data:a\n\n", [Seen("a")]),
    Case("colons in data", b"data: a:b: c\n\n", [Seen("a:b: c")]),
    Case("data that looks like a field", b"data:data: x\n\ndata: data:y\n\n", [Seen("data: x"), Seen("data:y")]),
    Case("data of the letters of its name", b"data: atad\n\ndata:tada: a\n\n", [Seen("atad"), Seen("tada: a")]),
    Case("data of a colon", b"data::\n\ndata: :\n\n", [Seen(":"), Seen(":")]),
    Case("names that begin alike", b"data2: a\ndat: b\nDATA: c\nevents: d\ndata: e\n\n", [Seen("e")]),
    Case("unknown fields", b"foo: a\nbar\ndata: b\n\n", [Seen("b")]),
    Case("empty data", b"data:\n\ndata: \n\n", [Seen(""), Seen("")]),
    Case("data without a colon", b"data\n\n", [Seen("")]),
    Case("empty lines of data", b"data: a\ndata\ndata:\ndata: b\n\n", [Seen("a\n\n\nb")]),
    Case("data that ends with an empty line", b"data: a\ndata:\n\n", [Seen("a\n")]),
    Case("a partial event at the end", b"data: a\n\ndata: b\n", [Seen("a")]),
    Case("a partial line at the end", b"data: a\n\ndata: b", [Seen("a")]),
    # Event
    Case("a name", b"event: e\ndata: a\n\ndata: b\n\n", [Seen("a", "e"), Seen("b")]),
    Case("a name after the data", b"data: a\nevent: e\n\n", [Seen("a", "e")]),
    Case("the last name counts", b"event: e\nevent: f\ndata: a\n\n", [Seen("a", "f")]),
    Case("an empty name is none", b"event: e\nevent:\ndata: a\n\n", [Seen("a")]),
    Case("a name alone dispatches nothing, and is forgotten", b"event: e\n\ndata: a\n\n", [Seen("a")]),
    # Id
    Case("an id persists", b"id: 1\ndata: a\n\ndata: b\n\n", [Seen("a", id="1"), Seen("b", id="1")], "1"),
    Case("an id alone commits at the blank line", b"id: 1\n\ndata: a\n\n", [Seen("a", id="1")], "1"),
    Case("an id without its blank line is not committed", b"id: 1\ndata: a\n\nid: 2\n", [Seen("a", id="1")], "1"),
    Case("an empty id resets", b"id: 1\ndata: a\n\nid:\ndata: b\n\n", [Seen("a", id="1"), Seen("b")]),
    Case("an id without a colon resets", b"id: 1\ndata: a\n\nid\ndata: b\n\n", [Seen("a", id="1"), Seen("b")]),
    Case("an id with NUL is ignored", b"id: 1\n\nid: 2\0\ndata: a\n\n", [Seen("a", id="1")], "1"),
    Case("the last id of a block counts", b"id: 1\nid: 2\ndata: a\n\n", [Seen("a", id="2")], "2"),
    Case("an id keeps its spaces but one", b"id:  x y \ndata: a\n\n", [Seen("a", id=" x y ")], " x y "),
    Case("an id in UTF-8", "id: é🙂\ndata: a\n\n".encode(), [Seen("a", id="é🙂")], "é🙂"),
    # Retry
    Case("a retry", b"retry: 500\ndata: a\n\ndata: b\n\n", [Seen("a", retry=500), Seen("b")], retry=500),
    Case("a retry alone dispatches nothing", b"retry: 500\n\n", [], retry=500),
    Case("a retry counts before the blank line", b"retry: 500\n", [], retry=500),
    Case("a retry of zero", b"retry: 0\ndata: a\n\n", [Seen("a", retry=0)], retry=0),
    Case("a retry with leading zeros", b"retry:007\ndata: a\n\n", [Seen("a", retry=7)], retry=7),
    *(
        Case(f"a retry that is no digits: {value!r}", b"retry: " + value.encode() + b"\ndata: a\n\n", [Seen("a")])
        for value in ("-5", " 5", "5 ", "+5", "1_000", "1.5", "1e3", "0x10", "\uff15", "\u0663", "\u00b2", "", "ten")
    ),
    # Text
    Case(
        "line separators of other worlds",
        "data: a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei\n\n".encode(),
        [Seen("a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei")],
    ),
    Case("NUL in data", b"data: a\0b\n\n", [Seen("a\0b")]),
    Case("an emoji", "data: 👩‍🚀 x\n\n".encode(), [Seen("👩‍🚀 x")]),
    Case("bytes that are no UTF-8", b"data: a\xffb\xc3\n\n", [Seen("a\ufffdb\ufffd")]),
    Case("a cut character before a line end", b"data: \xf0\x9f\x99\ndata: b\n\n", [Seen("\ufffd\nb")]),
    Case("latin-1 is not obeyed", "data: é\n\n".encode("latin-1"), [Seen("\ufffd")]),
    Case("an encoded surrogate", b"data: \xed\xa0\x80\n\n", [Seen("\ufffd\ufffd\ufffd")]),
    Case("all at once", b"id: 1\nevent: e\nretry: 2\ndata: a\n\n", [Seen("a", "e", "1", 2)], "1", 2),
]
LONG_RETRY = Case(
    "a retry with many leading zeros", b"retry: " + b"0" * 25 + b"7\ndata: a\n\n", [Seen("a", retry=7)], "", 7
)


def seen(event: Any) -> Seen:
    if isinstance(event, ServerSentEvent):
        return Seen(event.data, event.event, event.id, event.retry)
    return Seen(event.text, event.name, event.id, event.retry)


def ways(wire: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, and cut in two at every place, with an empty piece between."""
    yield [wire]
    yield [wire[place : place + 1] for place in range(len(wire))]
    for place in range(1, len(wire)):
        yield [wire[:place], b"", wire[place:]]


def read(parser: Any, pieces: Iterable[bytes]) -> list[Seen]:
    return [seen(event) for piece in pieces for event in parser.feed(piece)]


def name_of(case: Case) -> str:
    return case.name


BOTH = pytest.mark.parametrize("make", [SSEParser, SSEDecoder])


@BOTH
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_specification_holds_however_the_body_is_divided(case: Case, make: Callable[[], Any]) -> None:
    for pieces in ways(case.wire):
        parser = make()
        assert read(parser, pieces) == case.events, pieces
        assert parser.finish() == [], pieces
        assert (parser.last_event_id, parser.retry) == (case.last_event_id, case.retry), pieces


@BOTH
def test_leading_zeros_do_not_count(make: Callable[[], Any]) -> None:
    parser = make()
    assert read(parser, [LONG_RETRY.wire]) == LONG_RETRY.events


@BOTH
def test_a_very_long_retry_is_harmless(make: Callable[[], Any]) -> None:
    parser = make()
    [event] = read(parser, [b"retry: " + b"9" * 10_000 + b"\ndata: a\n\n"])
    assert event.data == "a"
    assert event.retry is not None
    assert event.retry > 10**15


def test_there_are_enough_cases() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 27


@BOTH
def test_cases_one_after_another_in_every_order(make: Callable[[], Any]) -> None:
    whole = [case for case in CASES if case.wire.endswith((b"\n\n", b"\r\r", b"\r\n\r\n")) and BOM not in case.wire]
    for case in whole:
        for other in whole:
            parser = make()
            first, second = read(parser, [case.wire]), read(parser, [other.wire])
            assert [event.data for event in first] == [event.data for event in case.events]
            assert [event.data for event in second] == [event.data for event in other.events], (case.name, other.name)
            assert [event.event for event in second] == [event.event for event in other.events]


# --- The fast path ---------------------------------------------------------------------------------------------------

PIECES = st.lists(
    st.sampled_from([
        b"data: x\n\n", b"data:y\n\n", b"data:\n\n", b"data: \n\n", b"data\n\n", b"data: a\r\n\r\n", b"data: a\r\r",
        b"data: a\ndata: b\n\n", b"data: a\n", b"data:\r\n\n", b"data: \r\n\n", b"id: 7\n", b"id: 8\n\n", b"id\n\n",
        b"event: e\n", b"event:\n", b"retry: 3\n", b"retry: 3\n\n", b":\n\n", b": c\n", b":", b"\n", b"\r", b"\n\n",
        b"\r\n", b"data", b"data:", b"x", BOM, BOM[:1], BOM[1:], b"\xff", b"", b"data: \xf0\x9f\n\n", b"datas: x\n\n",
        b"id: 9\ndata: z\n\n", b"data: a\n\ndata: b\n\n",
    ]),
    max_size=12,
)  # fmt: skip


@given(PIECES)
@settings(deadline=None, max_examples=400)
def test_one_event_in_one_chunk_reads_as_it_does_byte_by_byte(pieces: list[bytes]) -> None:
    fast, slow = SSEParser(), SSEParser()
    for piece in pieces:
        data = fast.try_single_event(piece)
        quick = fast.feed(piece)
        careful = [event for place in range(len(piece)) for event in slow.feed(piece[place : place + 1])]
        assert quick == careful
        assert data is None or [event.data for event in careful] == [data]
        assert (fast.last_event_id, fast.retry) == (slow.last_event_id, slow.retry)


def test_the_fast_path_is_taken_between_events() -> None:
    parser = SSEParser()
    assert parser.try_single_event(b"data: a\n\n") is None  # the first bytes could be a byte order mark
    parser.feed(b"data: a\n\n")
    assert parser.try_single_event(b"data: a\n\n") == b"a"
    assert parser.try_single_event(b"data:a\n\n") == b"a"
    assert parser.try_single_event(b"data:\n\n") == b""
    assert parser.try_single_event(b"data: a\r\n\r\n") == b"a"


@pytest.mark.parametrize(
    "open_end", [b"data: a\n", b"data: a", b"event: e\n", b"id: 1\n", b"retry: 1\n", b"data: a\r", b":", b"\r"]
)
def test_the_fast_path_is_not_taken_inside_a_block(open_end: bytes) -> None:
    parser = SSEParser()
    parser.feed(b"data: a\n\n" + open_end)
    assert parser.try_single_event(b"data: b\n\n") is None


@pytest.mark.parametrize(
    "chunk",
    [
        b"data: a\n",
        b"data: a\r\n",
        b"data: a\n\n\n",
        b"data: a\ndata: b\n\n",
        b"data: a\r\rdata: b\n",
        b"data: a\r\r",  # a LF may follow, which would belong to it
        b"data: a\n\r",
        b"",
        b"\n",
    ],
)
def test_the_fast_path_takes_exactly_one_event(chunk: bytes) -> None:
    parser = SSEParser()
    parser.feed(b"data: a\n\n")
    assert parser.try_single_event(chunk) is None


@given(PIECES, st.integers(0, 40))
@settings(deadline=None, max_examples=400)
def test_the_parts_of_a_chunk_read_as_the_chunk(pieces: list[bytes], cut: int) -> None:
    wire = b"data: first\n\n" + b"".join(pieces)
    fast, slow = SSEParser(), SSEParser()
    for chunk in (wire[:cut], wire[cut:]):
        data: list[bytes] = []
        parts = fast.split(chunk)
        assert b"".join(parts) == chunk
        for part in parts:
            plain = fast.try_plain_events(part)
            events = fast.feed(part)
            assert plain is None or plain == [event.data for event in events]
            assert plain is None or {(event.name, event.id, event.retry) for event in events} == {
                ("message", fast.last_event_id, None)
            }
            data += [event.data for event in events]
        assert data == [event.data for event in slow.feed(chunk)]
        assert (fast.last_event_id, fast.retry) == (slow.last_event_id, slow.retry)


def test_whole_events_between_two_cut_ones_are_parsed_together() -> None:
    parser = SSEParser()
    parser.feed(b"data: a\n\ndata: b")
    first, whole, last = parser.split(b"b\n\ndata: c\n\ndata:d\n\ndata: e")
    assert [event.data for event in parser.feed(first)] == [b"bb"]
    assert parser.try_plain_events(whole) == [b"c", b"d"]
    assert parser.feed(last) == []
    assert [event.data for event in parser.feed(b"e\n\n")] == [b"ee"]


# --- httpx-sse as the oracle, wherever both obey the specification ---------------------------------------------------

LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=12)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Blocks that have data, with LF, CRLF or CR; no BOM, no id, no ghosts."""
    text: list[str] = []
    for _ in range(draw(st.integers(0, 4))):
        end = draw(ENDS)
        fields = [
            f"data{draw(st.sampled_from([':', ': ']))}{line}" for line in draw(st.lists(LINE, min_size=1, max_size=3))
        ]
        fields += [f": {line}" for line in draw(st.lists(LINE, max_size=1))]
        fields += [f"event: {name}" for name in draw(st.lists(LINE, max_size=1))]
        fields += [f"retry: {number}" for number in draw(st.lists(st.integers(0, 10**6), max_size=1))]
        fields += [f"x{line}" for line in draw(st.lists(LINE, max_size=1))]
        text += [field + end for field in draw(st.permutations(fields))] + [end]
    return "".join(text).encode()


@pytest.mark.skipif(version("httpx-sse") == "0.4.0", reason="httpx-sse 0.4.0 ends lines at more than LF and CR")
@given(streams(), st.integers(1, 9))
@settings(deadline=None, max_examples=200)
def test_httpx_sse_reads_the_same(wire: bytes, size: int) -> None:
    response = httpx.Response(200, headers={"content-type": "text/event-stream; charset=utf-8"}, content=wire)
    oracle = [seen(event) for event in EventSource(response).iter_sse()]
    pieces = [wire[place : place + size] for place in range(0, len(wire), size)]
    assert read(SSEDecoder(), pieces) == read(SSEDecoder(), [wire]) == oracle


@given(
    st.lists(st.sampled_from([b"data", b":", b" ", b"\r", b"\n", b"id", b"event", b"retry", b"5", b"\0", BOM, b"\xf0"]))
)
@settings(deadline=None, max_examples=300)
@pytest.mark.slow
def test_any_bytes_in_any_chunks_give_the_same_events(pieces: list[bytes]) -> None:
    wire = b"".join(pieces)
    whole = SSEParser()
    events = read(whole, [wire])
    for cut in (pieces, [wire[place : place + 1] for place in range(len(wire))]):
        parser = SSEParser()
        assert read(parser, cut) == events
        assert (parser.last_event_id, parser.retry) == (whole.last_event_id, whole.retry)


# --- Linear in time --------------------------------------------------------------------------------------------------

MEGA = 800_000


@pytest.mark.parametrize(
    ("wire", "size"),
    [
        (b"data: " + b"x" * MEGA + b"\n\n", 64),
        (b"data: " + b"x" * MEGA + b"\n\n", 3),
        (b"data:x\n" * (MEGA // 7) + b"\n", 64),
        (b"data:x\n\n" * (MEGA // 8), MEGA),
        (b"\r\n" * (MEGA // 2), 64),
        (b": " + b"x" * MEGA + b"\n", 64),
    ],
    ids=["one line", "one line in crumbs", "many lines", "many events at once", "blank lines", "a comment"],
)
@pytest.mark.slow
def test_time_is_linear(wire: bytes, size: int) -> None:
    # A buffer that is joined at every piece takes 24 s for the first of these, this parser some hundredths. It is this
    # thread's own time: a busy machine takes no more of it.
    parser, began = SSEParser(), time.thread_time()
    events = sum(len(parser.feed(wire[place : place + size])) for place in range(0, len(wire), size))
    assert time.thread_time() - began < 5
    assert events == wire.count(b"x\n\n")


# --- Bounded in memory -----------------------------------------------------------------------------------------------

ENDLESS = {
    "a line": (b"data: ", b"x" * 100),
    "a line in bytes": (b"data: ", b"x"),
    "a line without a name": (b"", b"x" * 100),
    "a comment": (b":", b"x" * 100),
    "an id": (b"id: ", b"1" * 100),
    "a name": (b"event: ", b"e" * 100),
    "lines of data": (b"", b"data: xxxxxxxxxx\n"),
    "lines of data, CR": (b"", b"data: xxxxxxxxxx\r"),
    "empty lines of data": (b"", b"data\n"),
    "empty lines of data with a comment between": (b"", b"data:\n:\n"),
}


@BOTH
@pytest.mark.parametrize("bound", [1, 50, 1000])
@pytest.mark.parametrize("kind", ENDLESS)
def test_an_event_without_end_raises(kind: str, bound: int, make: Callable[[int], Any]) -> None:
    start, piece = ENDLESS[kind]
    parser = make(bound)
    with pytest.raises((EventTooLargeError, UnexpectedResponseError), match=f"larger than {bound} bytes"):
        parser.feed(start)
        for _ in range(bound + 2):  # each piece holds one byte of an event at least
            assert parser.feed(piece) == []


@pytest.mark.parametrize(
    "piece", [b":\n", b"\n", b"id: 1\n", b"event: e\n", b"x\n", b"retry: 1\n", b"data: a\n\n", b"\r\n"]
)
def test_data_that_is_not_kept_does_not_count(piece: bytes) -> None:
    parser = SSEParser(20)
    for _ in range(1000):
        parser.feed(piece)


@BOTH
def test_an_event_may_be_as_large_as_the_limit(make: Callable[[int], Any]) -> None:
    line = b"data: " + b"x" * 94
    for wire in (line + b"\n\n", line + b"\r\n\r\n"):
        for pieces in ways(wire):
            parser = make(100)
            assert [event.data for event in read(parser, [b":\n", *pieces])] == ["x" * 94]
    with pytest.raises((EventTooLargeError, UnexpectedResponseError)):
        make(99).feed(line)


def test_the_limit_is_16_MiB() -> None:
    assert MAX_EVENT_SIZE == 16 * 2**20
    assert len(SSEDecoder().feed(b"data: " + b"x" * (MAX_EVENT_SIZE - 6) + b"\n\n")) == 1
    with pytest.raises(UnexpectedResponseError):
        SSEDecoder().feed(b"data: " + b"x" * (MAX_EVENT_SIZE - 5))


@BOTH
def test_the_error_is_raised_after_the_events_before_it_however_the_body_is_divided(make: Callable[[int], Any]) -> None:
    for pieces in ways(b"data: a\n\n:\n\ndata: b\n\ndata: " + b"x" * 30 + b"\n\ndata: c\n\n"):
        parser, events = make(20), []
        with pytest.raises((EventTooLargeError, UnexpectedResponseError)):
            for piece in pieces:
                events += read(parser, [piece])
            parser.finish()
        assert [event.data for event in events] == ["a", "b"], pieces


@BOTH
def test_after_the_error_no_more_data_is_accepted(make: Callable[[int], Any]) -> None:
    parser = make(20)
    parser.feed(b"data: a\n\n")
    for piece in (b"data: " + b"x" * 30, b"data: b\n\n", b"data: c\n\n"):
        with pytest.raises((EventTooLargeError, UnexpectedResponseError)):
            parser.feed(piece)


@BOTH
def test_after_the_error_the_body_ends_and_another_can_be_read(make: Callable[[int], Any]) -> None:
    parser = make(20)
    parser.feed(b"id: 1\n\n")
    with pytest.raises((EventTooLargeError, UnexpectedResponseError)):
        parser.feed(b"id: 2\ndata: " + b"x" * 30)
    with contextlib.suppress(EventTooLargeError, UnexpectedResponseError):
        parser.finish()
    assert read(parser, [BOM + b"data: a\n\n"]) == [Seen("a", id="1")]


# --- The next connection ---------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "rest", [b"data: b\n", b"event: e\n", b"id: 2\n", b"retry", b"data: b\r", b"\xf0\x9f", b":", b""]
)
def test_the_end_of_a_body_discards_an_incomplete_event(rest: bytes, make: Callable[[], Any]) -> None:
    parser = make()
    read(parser, [b"id: 1\nretry: 9\ndata: a\n\n", rest])
    assert parser.finish() == []
    assert (parser.last_event_id, parser.retry) == ("1", 9)
    # A line end first: it would close what is open, and after a CR it would be taken for the second half of a CRLF.
    assert read(parser, [b"\n\ndata: c\n\n"]) == [Seen("c", id="1")]


@BOTH
def test_each_body_may_begin_with_a_BOM(make: Callable[[], Any]) -> None:
    parser = make()
    for pieces in ways(BOM + b"data: a\n\n"):
        assert read(parser, pieces) == [Seen("a")]
        assert parser.finish() == []


# --- Encoding --------------------------------------------------------------------------------------------------------


def test_the_encoded_form_of_an_event() -> None:
    event = ServerSentEvent(event="e", data="a\nb", id="1", retry=5)
    assert encode(event) == b"event: e\nid: 1\nretry: 5\ndata: a\ndata: b\n\n"
    assert encode(ServerSentEvent(data="a")) == b"data: a\n\n"
    assert encode(ServerSentEvent()) == b"data: \n\n"
    assert encode(ServerSentEvent(data="a", retry=0)) == b"retry: 0\ndata: a\n\n"


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"))


@given(TEXT, NAME, NAME, st.none() | st.integers(0, 10**18))
@settings(deadline=None, max_examples=300)
def test_an_encoded_event_is_decoded_to_itself(data: str, event: str, id: str, retry: int | None) -> None:  # noqa: A002
    wire = encode(ServerSentEvent(event=event, data=data, id=id, retry=retry))
    expected = Seen(data.replace("\r\n", "\n").replace("\r", "\n"), event or "message", id, retry)
    for pieces in ([wire], [wire[place : place + 1] for place in range(len(wire))]):
        decoder = SSEDecoder()
        assert read(decoder, pieces) == [expected]
        assert decoder.last_event_id == id


@pytest.mark.parametrize(
    "bad",
    [{"event": "a\nb"}, {"event": "a\r"}, {"id": "1\n"}, {"id": "\r1"}, {"id": "1\0"}, {"data": "\ud800"}],
    ids=str,
)
def test_values_that_SSE_cannot_represent_raise(bad: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        encode(ServerSentEvent(**{"data": "a", **bad}))  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        encode_fields(**{"data": "a", **bad})  # type: ignore[arg-type]


def test_a_negative_retry_raises() -> None:
    with pytest.raises(ValueError):
        encode(ServerSentEvent(data="a", retry=-5))


# --- Lines that are no field -----------------------------------------------------------------------------------------


def test_lines_that_are_no_field_are_an_event_if_wanted() -> None:
    wire = b': c\nerror: x\n{"a": 1}\n\ndata: a\nfoo\nid: 1\n\nretry: x\n\nbar\ndata: b'
    assert [event.data for event in SSEParser().feed(wire)] == [b"a"]
    for pieces in ways(wire):
        parser = SSEParser(unframed=True)
        found = [event for piece in pieces for event in parser.feed(piece)]
        assert [(event.name == UNFRAMED, event.data) for event in found] == [
            (True, b'error: x\n{"a": 1}\n'), (True, b"foo\n"), (False, b"a"),
        ]  # fmt: skip
        assert [event.data for event in parser.finish()] == [b"bar\n", b"b"]
        assert parser.last_event_id == "1"
        assert parser.finish() == []
        assert [event.data for event in parser.feed(b"data: c\n\n")] == [b"c"]


def test_an_event_that_is_cut_off_is_not_the_last_one() -> None:
    parser = SSEParser(unframed=True)
    parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")
    assert [event.data for event in parser.finish()] == [b"b"]
    assert parser.last_event_id == "1"


def test_no_server_can_send_the_name_of_such_an_event() -> None:
    assert "\n" in UNFRAMED
