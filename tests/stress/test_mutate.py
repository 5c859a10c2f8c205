"""A short slice of `nox -s mutate`, and whether its check would find a fault."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from hfstream import InferenceError
from tests.stress.mutants import Mutant, Reading, mutant, reading, unzipped
from tests.stress.mutate import check, run


@pytest.mark.parametrize("port", [False, True], ids=["MockTransport", "port"])
@pytest.mark.parametrize("variant", ["sync", "async"])
def test_a_mutated_response_is_right_or_a_typed_error_with_the_exact_prefix(variant: str, port: bool) -> None:
    figures = run(range(150), port=port, variant=variant, seed=20)
    assert not figures.faults
    assert figures.complete >= 10
    assert figures.errors.total() >= 50


def test_a_mutant_is_the_same_each_time() -> None:
    assert [mutant(1, number) for number in range(20)] == [mutant(1, number) for number in range(20)]


class Stream:
    text = "ab"


CASE = Mutant("", "text", 200, [], b"", "chunked", [], Reading("abc", {"abc"}))


@pytest.mark.parametrize(
    ("items", "stream", "error", "fault"),
    [
        (["a", "b"], Stream(), None, "complete with 'ab'"),
        (["a", "x"], None, InferenceError("lost"), "received 'ax'"),
        (["a"], Stream(), InferenceError("lost", partial_text="ab"), "partial_text 'ab'"),
        (["a"], Stream(), None, "text 'ab'"),
        (["a"], Stream(), KeyError("x"), "a foreign error"),
        (["a", "b"], Stream(), InferenceError("lost", partial_text="ab"), None),
    ],
)
def test_the_check_finds_faults(items: list[Any], stream: Any, error: Exception | None, fault: str | None) -> None:
    found = check(CASE, items, stream, error, framed=False)
    assert (found is None) == (fault is None)
    assert (fault or "") in (found or "")


def test_the_plain_reader() -> None:
    token = b'data: {"token":{"text":"%b"}}\n\n'
    last = b'data: {"token":{"text":"c","special":true},"generated_text":"ab"}\n\n'
    assert reading("text", token % b"a" + b": x\n\n" + token % b"b" + last) == Reading("ab", {"ab"})
    assert reading("text", token % b"a" + b"data: {\n\n" + token % b"b") == Reading("ab", set())
    chat = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\ndata: {}\n\n'
    assert reading("chat", chat) == Reading("a", {"a"})


def test_unzipped_is_all_that_comes_before_the_fault() -> None:
    packed = gzip.compress(b"hello" * 100, mtime=0)
    assert unzipped(packed) == b"hello" * 100
    assert unzipped(packed[:-8] + b"12345678") == b"hello" * 100
    assert unzipped(b"x" + packed) == b""
