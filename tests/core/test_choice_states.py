"""Which choices are open, by indices and finish reasons."""

from __future__ import annotations

import pytest

from hfstream.core.choice_states import ChoiceIndices, ChoiceStates, requested_choices


@pytest.mark.parametrize(
    ("several", "indices", "keys"),
    [
        (False, [0, 1, 2, 0], [0, 0, 0, 0]),
        (False, [1, 1, 1], [1, 1, 1]),
        (False, [1, 2, 3], [1, 1, 1]),  # TGI 1.4
        (False, [5, 6, 5], [5, 5, 5]),
        (False, [1, 0, 1], [1, 1, 1]),
        (True, [1, 2, 1], [1, 2, 1]),
        (True, [2, 0, 1], [2, 0, 1]),
    ],
)
def test_an_index_means_a_choice_only_if_there_are_several(several: bool, indices: list[int], keys: list[int]) -> None:
    found = ChoiceIndices(several=several)
    assert [found.key(index) for index in indices] == keys


@pytest.mark.parametrize(
    ("n", "choices"), [(None, 1), (1, 1), (3, 3), (2.0, 2), ("2", 2), (0, 1), (-1, 1), ("x", 1), ([], 1), (1e999, 1)]
)
def test_how_many_choices_are_asked_for(n: object, choices: int) -> None:
    assert requested_choices(n) == choices


@pytest.mark.parametrize("interleaved", [False, True])
def test_choices_that_have_not_begun_are_waited_for(interleaved: bool) -> None:
    """Some servers generate them one after the other."""
    states = ChoiceStates(2)
    states.add(0, has_content=True)
    if interleaved:
        states.add(1, has_content=True)
    states.finish(0, has_content=False)
    assert not states.all_finished
    states.finish(1, has_content=True)
    assert states.all_finished


@pytest.mark.parametrize(
    ("first", "second", "keys"),
    [
        ({}, {"beside": True}, [0, 1, 1, 0]),
        ({"begins": True}, {"begins": True}, [0, 1, 1, 0]),
        ({"beside": True}, {}, [0, 0, 0, 0]),
    ],
)
def test_more_choices_than_were_asked_for_are_kept(
    first: dict[str, bool], second: dict[str, bool], keys: list[int]
) -> None:
    found = ChoiceIndices()
    assert [found.key(0, **first), found.key(1, **second), found.key(1), found.key(0)] == keys


def test_a_role_with_every_token_begins_no_choice() -> None:
    found = ChoiceIndices()
    assert [found.key(index, begins=True) for index in (1, 2, 3)] == [1, 1, 1], "TGI 1.4, which begins with 1"


@pytest.mark.parametrize(
    ("chunks", "finished"),
    [
        ("", False),
        ("c c", False),
        ("c f", True),
        ("cf", True),  # an answer in one chunk
        ("c f e", True),  # a usage with the same choice
        ("c f e f", True),
        ("cf cf", False),  # a finish in every chunk
        ("cf cf cf", False),
        ("cf cf f", True),
        ("cf c", False),
        ("cf c f", True),
        ("c f c cf", False),
    ],
)
def test_a_finish_before_content_is_none(chunks: str, finished: bool) -> None:
    """c: content, f: a finish reason, cf: both, e: neither."""
    states = ChoiceStates()
    for chunk in chunks.split():
        (states.finish if "f" in chunk else states.add)(0, has_content="c" in chunk)
    assert states.all_finished == finished
