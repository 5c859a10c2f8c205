from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfstream.core.accumulators import TextAccumulator
from hfstream.core.chat_accumulator import ChatAccumulator
from hfstream.core.string_builder import StringBuilder
from hfstream.types import ChatCompletionChunk, StreamResponse

FRAGMENTS = st.lists(st.lists(st.text(max_size=3), max_size=3), max_size=10)


def test_there_is_no_value_before_the_first_fragment() -> None:
    builder = StringBuilder()
    builder.add(None)
    assert builder.value is None
    assert builder.text == ""
    builder.extend([])
    assert builder.value == ""


@given(FRAGMENTS)
def test_the_value_is_that_of_all_fragments_in_order(pieces: list[list[str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hfstream.core.string_builder.MAX_FRAGMENTS", 4)
        once, often, one_by_one = StringBuilder(), StringBuilder(), StringBuilder()
        for index, fragments in enumerate(pieces, 1):
            once.extend(fragments)
            often.extend(fragments)
            assert often.text == "".join(itertools.chain(*pieces[:index]))
            assert often.text is often.text  # read again, it is not joined again
            for fragment in fragments:
                one_by_one.add(fragment)
        assert once.text == often.text == one_by_one.text


def _response(number: int) -> StreamResponse:
    return StreamResponse.model_validate({"index": 0, "token": {"id": 1, "text": f"{number:04} ", "special": False}})


def _chunk(number: int) -> ChatCompletionChunk:
    return ChatCompletionChunk.model_validate({"choices": [{"delta": {"content": f"{number:04} "}}]})


@pytest.mark.parametrize(("accumulator", "item"), [(TextAccumulator, _response), (ChatAccumulator, _chunk)])
def test_a_token_that_was_received_takes_the_memory_of_its_text(accumulator: type, item: type) -> None:
    kept = accumulator()
    tracemalloc.start()
    try:
        for number in range(10_000):
            kept.add([item(number)])
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(kept.text) == 50_000
    assert size < 150_000  # up to a thousand of the last fragments are still objects, of 54 bytes and a pointer each
